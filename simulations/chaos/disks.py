"""A small file system of its own per home, which can be made full and emptied again. Root only.

tmpfs grows and shrinks while it is mounted: full means that its size is what is used now."""

import contextlib
import subprocess
from pathlib import Path
from typing import Final

SIZE: Final = "4g"
"""As shown to the node, which keeps mirrors of others' ledgers only while 2 GiB are free. Memory is
used by what is written alone."""

_TRIES: Final = 20


class Disk:
    """The disk under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder))

    def fill(self) -> None:
        """From now on there is no room for another byte."""
        for _ in range(_TRIES - 1):
            # The node goes on writing: the size may be less than what is used by now.
            with contextlib.suppress(subprocess.CalledProcessError):
                self._resize(f"{_kilobytes_used(self.folder)}k")
                return
        self._resize(f"{_kilobytes_used(self.folder)}k")

    def free(self) -> None:
        """There is room again."""
        self._resize(SIZE)

    def _resize(self, size: str) -> None:
        _mount("-o", f"remount,size={size}", str(self.folder))

    def remove(self) -> None:
        """Unmount it; what was on it is gone."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("umount", "--lazy", str(self.folder))


def _kilobytes_used(folder: Path) -> int:
    said = _run("df", "--output=used", "-B1024", str(folder))
    return max(1, int(said.split()[-1]))


def _mount(*words: str) -> None:
    _run("mount", *words)


def _run(*words: str) -> str:
    # Fixed words and folders of our own; root's PATH finds the programs.
    done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout
