"""Giving up the powers of root, for nodes that are run as root.

One may be kept: reading files whatever their owner, for a dataset may belong to somebody else than
the process; which files those are, Landlock says. Without privileges from the start there is
nothing to give up, and nothing is done.

Source: capabilities(7), capset(2).
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError

READING: Final = 2
"""CAP_DAC_READ_SEARCH."""
FOR_ANOTHER_USER: Final = {"CAP_CHOWN": 0, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What a root needs to have something run as somebody else."""
_VERSION_3: Final = 0x20080522
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITIES_MAX: Final = 64


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def lacking(wanted: Mapping[str, int]) -> tuple[str, ...]:
    """Names of those that this process does not have. Raises ConfinementError."""
    held = _held()[0].effective
    return tuple(name for name, number in wanted.items() if not held & (1 << number))


def has_any() -> bool:
    """Whether this process has, or could take, any. Raises ConfinementError."""
    return any((one.permitted, one.inheritable) != (0, 0) for one in _held())


def may_read_all() -> bool:
    """Whether the one that may be kept is here to be kept. Raises ConfinementError."""
    return bool(_held()[0].permitted & (1 << READING))


@contextlib.contextmanager
def kept_over_a_change_of_user() -> Iterator[None]:
    """A change of user takes away every capability, but for those a process asks to keep."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)


def drop_bounding() -> None:
    """Whatever this process or its children start can never have any."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(_CAPABILITIES_MAX):
        # EINVAL: the kernel knows no more of them; EPERM: this process may not, and needs not,
        # for NO_NEW_PRIVS keeps programs from giving any of them back.
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and ctypes.get_errno() in (
            errno.EINVAL,
            errno.EPERM,
        ):
            break


def keep_none() -> None:
    """Give up every capability, for good. Raises ConfinementError."""
    _keep(0)


def keep_reading() -> None:
    """Keep the one, in force, and give up the others for good. Raises ConfinementError."""
    _keep(1 << READING)


def _keep(mask: int) -> None:
    held = _held()
    if not any((one.permitted, one.inheritable) != (0, 0) for one in held):
        return
    drop_bounding()
    libc = ctypes.CDLL(None, use_errno=True)
    kept = held[0].permitted & mask
    wanted = (_Sets * 2)(_Sets(kept, kept, 0), _Sets(0, 0, 0))
    _check(libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), wanted), "capset")


def _held() -> "ctypes.Array[_Sets]":
    libc = ctypes.CDLL(None, use_errno=True)
    held = (_Sets * 2)()
    _check(libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), held), "capget")
    return held


def _check(result: int, call: str) -> None:
    if result != 0:
        raise ConfinementError(f"{call}: {os.strerror(ctypes.get_errno())}")
