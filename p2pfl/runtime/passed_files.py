"""Files that nobody will read soon: their memory is for the next files.

The kernel keeps what was written or read in memory until memory is short. Memory that was in use a
moment ago costs a tenth of memory that the machine has to find, all the more where a hypervisor
takes back what its guest leaves free for two seconds: so it is given up when the next file needs
it, not before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

FROM_BYTES: Final = 1 << 20
"""Smaller files are not worth a system call."""
FILES_MAX: Final = 64
"""Beyond, the oldest goes at once."""


def forget(path: Path) -> None:
    """Have the kernel give a file's memory up: all that is on disk and not mapped."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


class PassedFiles:
    """Of one disk. Its methods may be called from any thread."""

    def __init__(self, forget: Callable[[Path], None] = forget) -> None:
        self._forget = forget
        self._lock = threading.Lock()
        self._files: deque[tuple[Path, int]] = deque()

    def add(self, path: Path) -> None:
        """The kernel need not keep this file in memory; on disk it stays."""
        with contextlib.suppress(OSError):
            size_bytes = path.stat().st_size
            if size_bytes < FROM_BYTES:
                return
            with self._lock:
                self._files.append((path, size_bytes))
                oldest = self._files.popleft()[0] if len(self._files) > FILES_MAX else None
            if oldest is not None:
                self._forget(oldest)

    def make_room(self, size_bytes: int) -> None:
        """A file of so many bytes is about to be written: have that much memory free for it."""
        if size_bytes < FROM_BYTES:
            return
        freed_bytes = 0
        while freed_bytes < size_bytes:
            with self._lock:
                if not self._files:
                    return
                path, found_bytes = self._files.popleft()
            self._forget(path)
            freed_bytes += found_bytes
