"""The file that one downloader asks for, chunk after chunk; it stays open in between.

It knows nothing of the network, nor of who may have the file.
"""

import contextlib
import os
from pathlib import Path

_CLOSED = -1
_NOW = getattr(os, "RWF_NOWAIT", None)
"""Linux: read what the kernel has in memory, and wait for no disk."""


class Source:
    """A blob being read, one call at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file = _CLOSED

    def read_now(self, path: Path, offset: int, room: memoryview) -> bool:
        """Fill the room if the file is open and those bytes are in memory: this never waits."""
        if _NOW is None or path != self._path:
            return False
        try:
            return os.preadv(self._file, [room], offset, _NOW) == len(room)
        except OSError:  # it would have to wait, or its file system cannot say
            return False

    def read(self, path: Path, offset: int, room: memoryview) -> int | None:
        """The same, waiting for the disk: for a thread.

        Returns how many bytes there are, fewer at the file's end; None when the file is gone.
        """
        try:
            if path != self._path:
                self.close()
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._path = path
            return os.preadv(self._file, [room], offset)
        except OSError:
            return None

    def close(self) -> None:
        """Let go of the file."""
        if self._file != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file, self._path = _CLOSED, None
