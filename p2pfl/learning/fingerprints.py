"""What code and which libraries a round was trained with, as two hashes for the ledger.

Responsible for hashes that two sites with the same release and the same libraries get alike.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import p2pfl

_PARTS: Final = ("learning", "privacy")
_LIBRARIES: Final = ("torch", "numpy", "opacus")


def code_hash() -> bytes:
    """SHA-256 over the sources of p2pfl.learning and p2pfl.privacy as they are installed.

    Of every .py file, sorted by path: path below p2pfl, a zero byte, SHA-256 of the content.
    """
    root = Path(p2pfl.__file__).parent
    files = sorted(
        (file.relative_to(root).as_posix(), file)
        for part in _PARTS
        for file in (root / part).rglob("*.py")
    )
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def environment() -> dict[str, str]:
    """The versions that numbers depend on."""
    found = {"machine": platform.machine(), "python": platform.python_version()}
    for library in _LIBRARIES:
        found[library] = version(library)
    return found


def env_hash() -> bytes:
    """SHA-256 over `environment()` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(environment(), sort_keys=True).encode()).digest()
