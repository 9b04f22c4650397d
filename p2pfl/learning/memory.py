"""Memory of the training process between rounds: kept, where it is small and needed again soon.

The C library gives every large block back to the kernel as soon as it is free, and gets it back
page by page in the next round. For a wide table model that is half of a round's processor time.
"""

from __future__ import annotations

from typing import Final

from p2pfl.core.manifest_terms import Manifest
from p2pfl.runtime.own_memory import set_malloc

PARAMETERS_MAX: Final = 16_000_000
"""Larger models give everything back: blocks of another size would not fit into the gaps."""
KEPT_BYTES_MAX: Final = 512 * 1024 * 1024
"""Of free memory at the heap's end."""

# glibc's malloc.h
_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4


def is_kept(manifest: Manifest) -> bool:
    """Whether a study's rounds need the same blocks again: tables and a model that is not huge."""
    return manifest.data.images is None and manifest.study.parameters <= PARAMETERS_MAX


def keep_memory() -> None:
    """Let this process keep freed memory for its next round; nothing where libc cannot (musl)."""
    set_malloc(_MMAP_MAX, 0)
    set_malloc(_TRIM_THRESHOLD, KEPT_BYTES_MAX)
