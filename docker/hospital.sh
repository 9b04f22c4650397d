#!/bin/sh
# What the container does by itself: wait until a person has founded this hospital, then be its node.
#
# It never runs `p2pfl init`: on an empty volume that would make a new identity, and a volume that
# was lost must be noticed by a person. It waits, and says what for.
set -eu

wait_for() { # file, what a person has to do
    [ -e "$1" ] && return
    echo "waiting: $2"
    # The shell must stay able to hear SIGTERM, so the sleep is not in its own way.
    while [ ! -e "$1" ]; do sleep 0.5 & wait $!; done
}

trap 'exit 0' TERM INT
wait_for "$P2PFL_HOME/config.toml" "no home yet; run \`p2pfl init\` in this container"
wait_for "$P2PFL_HOME/roster/current.roster" "no roster in force yet; \`p2pfl roster sign\`, then \`install\`"
exec p2pfl node start
