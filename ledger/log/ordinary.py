"""Refusing what is no ordinary file before it is opened: a pipe or a device would never end.

Responsible for: looking, whoever put it there.
Must not know: what the files hold.
"""

import stat
from pathlib import Path

from ledger.log.errors import StoreError


class NotAnOrdinaryFile(StoreError):
    rule = "a ledger's files are ordinary files"
    next_step = (
        "Look at what is in its place (`ls -l`), move it away, then `p2pfl ledger recover` "
        "or restore the file."
    )


def require_ordinary(*paths: Path) -> None:
    """Raises NotAnOrdinaryFile for a pipe, a device or a folder; links are followed.

    What is not there, or leads nowhere, is for whoever opens it to say."""
    for path in paths:
        if _mode(path) not in (0, stat.S_IFREG):
            raise NotAnOrdinaryFile(str(path))


def require_no_trap(*paths: Path) -> None:
    """Raises NotAnOrdinaryFile for what would keep a reader waiting: a pipe or a device.

    For side files, whose place a folder may take: SQLite then reads without them."""
    for path in paths:
        if _mode(path) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise NotAnOrdinaryFile(str(path))


def _mode(path: Path) -> int:
    """The kind of file; 0 where there is none."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return 0
