#!/usr/bin/env bash
# A Docker engine of our own, for machines where none runs (Debian or Ubuntu, as root).
#
#   eval "$(scripts/docker_engine.sh start)"    install if missing, start, make a base image if none
#                                               can be pulled; prints what to export
#   scripts/docker_engine.sh stop               end the engine that `start` started
#
# Reads:  P2PFL_DOCKER_DIR   engine, images and base system are kept here
#                            (default: /var/cache/p2pfl-docker; about 6 GB)
# An engine that answers already is used as it is. No firewall rule and no bridge of the machine is
# touched: containers reach each other, and the outside only while an image is built (host network).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${P2PFL_DOCKER_DIR:-/var/cache/p2pfl-docker}
engine=$folder/engine
socket=unix://$engine/docker.sock
base=p2pfl-local/python:3.11-slim
builder=p2pfl-local/python-builder:3.11-slim
suite=bookworm # its Python is 3.11
PULL_S=120
DEBOOTSTRAP_S=1200
STOP_S=30

say() { printf 'docker: %s\n' "$*" >&2; }
fail() { printf 'docker: %s\n' "$*" >&2; exit 1; }

install_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || missing+=(docker-compose)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    [ "${#missing[@]}" -gt 0 ] || return 0
    local line="apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "no Docker engine answers, and these packages are missing: ${missing[*]}
        Install and start Docker, or run this as root on Debian or Ubuntu ($line)."
    fi
    say "installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are here"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || fail "failed: $line"
}

start_engine() {
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers; only root can start one"
    mkdir -p "$engine"
    running_pid >/dev/null || rm -f "$engine/pid"
    say "starting an engine in $engine"
    # setsid: Ctrl-C at the demonstration is not meant for the engine.
    setsid dockerd --data-root "$engine/data" --exec-root "$engine/exec" --host "$socket" \
        --pidfile "$engine/pid" --exec-opt native.cgroupdriver=cgroupfs \
        --iptables=false --ip6tables=false --ip-forward=false --bridge=none \
        >"$engine/log" 2>&1 </dev/null &
    local _
    for _ in $(seq 120); do
        if docker info >/dev/null 2>&1; then return; fi
        kill -0 $! 2>/dev/null || fail "the engine ended; its log is $engine/log"
        sleep 0.5
    done
    fail "the engine does not answer after 60 s; its log is $engine/log"
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

make_base() {
    local rootfs=$folder/rootfs
    if [ ! -e "$rootfs/.complete" ]; then
        say "making a base system with Python 3.11 in $rootfs (about a minute)"
        rm -rf "$rootfs"
        mkdir -p "$rootfs"
        timeout "$DEBOOTSTRAP_S" debootstrap --variant=minbase --include=python3,ca-certificates \
            "$suite" "$rootfs" >"$folder/debootstrap.log" 2>&1 \
            || fail "debootstrap failed or took over $DEBOOTSTRAP_S s; its log is $folder/debootstrap.log"
        rm -rf "$rootfs"/var/cache/apt/*.bin "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
        touch "$rootfs/.complete"
    fi
    say "importing $base"
    tar -C "$rootfs" --exclude=./.complete -c . | docker import - "$base" >/dev/null
}

make_builder() {
    # This machine's certificates belong into the compiling stage alone; never push this image.
    local context certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
    context=$(mktemp -d)
    cp "$certificates" "$context/certificates.crt"
    cat >"$context/Dockerfile" <<END
FROM $base
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
END
    docker build --quiet --tag "$builder" "$context" >/dev/null || fail "$builder could not be made"
    rm -rf "$context"
}

start() {
    if ! docker info >/dev/null 2>&1; then
        install_packages
        export DOCKER_HOST=$socket
        docker info >/dev/null 2>&1 || start_engine
        echo "export DOCKER_HOST=$socket"
    fi
    if [ -n "${PYTHON_IMAGE:-}" ] || has_image python:3.11-slim; then return; fi
    if ! has_image "$base" && timeout "$PULL_S" docker pull --quiet python:3.11-slim >/dev/null 2>&1; then return; fi
    command -v debootstrap >/dev/null || install_packages
    has_image "$base" || make_base
    has_image "$builder" || make_builder
    echo "export PYTHON_IMAGE=$base BUILDER_IMAGE=$builder"
}

# The process of our engine. A machine that was switched off leaves the file of an engine behind, and
# its number may be anybody's by now.
running_pid() {
    local pid
    pid=$(cat "$engine/pid" 2>/dev/null) || return 1
    grep -qx dockerd "/proc/$pid/comm" 2>/dev/null && echo "$pid"
}

stop() {
    local pid waited=0
    pid=$(running_pid) || { say "no engine of ours runs"; return; }
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        waited=$((waited + 1))
        [ "$waited" -ne $((STOP_S * 5)) ] || { say "it does not end in $STOP_S s, and is killed"; kill -9 "$pid"; }
    done
    say "the engine has stopped; images stay in $folder"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0"; exit 64 ;;
esac
