#!/usr/bin/env bash
# Five hospitals in containers train together: from founding over proposal and approvals to five
# audited ledgers, without a step by hand. Every step is a command that a person would type there.
#
#   scripts/docker_demo.sh [options] [found|study|watch|audit]   no step named: all of them
#
#   --rounds N           rounds with training (default 20)
#   --round-deadline S   how long a round waits for a silent hospital (default 30 s)
#   --limit S            give up when the study has not ended by then (default 900 s)
#   --no-build           use the image that is there
#   --down               remove containers, network and volumes of the demonstration, and stop
#
# Reads what scripts/docker_build.sh reads. Needs a Docker engine and compose, nothing else.
# Ends with 0 if the study is complete everywhere and all audits are clean, else with the worst code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hospitals=(hospital-a hospital-b hospital-c hospital-d hospital-e)
project=p2pfl-demo
rounds=20
deadline=30
limit=900
build=yes
step=all

say() { printf '%s\n' "$*"; }
fail() { printf 'docker-demo: %s\n' "$*" >&2; exit "${code:-1}"; }

while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift ;;
        --round-deadline) deadline=$2; shift ;;
        --limit) limit=$2; shift ;;
        --no-build) build=no ;;
        --down) step=down ;;
        found | study | watch | audit) step=$1 ;;
        *) sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" >&2; exit 64 ;;
    esac
    shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- speaking with containers ---------------------------------------------------------------------

check_engine() {
    command -v docker >/dev/null || fail "there is no \`docker\` command. Install Docker, then run this again."
    docker info >/dev/null 2>&1 || fail "no Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}. Start \
one, then run this again.
Where none is installed (Debian, as root):  eval \"\$(scripts/docker_engine.sh start)\""
    if docker compose version >/dev/null 2>&1; then
        compose_program=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose_program=(docker-compose)
    else
        fail "Docker is here, compose is not. Install the compose plugin (docker-compose-plugin or docker-compose)."
    fi
}

compose() { "${compose_program[@]}" -p "$project" -f docker/compose.yml "$@"; }

at() { docker exec "$1" p2pfl "${@:2}"; } # hospital, words of the command
put() { docker exec -i "$1" sh -c "cat >'$3'" <"$2"; } # hospital, file here, file there
take() { docker exec "$1" cat "$2" >"$3"; } # hospital, file there, file here

shown() { # hospital, words: say what is run, run it, indent what it answers
    say "[$1] \$ p2pfl ${*:2}" | fold -sw 80
    at "$@" >"$work/answer" 2>&1 || { code=$?; cat "$work/answer" >&2; fail "that command failed (exit $code)"; }
    fold -sw 76 "$work/answer" | sed 's/^/    /'
}

quietly() { at "$@" >"$work/$1.answer" 2>&1 || { code=$?; cat "$work/$1.answer" >&2; \
    fail "[$1] \`p2pfl ${*:2}\` failed (exit $code)"; }; }

everywhere() { # words: at all hospitals at once, like five people at five desks
    local hospital started=() one
    for hospital in "${hospitals[@]}"; do quietly "$hospital" "$@" & started+=($!); done
    for one in "${started[@]}"; do wait "$one" || fail "see above"; done
}

until_true() { # seconds, what is waited for, command …
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain until $what"
        sleep 0.5
    done
}

# --- the steps ------------------------------------------------------------------------------------

found() {
    if [ "$build" = yes ]; then scripts/docker_build.sh; fi
    compose down --volumes >/dev/null 2>&1 || true # an earlier demonstration; nothing else has these names
    compose up --detach >"$work/up" 2>&1 || { cat "$work/up" >&2; fail "the containers did not start"; }
    say "Five containers run; each waits for its hospital to be founded."

    local hospital started=() one
    for hospital in "${hospitals[@]}"; do
        quietly "$hospital" init --name "$hospital" --consortium demo \
            --listen 0.0.0.0:7100 --announce "$hospital:7100" & started+=($!)
    done
    for one in "${started[@]}"; do wait "$one" || fail "see above"; done
    say "[each] \$ p2pfl init --name hospital-… --consortium demo --listen 0.0.0.0:7100 --announce hospital-…:7100" | fold -sw 80

    local cards=()
    for hospital in "${hospitals[@]}"; do
        take "$hospital" "/home/p2pfl/site/node/$hospital.card" "$work/$hospital.card"
        put hospital-a "$work/$hospital.card" "/tmp/$hospital.card"
        cards+=("/tmp/$hospital.card")
    done
    shown hospital-a roster create "${cards[@]}" --out /tmp/demo.roster
    take hospital-a /tmp/demo.roster "$work/demo.roster"
    for hospital in "${hospitals[@]}"; do
        put "$hospital" "$work/demo.roster" /tmp/demo.roster
        quietly "$hospital" roster sign /tmp/demo.roster
        take "$hospital" /tmp/demo.roster "$work/demo.roster"
    done
    say "[each] \$ p2pfl roster sign demo.roster"
    for hospital in "${hospitals[@]:0:4}"; do # the last signature put it into force where it was given
        put "$hospital" "$work/demo.roster" /tmp/demo.roster
        quietly "$hospital" roster install /tmp/demo.roster
    done
    say "[each] \$ p2pfl roster install demo.roster      (the node starts by itself)"
    for hospital in "${hospitals[@]}"; do
        until_true 60 "the node of $hospital answers" at "$hospital" node status
    done
    shown hospital-a node status
}

