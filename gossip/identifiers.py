"""Names of sites and of bytes: 32 raw bytes each; hex only at the edge (CLI, JSON, logs)."""

import hashlib
from typing import NewType

SiteId = NewType("SiteId", bytes)
"""SHA-256 of a site's identity public key."""

Digest = NewType("Digest", bytes)
"""SHA-256 of some bytes."""

ID_BYTES = 32
NO_DIGEST = Digest(bytes(ID_BYTES))
"""Stands for "nothing before this", as in the first roster."""


def digest_of(data: bytes) -> Digest:
    """Plain SHA-256, so that `sha256sum` says the same."""
    return Digest(hashlib.sha256(data).digest())


def site_id_of(identity_pk: bytes) -> SiteId:
    """The name that a site's identity key gives it."""
    return SiteId(hashlib.sha256(identity_pk).digest())


def fingerprint(site: SiteId) -> str:
    """The first 128 bits of a site's name in groups of four hex digits, to compare by telephone.

    >>> fingerprint(SiteId(bytes(32)))
    '0000 0000 0000 0000 0000 0000 0000 0000'
    """
    digits = site[:16].hex()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
