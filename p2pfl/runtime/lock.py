"""The lock of a home: one process changes it at a time, and the others are told who."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from p2pfl.runtime.errors import EXIT_IO, EXIT_LOCKED, OperatorError
from p2pfl.runtime.home import Home

SPACE_BYTES_MIN: Final = 64 << 10
"""With less, the ledger could not even say that it has no room."""


@contextmanager
def hold_home(home: Home, *, purpose: str) -> Iterator[None]:
    """Hold the home's lock inside the `with` block.

    purpose: shown to whoever finds the lock held, like "node start". The kernel drops the lock
    with the process, so a kill leaves nothing behind. Raises OperatorError if somebody holds it.
    """
    try:
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(
            f"{home.path} cannot be written: {error.strerror}.",
            fix="Check the owner and permissions of the home and that its disk is writable.",
            exit_code=EXIT_IO,
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"The home {home.path} is in use by {_holder(descriptor)}.",
                fix="Wait for it to end, or stop it; every home has one process that changes it.",
                exit_code=EXIT_LOCKED,
            ) from None
        _check_space(home)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _check_space(home: Home) -> None:
    disk = os.statvfs(home.path)
    free_bytes = disk.f_bavail * disk.f_frsize
    # Some file systems have no size at all.
    if disk.f_blocks and free_bytes < SPACE_BYTES_MIN:
        raise OperatorError(
            f"The disk of {home.path} is full: {free_bytes} bytes are free.",
            fix="Free disk space, then run the command again; nothing was changed.",
            exit_code=EXIT_IO,
        )


def _holder(descriptor: int) -> str:
    pid, _, purpose = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip().partition(" ")
    return f"`p2pfl {purpose}` (process {pid})" if pid.isdigit() else "another process"
