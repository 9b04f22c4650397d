#!/usr/bin/env bash
# Build the node's image from this checkout.
#
#   scripts/docker_build.sh                  the image
#   scripts/docker_build.sh --dependencies   only what is downloaded and compiled for it, as
#                                            IMAGE-dependencies; the image is then a matter of seconds
#
# Reads:  P2PFL_IMAGE           the name it gets (default: p2pfl-node)
#         PYTHON_IMAGE          base of both stages (default: the Dockerfile's python:3.11-slim)
#         BUILDER_IMAGE         base of the compiling stage alone, if that one is special
#         PIP_INDEX_URL         given to pip in the build
#         PIP_EXTRA_INDEX_URL   the same; where nothing else offers torch's CPU build, its index
#         PIP_FIND_LINKS        a folder: wheels of torch in it are taken before any index is asked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=${P2PFL_IMAGE:-p2pfl-node}
wheels=docker/wheels

target=()
case "${1:-}" in
    '') ;;
    --dependencies) target=(--target dependencies) image=$image-dependencies ;;
    *) sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" >&2; exit 64 ;;
esac

say() { printf 'docker: %s\n' "$*"; }
fail() { printf 'docker: %s\n' "$*" >&2; exit 1; }

docker info >/dev/null 2>&1 || fail "no Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}. Start one, \
then run this again.
        Where none is installed (Debian, as root):  eval \"\$(scripts/docker_engine.sh start)\""

has_torch_wheel() { compgen -G "$1/torch-*.whl" >/dev/null; }

if ! has_torch_wheel "$wheels" && [ -d "${PIP_FIND_LINKS:-}" ] && has_torch_wheel "$PIP_FIND_LINKS"; then
    say "taking torch from $PIP_FIND_LINKS"
    cp --link "$PIP_FIND_LINKS"/torch-*.whl "$wheels/" 2>/dev/null \
        || cp "$PIP_FIND_LINKS"/torch-*.whl "$wheels/"
fi
if ! has_torch_wheel "$wheels" && [ -z "${PIP_EXTRA_INDEX_URL:-}" ]; then
    # The ordinary index offers torch with 5 GB of CUDA for x86-64; a hospital's node needs none.
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
    export PIP_EXTRA_INDEX_URL
fi

arguments=()
for name in PYTHON_IMAGE BUILDER_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    if [ -n "${!name:-}" ]; then arguments+=(--build-arg "$name=${!name}"); fi
done

say "building $image (the first time some 800 MB are downloaded; 3 to 10 minutes)"
started=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The builder's own chatter is kept for the case that something fails.
docker build --network host --file docker/Dockerfile --tag "$image" "${target[@]}" "${arguments[@]}" . 2>&1 \
    | tee "$log" | { grep --line-buffered -oE '^(Step [0-9]+/[0-9]+|#[0-9]+ \[[^]]*\]) .{0,60}' || true; } \
    || { tail -n 40 "$log" >&2; fail "the image could not be built; the end of its log is above"; }
size=$(docker image inspect --format '{{.Size}}' "$image")
say "$image is ready after $((SECONDS - started)) s, $((size / 1000000)) MB"
