"""What a study's training processes use of memory and disk, as the node sees it from outside.

Nothing here trusts them: files' names and number are theirs to choose, so that each look is
bounded, and what cannot be looked into is told.

Source: proc(5) on /proc/PID/status and /proc/PID/task/TID/children.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GIB: Final = 1 << 30
MEMORY_KEY: Final = "training_memory_gib"
DISK_KEY: Final = "training_disk_gib"
"""Of policy.toml."""
PROC: Final = "/proc"
PROCESSES_MAX: Final = 4096
THREADS_MAX: Final = 256
"""Of a process whose children are looked for. Confined, one of many threads has none."""
RUNNING_MAX: Final = 1_024
"""Threads of one study's processes: each takes memory of the kernel's and its share of time."""
FILES_MAX: Final = 200_000
"""Below a study's own folder: more are neither counted nor allowed."""
STATUS_BYTES_MAX: Final = 8192
_BLOCK_BYTES: Final = 512
"""Unit of `st_blocks`, whatever the file system's."""
_HELD: Final = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap|VmPTE):\s+(\d+) kB$", re.MULTILINE)
"""What no other process has, or would be there without it: not the pages of libraries."""
_THREADS: Final = re.compile(rb"^Threads:\s+(\d+)$", re.MULTILINE)
_TOTAL: Final = re.compile(r"^MemTotal:\s+(\d+) kB", re.MULTILINE)
_UNIFIED: Final = re.compile(r"^0::(/.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the processes of one study may use up together. None: a share of what is there."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    """Below the study's own folder."""
    files: int = FILES_MAX

    @classmethod
    def of_gib(cls, memory: float | None, disk: float | None) -> Allowance:
        """As a policy says it."""
        bytes_of = [None if one is None else int(one * GIB) for one in (memory, disk)]
        return cls(bytes_of[0], bytes_of[1])


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What lies below a folder. bytes_: allocated, not the files' lengths."""

    bytes_: int
    files: int
    """Folders included."""
    is_whole: bool = True
    """Whether everything could be looked at: not beyond `FILES_MAX`, nor in a closed folder."""


def is_memory_seen(proc: str = PROC) -> bool:
    """Whether this system tells what its processes hold, also of those that it hides from others.

    A /proc mounted with `hidepid` shows an ordinary user none that is confined."""
    try:
        if _HELD.search(_start_of(f"{proc}/self/status")) is None:
            return False
        mounts = Path(proc, "self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    options = [word for line in mounts if line.split()[1:3] == [proc, "proc"] for word in [line]]
    hides = any(re.search(r"hidepid=(?!0|off)", line) for line in options)
    return not hides or os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What processes hold together. bytes_: own pages, shared memory, what was swapped out."""

    bytes_: int
    threads: int


def memory_use(pids: Sequence[int], proc: str = PROC) -> MemoryUse:
    """Of these processes and of all that descend from them.

    Processes that ended count nothing; at most `PROCESSES_MAX` are asked."""
    waiting, seen, held, threads = list(pids), set(pids), 0, 0
    while waiting:
        pid = waiting.pop()
        try:
            status = _start_of(f"{proc}/{pid}/status")
        except OSError:  # it has ended
            continue
        held += sum(int(kib) for kib in _HELD.findall(status)) << 10
        threads += sum(map(int, _THREADS.findall(status)))
        for child in _children(f"{proc}/{pid}/task"):
            if child not in seen and len(seen) < PROCESSES_MAX:
                seen.add(child)
                waiting.append(child)
    return MemoryUse(held, threads)


def _children(threads: str) -> Iterator[int]:
    try:
        numbers = os.listdir(threads)[:THREADS_MAX]
    except OSError:
        return
    for number in numbers:
        try:
            yield from map(int, _start_of(f"{threads}/{number}/children", 1 << 16).split())
        except (OSError, ValueError):  # it has ended, or was cut in the middle of a number
            continue


def _start_of(path: str, bytes_max: int = STATUS_BYTES_MAX) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, bytes_max)
    finally:
        os.close(descriptor)


def disk_use(folder: Path, files_max: int = FILES_MAX) -> DiskUse:
    """What is allocated below a folder. Never follows a link; at most `files_max` are looked at."""
    waiting, used, files, is_whole = [str(folder)], 0, 0, True
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > files_max:
                        return DiskUse(used, files, is_whole=False)
                    used += _allocated(entry, waiting)
        except (FileNotFoundError, NotADirectoryError):  # it was removed meanwhile
            continue
        except OSError:  # closed to us, or nested deeper than any path reaches
            is_whole = False
    return DiskUse(used, files, is_whole)


def _allocated(entry: os.DirEntry[str], folders: list[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if stat.S_ISDIR(found.st_mode):
        folders.append(entry.path)
    return found.st_blocks * _BLOCK_BYTES


def machine_bytes(
    meminfo: Path = Path("/proc/meminfo"),
    groups: Path = Path("/sys/fs/cgroup"),
    own_group: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """The memory of this machine, or of the container or service that this process is in.

    None where nobody tells."""
    try:
        total = _TOTAL.search(meminfo.read_text("ascii"))
    except OSError:
        return None
    if total is None:
        return None
    return min([int(total[1]) << 10, *_group_limits(groups, own_group)])


def _group_limits(groups: Path, own_group: Path) -> Iterator[int]:
    """Limits of control groups, version 2 or 1: in a container the mount shows its own."""
    limits = [groups / "memory.max", groups / "memory/memory.limit_in_bytes"]
    try:
        own = _UNIFIED.search(own_group.read_text("utf-8", "replace"))
    except OSError:
        own = None
    if own is not None:
        inner = Path(own[1])
        limits += [groups / one.relative_to("/") / "memory.max" for one in (inner, *inner.parents)]
    for limit in limits:
        try:
            yield int(limit.read_text("ascii"))
        except (OSError, ValueError):  # not this version, or the word "max"
            continue
