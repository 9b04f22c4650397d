"""Folders whose content a stranger arranges, and their removal, to the last file.

Folders may be nested deeper than a path or Python's stack reaches, or closed to whoever owns them:
what removes a tree by walking down into it fails there, and the disk stays full. Asked only once
the process that wrote is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_OWN: Final = 0o700
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder of one's own, removed in the end, also where a person or the system ends this
    process meanwhile: copies of patients' images may lie in it."""
    with _ended_in_order():
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            yield folder
        finally:
            remove_folder(folder)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """A request to end, or a terminal that is closed, first ends what is under way."""
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield
        return

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    # Whoever handles or ignores one, like a node or `nohup`, goes on to.
    default = [one for one in _ENDING if signal.getsignal(one) is signal.SIG_DFL]
    for one in default:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in default:
            signal.signal(one, signal.SIG_DFL)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it, following no link; nothing where there is none.

    What the file system refuses to give up stays."""
    # Nearly every folder is an ordinary one, and this is the quickest way.
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat(folder).st_mode):
            _remove(folder)


def _remove(folder: Path) -> None:
    os.chmod(folder, _OWN)
    top = os.open(folder, _FOLDER)
    try:
        _emptied(top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _emptied(top: int) -> None:
    """Whatever lies deeper is first moved up: no more than two folders are open at a time."""
    fresh = _free_names(top)
    waiting = _without_files(top)
    while waiting:
        name = waiting.pop()
        with contextlib.suppress(OSError):
            inner = os.open(name, _FOLDER, dir_fd=top)
            try:
                for found in _without_files(inner):
                    moved = next(fresh)
                    os.rename(found, moved, src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(moved)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _without_files(folder: int) -> list[str]:
    """Remove every file of a folder. Returns the names of the folders in it, opened to us."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        with contextlib.suppress(OSError):
            if is_folder:
                os.chmod(name, _OWN, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]


def _free_names(top: int) -> Iterator[str]:
    """Names that nothing in the folder has: neither now nor of what is moved there."""
    taken = set(os.listdir(top))
    return (name for name in map(str, itertools.count()) if name not in taken)
