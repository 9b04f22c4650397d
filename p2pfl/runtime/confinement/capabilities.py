"""Giving up the powers of root, for nodes that are run as root.

One is kept: reading files whatever their owner, for a dataset may belong to somebody else than the
node does; which files those are, Landlock says. Without privileges from the start there is nothing
to give up, and nothing is done.

Source: capabilities(7), capset(2).
"""

import ctypes
import errno
import os
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError

KEPT: Final = 2
"""CAP_DAC_READ_SEARCH."""
_VERSION_3: Final = 0x20080522
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


def give_up() -> None:
    """Keep at most the one capability, for good. Raises ConfinementError."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = _Header(_VERSION_3, 0), (_Sets * 2)()
    _check(libc.capget(ctypes.byref(header), held), "capget")
    if not any((one.permitted, one.inheritable) != (0, 0) for one in held):
        return
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(_CAPABILITIES_MAX):
        # EINVAL: the kernel knows no more of them; EPERM: this process may not, and needs not,
        # for NO_NEW_PRIVS keeps programs from giving any of them back.
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and ctypes.get_errno() in (
            errno.EINVAL,
            errno.EPERM,
        ):
            break
    kept = held[0].permitted & (1 << KEPT)
    wanted = (_Sets * 2)(_Sets(kept, kept, 0), _Sets(0, 0, 0))
    _check(libc.capset(ctypes.byref(header), wanted), "capset")


def _check(result: int, call: str) -> None:
    if result != 0:
        raise ConfinementError(f"{call}: {os.strerror(ctypes.get_errno())}")