study() {
    local image=${P2PFL_IMAGE:-p2pfl-node} hospital number=0
    say "Making five tables of patients (scikit-learn's breast cancer, unevenly spread) …"
    docker run --rm --network none "$image" sh -c \
        'python -m p2pfl.learning.demo_data --sites 5 --out /tmp/made >/dev/null && tar -C /tmp/made -c .' \
        | tar -x -C "$work"
    for hospital in "${hospitals[@]}"; do
        number=$((number + 1))
        docker exec "$hospital" mkdir -p /home/p2pfl/site/tables
        put "$hospital" "$work/hospital-$number.csv" /home/p2pfl/site/tables/patients.csv
        put "$hospital" "$work/data.toml" /home/p2pfl/site/tables/data.toml
    done
    local column
    column=$(head -n 1 "$work/hospital-1.csv" | cut -d , -f 1)
    everywhere data add tables/patients.csv --name patients --schema tables/data.toml \
        --patient-column "$column" --epsilon-cap 8 --delta 1e-3 \
        --legal-basis demonstration --dpia public-data
    say "[each] \$ p2pfl data add tables/patients.csv --name patients --schema tables/data.toml …" | fold -sw 80

    shown hospital-a study new --data patients --name breast-cancer --out /tmp/study.toml \
        --rounds "$rounds" --round-deadline "$deadline" --epsilon 3 --clip-norm 1.0 --share-max 0.3 \
        --argument learning_rate=1.0 --argument momentum=0.0 --argument local_steps=10
    shown hospital-a study propose /tmp/study.toml
    local id
    id=$(at hospital-a study list --json | grep -oE '[0-9a-f]{64}' | head -n 1)
    for hospital in "${hospitals[@]}"; do
        until_true 60 "the proposal has reached $hospital" at "$hospital" study show "$id"
    done
    say "The proposal has reached all five through the running nodes."
    everywhere study approve "${id:0:12}" --data patients
    say "[each] \$ p2pfl study approve ${id:0:12} --data patients"
}

ended() { # hospital
    docker exec "$1" grep -qE '"event": "study_(complete|left)"' /home/p2pfl/site/node/logs/node.jsonl 2>/dev/null
}

watch() {
    local hospital lines last before="" end=$((SECONDS + limit)) open shown_s=-9
    while :; do
        lines="" open=0
        for hospital in "${hospitals[@]}"; do
            ended "$hospital" || open=$((open + 1))
            last=$(docker logs --tail 1 "$hospital" 2>&1)
            lines+=$(printf '%-11s %.67s' "$hospital" "${last#[0-9][0-9]:[0-9][0-9]:[0-9][0-9]  }")$'\n'
        done
        # Elsewhere than on a terminal one picture in five seconds is enough.
        if [ "$lines" != "$before" ] && { [ -t 1 ] || [ $((SECONDS - shown_s)) -ge 5 ] || [ "$open" = 0 ]; }; then
            if [ -t 1 ] && [ -n "$before" ]; then printf '\033[%dA\033[J' "${#hospitals[@]}"; fi
            printf '%s' "$lines"
            [ -t 1 ] || say
            before=$lines shown_s=$SECONDS
        fi
        [ "$open" -gt 0 ] || break
        [ "$SECONDS" -lt "$end" ] || fail "the study has not ended everywhere within $limit s"
        sleep 1
    done
}

audit() {
    local hospital worst=0 exit_code
    say "Auditing five ledgers, computing every average again …"
    for hospital in "${hospitals[@]}"; do
        exit_code=0
        at "$hospital" ledger audit >"$work/audit" 2>&1 || exit_code=$?
        # The verdict is the report's first paragraph; a refusal has no report.
        printf '%-11s exit %d\n    %s\n' "$hospital" "$exit_code" \
            "$({ sed -n '3,/^$/p' "$work/audit"; sed -n 1,2p "$work/audit"; } | head -n 2 | sed '2s/^/    /')"
        [ "$exit_code" -le "$worst" ] || worst=$exit_code
        if ! docker exec "$hospital" grep -q '"event": "study_complete"' \
            /home/p2pfl/site/node/logs/node.jsonl; then
            say "            did not complete the study: $(docker logs --tail 1 "$hospital" 2>&1)"
            [ "$worst" != 0 ] || worst=1
        fi
    done
    return "$worst"
}

check_engine
started=$SECONDS
case $step in
    down) compose down --volumes --remove-orphans; exit ;;
    all) found; study; watch; code=0; audit || code=$? ;;
    audit) code=0; audit || code=$? ;;
    *) "$step"; exit ;;
esac
say
say "$((SECONDS - started)) s in all. The five nodes go on running; look around, for example:"
say "  docker exec hospital-a p2pfl privacy status"
say "  docker exec hospital-a p2pfl ledger show"
say "  scripts/docker_demo.sh --down      removes containers, network and volumes"
exit "$code"
