"""What code a round was trained with, as a hash for the ledger.

Two sites with the same release get it alike.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import p2pfl

_PARTS: Final = ("learning", "privacy")


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
