"""Closing this process's memory to others of its user: keys and patients' counts lie in it.

Source: prctl(2) on PR_SET_DUMPABLE; ptrace(2) on access checks.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def close_own_memory() -> None:
    """No other process of this user reads, traces or writes it, and no crash leaves it on the disk.

    Programs that this one starts are not concerned. Nothing is done elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
