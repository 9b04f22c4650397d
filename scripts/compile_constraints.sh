#!/usr/bin/env bash
# Pin every dependency in constraints.txt to what resolves today: run it after changing pyproject.toml.
# The file holds names and versions alone: no index, no path, no "+cpu", so that it fits any machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "${PIP_FIND_LINKS:-}" ]; then
    export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}
fi
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
.venv/bin/python -m uv pip compile --quiet --python-version 3.11 --all-extras \
    --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
    pyproject.toml --output-file "$fresh"
# CPU builds carry a local version that other machines cannot find; CUDA's own wheels come with torch.
sed -e 's/+cpu$//' -e '/^\(nvidia-\|triton\|cuda-\)/d' "$fresh" >constraints.txt
printf 'constraints.txt: %s packages pinned\n' "$(wc -l <constraints.txt)"
