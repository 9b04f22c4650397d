#!/bin/sh
# Founds five hospitals and takes them from a proposal to five audits, without a step by hand: the
# one-shot container of the compose profile `demo`. Never a part of a real consortium: it stands in
# for five people at five desks, and holds all five homes to do so.
#
# Each hospital's volume is at /sites/NAME here, and at /home/p2pfl/site in its own container. Once
# the nodes run, commands go through their control sockets, so paths are those of the hospital.
# Ends with 0 if the study is complete and all audits are clean, else with the first failing code.
set -eu

hospitals="hospital-a hospital-b hospital-c hospital-d hospital-e"
rounds=${DEMO_ROUNDS:-20}
there=/home/p2pfl/site

at() { # hospital, words of the command
    hospital=$1
    shift
    p2pfl --home "/sites/$hospital/node" "$@"
}

shown() { # the same, said aloud
    hospital=$1
    shift
    printf '\n[%s] $ p2pfl %s\n' "$hospital" "$*" | fold -sw 80
    at "$hospital" "$@"
}

waiting_for() { # what, command …
    what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 120 ]; then
            echo "founder: waited in vain for $what; the last answer was:" >&2
            "$@" >&2
            exit 1
        fi
        sleep 0.5
    done
}

for one in $hospitals; do
    if [ -e "/sites/$one/node" ]; then
        echo "founder: $one was founded before. Remove the demonstration with" >&2
        echo "         docker compose -p p2pfl-demo -f docker/compose.yml --profile demo down -v" >&2
        exit 1
    fi
done

echo "Five hospitals, each a container with its own volume. Each makes its home:"
for one in $hospitals; do
    at "$one" init --name "$one" --consortium demo --listen 0.0.0.0:7100 --announce "$one:7100" \
        >/tmp/said
    sed -n 's/^fingerprint *//p' /tmp/said | sed "s/^/  $one  /"
    cp "/sites/$one/node/$one.card" /tmp/
done

shown hospital-a roster create /tmp/*.card --out /tmp/demo.roster
for one in $hospitals; do at "$one" roster sign /tmp/demo.roster >/tmp/said; done
for one in $hospitals; do
    # The last signature put the roster into force where it was given.
    [ "$one" = hospital-e ] || at "$one" roster install /tmp/demo.roster >/tmp/said
done
echo "All five have signed and installed it; their nodes start by themselves."
for one in $hospitals; do waiting_for "the node of $one" at "$one" node status; done

printf '\nEach registers its patients (breast cancer of scikit-learn, unevenly spread):\n'
python -m p2pfl.learning.demo_data --sites 5 --out /tmp/made >/dev/null
number=0
for one in $hospitals; do
    number=$((number + 1))
    mkdir "/sites/$one/tables"
    cp "/tmp/made/hospital-$number.csv" "/sites/$one/tables/patients.csv"
    cp /tmp/made/data.toml "/sites/$one/tables/data.toml"
    at "$one" data add $there/tables/patients.csv --name patients --patient-column patient \
        --schema $there/tables/data.toml --epsilon-cap 8 --delta 1e-3 \
        --legal-basis demonstration --dpia public-data >/tmp/said
done
shown hospital-a data list

shown hospital-a study new --data patients --name breast-cancer \
    --out /sites/hospital-a/breast-cancer.toml --rounds "$rounds" --epsilon 3 --clip-norm 1 \
    --share-max 0.3 --argument learning_rate=1.0 --argument local_steps=10
shown hospital-a study propose $there/breast-cancer.toml
study=$(sha256sum /sites/hospital-a/breast-cancer.toml | cut -c 1-12)
for one in $hospitals; do
    waiting_for "the proposal at $one" at "$one" study show "$study"
    at "$one" study approve "$study" --data patients >/tmp/said
done
echo "The proposal has reached all five through their nodes, and each has approved it."

for one in $hospitals; do
    if [ "$one" = hospital-a ]; then
        shown "$one" study watch "$study"
    else
        at "$one" study watch "$study" >/tmp/said
    fi
done

for one in $hospitals; do
    printf '\n[%s] $ p2pfl ledger audit\n' "$one"
    at "$one" ledger audit >/tmp/said || { code=$?; cat /tmp/said; exit "$code"; }
    sed -n '3,/^$/p' /tmp/said
done
echo "The study is complete at all five hospitals, and every audit is clean."
