#!/usr/bin/env bash
# Make .venv with everything the node and its tests need. Run it as often as you like: it does
# nothing while pyproject.toml, constraints.txt, the Python version and the folder are unchanged.
#
# Reads:  PYTHON          the interpreter to use (default: the first of 3.11, 3.12, 3.13 that works)
#         PIP_FIND_LINKS  extra places for wheels, for pip and uv alike
# Needs:  Python 3.11-3.13 with headers, a C compiler, GMP headers (libp2p's fastecdsa is compiled).
#         As root on Debian or Ubuntu missing packages are installed; else the line to run is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/.setup-stamp

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13"
        command -v "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3; do
        if supported "$candidate"; then command -v "$candidate"; return; fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found: install one, or name it: PYTHON=/path/to/python3.11 make setup"
}

fingerprint() {
    { cat pyproject.toml constraints.txt scripts/setup.sh; "$python" -VV; pwd -P; } | sha256sum | cut -d' ' -f1
}

# --- what pip cannot install ----------------------------------------------------------------------

compiler() { command -v "${CC:-cc}" || command -v gcc || command -v clang; }
has_gmp() { printf '#include <gmp.h>\n' | "$(compiler)" -E - >/dev/null 2>&1; }
has_headers() { [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; }
has_venv() { "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; }

missing_packages() {
    local version
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    if ! compiler >/dev/null; then echo build-essential libgmp-dev; elif ! has_gmp; then echo libgmp-dev; fi
    has_headers || echo "$version-dev"
    has_venv || echo "$version-venv"
}

install_packages() {
    local packages=("$@")
    local line="apt-get install -y --no-install-recommends ${packages[*]}"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "system packages are missing. On Debian or Ubuntu run:  sudo $line
       On Fedora:  sudo dnf install gcc gmp-devel python3-devel     Then run this again."
    fi
    say "installing system packages: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Package lists may be fresh enough already, so only the installation itself must succeed.
    apt-get update -qq || say "apt-get update failed; trying with the lists that are here"
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || fail "failed: $line"
}

# --- the virtual environment ----------------------------------------------------------------------

make_venv() {
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 \
        || [ "$("$venv/bin/python" -VV)" != "$("$python" -VV)" ]; then
        say "making $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    say "installing uv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
}

install_project() {
    say "installing the project and its dependencies (about 1.5 GB; 20 s to a few minutes)"
    if [ -n "${PIP_FIND_LINKS:-}" ]; then
        export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}
    fi
    # uv is fast, but was once seen to crash after its work was done: a second run then finds little
    # to do. And it trusts certificates of its own, which a network that opens TLS for inspection
    # does not have: the second run trusts this machine's. pip, slower, has the last word.
    with_uv || {
        say "uv failed; trying once more, with this machine's certificates"
        UV_SYSTEM_CERTS=1 with_uv
    } || {
        say "uv failed again; installing with pip instead, which takes a few minutes"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint constraints.txt --editable '.[dev]'
    }
}

with_uv() {
    "$venv/bin/python" -m uv pip install --python "$venv/bin/python" \
        --constraint constraints.txt --editable '.[dev]' 2>&1 | { grep --line-buffered -v '^ [+~-] ' || true; }
}

python=$(find_python)
wanted=$(fingerprint)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/p2pfl" ]; then
    exit 0
fi

started=$SECONDS
rm -f "$stamp" # a set-up that fails half-way must not look finished
say "using $("$python" -V) at $python"
mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -gt 0 ]; then
    install_packages ${packages[*]}
fi
make_venv
install_project
printf '%s\n' "$wanted" >"$stamp"
say "ready after $((SECONDS - started)) s: $venv/bin/p2pfl --help"
