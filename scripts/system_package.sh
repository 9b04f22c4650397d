#!/usr/bin/env bash
# Make sure that a command is there, from the system's packages (Debian or Ubuntu, as root).
#
#   scripts/system_package.sh COMMAND PACKAGE...
#
# Does nothing where the command is found. Where it may not install, it says what to type: exit 1.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" >&2; exit 64; }
program=$1
shift
command -v "$program" >/dev/null && exit 0

line="apt-get install -y --no-install-recommends $*"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "there is no \`$program\` command. On Debian or Ubuntu run:  sudo $line" >&2
    exit 1
fi
echo "installing system packages: $*"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null 2>&1 || echo "apt-get update failed; trying with the lists that are here"
apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || { echo "failed: $line" >&2; exit 1; }
command -v "$program" >/dev/null
