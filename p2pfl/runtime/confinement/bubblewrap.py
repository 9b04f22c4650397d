"""A confined process in namespaces of its own: what it does not need is not even there.

bubblewrap starts it with its own processes, network, host name, shared memory and tree of files, in
which nothing is but what its terms name. The layers that the process puts over itself stay; a hole
in one of them leads into an empty room. As an ordinary user bubblewrap needs user namespaces; as
root it needs none, and keeps what the change of user takes (`ordinary_user`).

Source: bwrap(1).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDERS: Final = "/usr/local/bin:/usr/bin:/bin"
"""Where it is looked for: never where a user's own PATH leads."""
ABSENT: Final = "bubblewrap is not installed"
TRY_S: Final = 20.0
LINKS_MAX: Final = 40
_ALL: Final = ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
_AS_USER: Final = ("--unshare-all", "--unshare-user", "--disable-userns")
_AS_ROOT: Final = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_CHOWN"),
    *("--cap-add", "CAP_DAC_READ_SEARCH", "--cap-add", "CAP_SETPCAP"),
)
"""What it takes to become another user for good, to give it its folders, to open files for it."""
_ITS_OWN: Final = (Path("/proc"), Path("/dev"))
"""Made new for each process, so that nothing of the machine's is mounted there."""


@dataclass(frozen=True, slots=True)
class Found:
    """program: bubblewrap that works here, or None with the reason."""

    program: str | None
    reason: str = ""


def found_here(user: int | None, read: Sequence[Path]) -> Found:
    """Whether it is installed and starts a Python with these files; tried once in a process.

    user: whom the process is to become, None for an ordinary user's node."""
    return _found(user, tuple(read), shutil.which("bwrap", path=FOLDERS))


@functools.cache
def _found(user: int | None, read: tuple[Path, ...], program: str | None) -> Found:
    if program is None:
        return Found(None, ABSENT)
    wrapped = command(program, user, read, (), (sys.executable, "-S", "-c", ""), {})
    try:
        done = subprocess.run(  # noqa: S603 - a program of the system's and our interpreter
            wrapped,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRY_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(None, f"bubblewrap does not work here: {error}")
    if done.returncode == 0:
        return Found(program)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return Found(None, f"bubblewrap does not work here: {said[-1] if said else done.returncode}")


def command(
    program: str,
    user: int | None,
    read: Sequence[Path],
    write: Sequence[Path],
    started: Sequence[str],
    environment: Mapping[str, str],
) -> tuple[str, ...]:
    """The command line that starts another in namespaces of its own."""
    variables = [("--setenv", name, value) for name, value in sorted(environment.items())]
    return (
        *(program, *_ALL, *(_AS_USER if user is None else _AS_ROOT)),
        *("--clearenv", *(word for one in variables for word in one)),
        *_mounts(read, write),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/", "--"),
        *started,
    )


def _mounts(read: Iterable[Path], write: Iterable[Path]) -> Iterator[str]:
    """Each of these under every name by which it was given, links on the way included."""
    writable = {path.resolve() for path in write}
    given = [path for path in (*read, *write) if not _is_its_own(path)]
    bound: dict[Path, str] = {}
    for real in sorted({path.resolve() for path in given}):
        how = "--bind" if real in writable else "--ro-bind"
        above = next((bound[one] for one in real.parents if one in bound), "")
        if how != above:
            bound[real] = how
            if not above:
                yield from ways_to(real)
            yield from (how, str(real), str(real))
    links = dict(link for path in given for link in _links_on(path))
    for link, target in sorted(links.items()):
        if not any(one in bound for one in link.parents):
            yield from ("--symlink", target, str(link))


def ways_to(path: Path) -> Iterator[str]:
    """Folders on the way that anybody may enter: nothing but what is mounted there is in them."""
    for folder in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(folder))


def _is_its_own(path: Path) -> bool:
    return any(path.is_relative_to(one) for one in _ITS_OWN)


def _links_on(path: Path) -> Iterator[tuple[Path, str]]:
    """Symbolic links that are followed on the way to an absolute path, each with its target."""
    here, rest, links = Path("/"), list(path.parts[1:]), 0
    while rest:
        part = rest.pop(0)
        step = here.parent if part == ".." else here / part
        if not step.is_symlink() or links == LINKS_MAX:
            here = step
            continue
        links += 1
        target = os.readlink(step)
        yield step, target
        if os.path.isabs(target):
            here, target = Path("/"), target.lstrip("/")
        rest[:0] = Path(target).parts
