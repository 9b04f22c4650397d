"""The watchdog of a study's training processes: ends them before memory or disk are used up.

Every 0.2 s it looks, in a thread of its own, so that a slow look holds up nothing; whoever has
files by the thousand is looked at more seldom, and the file system's free space still each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.training import DISK_LIMIT, MEMORY_LIMIT
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_usage import (
    DISK_KEY,
    GIB,
    MEMORY_KEY,
    RUNNING_MAX,
    Allowance,
    DiskUse,
    MemoryUse,
    disk_use,
    machine_bytes,
    memory_use,
)

LOOK_S: Final = 0.2
REST: Final = 50
"""A walk through files is followed by at least so many times its length without one: 2 %."""
MEMORY_SHARE: Final = 0.75
DISK_SHARE: Final = 0.5
DISK_BYTES: Final = GIB
"""Where half of what is free is less than that: a model has to fit."""
RESERVE_BYTES: Final = GIB
RESERVE_SHARE: Final = 0.05
BETWEEN_LOOKS_BYTES: Final = GIB
"""Above what is watched, the kernel refuses memory: more than any process fills between two looks,
so that whoever passes a limit is ended by name and not by an error in its middle."""
TRAINING: Final = "training"


@dataclass(frozen=True, slots=True)
class Bounds:
    """An allowance in figures, for one start of a study's processes."""

    memory_bytes: int | None
    """None where nobody tells how much memory there is: it is not watched."""
    disk_bytes: int
    files: int
    free_bytes: int
    """So much of the file system stays free."""

    @property
    def private_bytes(self) -> int | None:
        """What the kernel lets each process have of memory; None where nobody tells how much."""
        return None if self.memory_bytes is None else self.memory_bytes + BETWEEN_LOOKS_BYTES


def bounds_here(
    allowance: Allowance, folder: Path, machine: Callable[[], int | None] = machine_bytes
) -> Bounds:
    """What an allowance comes to on this machine, now. folder: where the processes write."""
    memory = allowance.memory_bytes
    if memory is None and (there := machine()) is not None:
        memory = int(there * MEMORY_SHARE)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    share = max(int(free * DISK_SHARE), min(DISK_BYTES, free))
    most = share if allowance.disk_bytes is None else allowance.disk_bytes
    # A disk that is nearly full already lets training start: half of what is left stays free.
    reserve = min(RESERVE_BYTES, int(disk.f_blocks * disk.f_frsize * RESERVE_SHARE), free // 2)
    return Bounds(memory, most, allowance.files, reserve)


def memory_passed(bounds: Bounds, use: MemoryUse, who: str = TRAINING) -> TrainingError | None:
    """Why processes must end, if they hold too much. who: their name at a sentence's beginning."""
    if bounds.memory_bytes is None:
        return None
    if use.bytes_ > bounds.memory_bytes:
        return TrainingError(
            MEMORY_LIMIT,
            f"{who} held {_size(use.bytes_)} of memory and was ended: this site lets it have "
            f"{_size(bounds.memory_bytes)} ({MEMORY_KEY} in policy.toml)",
        )
    if use.threads > RUNNING_MAX:
        return TrainingError(
            MEMORY_LIMIT,
            f"{who} ran {use.threads} threads and was ended: no policy allows more than "
            f"{RUNNING_MAX}; let the plan start fewer",
        )
    return None


def disk_passed(bounds: Bounds, use: DiskUse, who: str = TRAINING) -> TrainingError | None:
    """Why processes must end, if they wrote too much, or where nobody can look."""
    if use.bytes_ > bounds.disk_bytes:
        return TrainingError(
            DISK_LIMIT,
            f"{who} wrote {_size(use.bytes_)} to its folder and was ended: this site lets it "
            f"have {_size(bounds.disk_bytes)} ({DISK_KEY} in policy.toml)",
        )
    if use.files > bounds.files:
        return TrainingError(
            DISK_LIMIT,
            f"{who} made more than {bounds.files} files and was ended: no policy allows more; "
            "let the plan keep several things in one file",
        )
    if not use.is_whole:
        return TrainingError(
            DISK_LIMIT,
            f"{who} made a folder that the node cannot look into and was ended: the plan must "
            "leave its folders readable, and nest them less deeply",
        )
    return None


def space_passed(bounds: Bounds, free_bytes: int, who: str = TRAINING) -> TrainingError | None:
    """Why processes must end, if the disk they write to is nearly full, whoever filled it."""
    if free_bytes >= bounds.free_bytes:
        return None
    return TrainingError(
        "disk-full",
        f"{who} was ended, as only {_size(free_bytes)} are free on the disk that it writes to: "
        f"{_size(bounds.free_bytes)} stay free; free space, or set {DISK_KEY} in policy.toml",
    )


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(3 << 29), _size(48 << 20)
    ('1.5 GiB', '48 MiB')
    """
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count >> 20} MiB"


@dataclass(slots=True)
class Look:
    """One study's processes, looked at again and again. Not for two threads at once."""

    pids: Sequence[int]
    folder: Path
    bounds: Bounds
    clock_s: Callable[[], float]
    who: str = TRAINING
    walk_at_s: float = 0.0
    """When files are counted again; free space and memory are looked at each time."""

    def again(self) -> TrainingError | None:
        """What was passed, or nothing."""
        if self.bounds.memory_bytes is not None:
            found = memory_passed(self.bounds, memory_use(self.pids), self.who)
            if found is not None:
                return found
        disk = os.statvfs(self.folder)
        is_short = space_passed(self.bounds, disk.f_bavail * disk.f_frsize, self.who)
        began_s = self.clock_s()
        if is_short is None and began_s < self.walk_at_s:
            return None
        use = disk_use(self.folder, self.bounds.files)
        ended_s = self.clock_s()
        self.walk_at_s = ended_s + (ended_s - began_s) * REST
        return disk_passed(self.bounds, use, self.who) or is_short


async def passed(look: Look, every_s: float = LOOK_S) -> TrainingError:
    """Look until something was passed, and say what."""
    loop = asyncio.get_running_loop()
    # Not the loop's own threads, which may all be busy with models.
    eyes = ThreadPoolExecutor(1, "training-watch")
    try:
        while True:
            with contextlib.suppress(OSError):  # the folder was removed, or its disk refuses
                found = await loop.run_in_executor(eyes, look.again)
                if found is not None:
                    return found
            await asyncio.sleep(every_s)
    finally:
        eyes.shutdown(wait=False, cancel_futures=True)
