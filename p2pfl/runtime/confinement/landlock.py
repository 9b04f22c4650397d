"""Landlock: the kernel refuses this process every file that is not below a named folder.

By system call, because Python has no binding that knows the network and signal scopes. A ruleset
covers the calling thread and what it starts later: apply it before any library starts threads.
Source: Linux Documentation/userspace-api/landlock.rst; uapi/linux/landlock.h."""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
_TRUNCATE: Final = 1 << 14
_ABI_1: Final = (1 << 13) - 1
_ADDED: Final = {2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}
"""File rights by the version that brought them: refer, truncate, device control."""
_NET_TCP: Final = 0b11
"""Bind and connect, from version 4 on."""
_SCOPED: Final = 0b11
"""Abstract sockets and signals to processes outside, from version 6 on."""
SCOPES_SINCE: Final = 6

READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
"""Libraries are mapped executable; starting programs is seccomp's to forbid."""
WRITE: Final = (
    _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
) | _TRUNCATE
"""What a scratch folder needs: no links, devices, sockets or pipes."""
_FILE_ONLY: Final = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock in this kernel, 0 where there is none or it is switched off."""
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(0, int(found))


def restrict(read: Sequence[Path], write: Sequence[Path]) -> None:
    """From now on only these folders and files can be reached, for reading or for writing.

    No path among them may be missing. The process must have set NO_NEW_PRIVS.
    Raises ConfinementError; then nothing was restricted."""
    version = abi()
    if version == 0:
        raise ConfinementError("this kernel has no Landlock, or it is switched off")
    rights = _ABI_1
    for since, added in _ADDED.items():
        rights |= added if version >= since else 0
    net, scoped = _NET_TCP if version >= 4 else 0, _SCOPED if version >= SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", rights, net, scoped)
    used = 8 if version < 4 else 16 if version < SCOPES_SINCE else 24
    ruleset = _call(_CREATE_RULESET, attributes[:used], ctypes.c_size_t(used), 0)
    try:
        for path in read:
            _allow(ruleset, path, READ & rights)
        for path in write:
            _allow(ruleset, path, WRITE & rights)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        # A link on the way is followed: the caller names folders that are its own.
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ConfinementError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        if not path.is_dir():
            access &= _FILE_ONLY
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", access, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: object) -> int:
    found = int(_libc.syscall(number, *arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise ConfinementError(f"Landlock (system call {number}): {os.strerror(code)}")
    return found
