"""What the node asks of the system for its own memory.

Closed to others of its user: keys and patients' counts lie in it. And not spread: the C library
gives each thread memory of its own to take from, and what one thread let go no other one takes.
Sources: prctl(2) on PR_SET_DUMPABLE; ptrace(2) on access checks; mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_ARENA_MAX: Final = -8  # glibc's malloc.h
ARENAS: Final = 2
"""A node runs on a dozen threads, of which Python lets one at a time do most of the work."""


def close_own_memory() -> None:
    """No other process of this user reads, traces or writes it, and no crash leaves it on the disk.

    Programs that this one starts are not concerned. Nothing is done elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def share_own_memory() -> None:
    """Let threads that start from now on take memory from the same few places.

    In ten nodes' chaos each node's threads held 2 MB apart at first and 16 MB after a quarter of
    an hour."""
    set_malloc(_ARENA_MAX, ARENAS)


def set_malloc(option: int, value: int) -> None:
    """Set an option of the C library's memory, for good; nothing where it has none (musl).

    option: its number in glibc's malloc.h."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(option, value)
