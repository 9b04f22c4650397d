"""Nobody's code runs as root: where the node does, its confined processes become another user.

The user is one that owns nothing and nobody else runs as: the account `p2pfl-training` where the
machine has one, otherwise a free number from the range that systemd keeps for such users. The node
picks it; the child becomes it before any library is loaded, and checks that it did.

Source: capabilities(7) on changes of user; setresuid(2); systemd.exec(5) on DynamicUser.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement import capabilities
from p2pfl.runtime.confinement.errors import ConfinementError

ACCOUNT: Final = "p2pfl-training"
FREE: Final = range(61_184, 65_520)
"""systemd's numbers for users that exist as long as something runs as them."""
SAMPLE: Final = 8
_PROC: Final = Path("/proc")
_AS_ORDINARY: Final = "Run the node as an ordinary user."


@functools.cache
def user_here() -> int | None:
    """The user and group that confined processes of this one become; None: they stay who they are.

    Always the same within a process. Raises ConfinementError for a root who cannot become anybody
    else."""
    if os.geteuid() != 0:
        return None
    lacking = capabilities.lacking(capabilities.FOR_ANOTHER_USER)
    if lacking:
        raise ConfinementError(
            f"this node runs as root, but without {', '.join(lacking)}, so that training would run "
            f"as root, too. {_AS_ORDINARY}"
        )
    for number in _candidates():
        if _is_mapped(number):
            return number
    raise ConfinementError(
        f"this node runs as root, and there is no other user training could run as. {_AS_ORDINARY}"
    )


def _candidates() -> Iterator[int]:
    with contextlib.suppress(KeyError):
        account = pwd.getpwnam(ACCOUNT).pw_uid
        if account != 0:
            yield account
    running = _running()
    # Two nodes of one machine begin at different numbers.
    for step in range(len(FREE)):
        number = FREE[(os.getpid() + step) % len(FREE)]
        if number not in running and not _is_somebody(number):
            yield number


def _running() -> set[int]:
    found = set()
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended
                found.add(entry.stat().st_uid)
    return found


def _is_somebody(number: int) -> bool:
    for look in (pwd.getpwuid, grp.getgrgid):
        try:
            look(number)
        except KeyError:
            continue
        return True
    return False


def _is_mapped(number: int, table: str = "uid_map") -> bool:
    """Whether this user namespace knows the number: a container may know root alone.

    >>> _is_mapped(0)
    True
    """
    lines = (_PROC / "self" / table).read_text("ascii").splitlines()
    ranges = [tuple(map(int, line.split())) for line in lines]
    known = any(first <= number < first + count for first, _, count in ranges)
    return known and (table == "gid_map" or _is_mapped(number, "gid_map"))


def become(user: int, own: Sequence[Path]) -> None:
    """Be this user, in this group and no other, for good. own: folders that it gets.

    Afterwards this process has the powers it had, but none of them in force: see
    `capabilities.keep`. Raises ConfinementError."""
    try:
        for path in own:
            _give(path, user)
        capabilities.drop_bounding()
        with capabilities.kept_over_a_change_of_user():
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
    except OSError as error:
        raise ConfinementError(f"user {user}: {error.strerror}. {_AS_ORDINARY}") from error
    if (*os.getresuid(), *os.getresgid(), *os.getgroups()) != (user,) * 6:
        raise ConfinementError(f"this process did not become user {user}. {_AS_ORDINARY}")


def _give(path: Path, user: int) -> None:
    """A folder and what is in it. Devices stay as they are, and so does a file of two names."""
    if not path.is_dir():
        return
    _chown(path, user)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            _chown(Path(folder, name), user)


def _chown(path: Path, user: int) -> None:
    found = os.lstat(path)
    one_name = stat.S_ISDIR(found.st_mode) or found.st_nlink == 1
    if (found.st_uid, found.st_gid) != (user, user) and one_name:
        os.chown(path, user, user, follow_symlinks=False)


def unreadable(paths: Sequence[Path]) -> Path | None:
    """The first of these that this process, as it is now, cannot read; None if it can read all.

    Of a folder, a few entries are tried: one file that is somebody's own is like the others."""
    return next((one for path in paths for one in _with_sample(path) if not _readable(one)), None)


def _with_sample(path: Path) -> Iterator[Path]:
    yield path
    if _readable(path) and path.is_dir():
        with os.scandir(path) as entries:
            for _, entry in zip(range(SAMPLE), entries, strict=False):
                if entry.is_file() or entry.is_dir():
                    yield Path(entry.path)


def _readable(path: Path) -> bool:
    try:
        mode = os.R_OK | (os.X_OK if path.is_dir() else 0)
    except OSError:  # a folder on the way is closed
        return False
    return os.access(path, mode, effective_ids=True)
