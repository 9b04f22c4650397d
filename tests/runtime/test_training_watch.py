"""What training takes of memory and disk is seen from outside, and has an end.

The scripts take more than their limit and then wait: only a look can end them."""

import asyncio
import mmap
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.core.training import DISK_LIMIT, MEMORY_LIMIT
from p2pfl.runtime.confinement.bubblewrap import found_here
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import Level, Terms, keeper_terms, terms_here
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_process import TrainingProcess
from p2pfl.runtime.training_usage import (
    RUNNING_MAX,
    Allowance,
    DiskUse,
    MemoryUse,
    disk_use,
    is_memory_seen,
    machine_bytes,
    memory_use,
)
from p2pfl.runtime.training_watch import (
    Bounds,
    Look,
    bounds_here,
    disk_passed,
    memory_passed,
    space_passed,
)

MIB = 1 << 20
WAIT_S = 60
ROOMY = Bounds(memory_bytes=1 << 40, disk_bytes=1 << 40, files=1000, free_bytes=0)

needs_proc = pytest.mark.skipif(not is_memory_seen(), reason="needs /proc")

HOARDS = """
import signal
kept = b"x" * (192 << 20)
signal.pause()
"""
HOARDS_IN_CHILDREN = """
import os, signal
for _ in range(4):
    if os.fork() == 0:
        break
kept = b"x" * (48 << 20)
signal.pause()
"""
FILLS = """
import os, signal
for number in range(40):
    os.mkdir(f"{number}")
    with open(f"{number}/more", "wb") as file:
        file.write(b"x" * (1 << 20))
signal.pause()
"""


@pytest.fixture(params=[*Level], ids=lambda level: level.value)
def terms(request: pytest.FixtureRequest) -> Terms | None:
    """Of each level of this machine; None unconfined."""
    if request.param is Level.D:
        return None
    try:
        best = terms_here()
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")
    if request.param is Level.B and best.bubblewrap is None:
        pytest.skip(f"no level B here: {found_here(best.user, best.read).reason}")
    return best if request.param is Level.B else replace(best, bubblewrap=None)


async def ended_by(tmp_path: Path, code: str, terms: Terms | None, bounds: Bounds) -> TrainingError:
    """Why a process that runs this was ended, as whoever waits for its answer is told."""
    scratch, script = tmp_path / "scratch", tmp_path / "plan.py"
    scratch.mkdir()
    script.write_text(code)
    given = None if terms is None else terms.with_paths((script,), (scratch,))
    process = await TrainingProcess.start(
        tmp_path / "log", scratch, (sys.executable, str(script)), given
    )
    process.watch(bounds, scratch)
    try:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(TrainingError) as first:
                await process.ask("train")
        with pytest.raises(TrainingError) as again:
            await process.ask("train")
        assert again.value.code == first.value.code
    finally:
        await process.kill()
    return first.value


@needs_proc
def test_a_process_that_takes_memory_until_stopped_is_ended(
    tmp_path: Path, terms: Terms | None
) -> None:
    error = asyncio.run(ended_by(tmp_path, HOARDS, terms, replace(ROOMY, memory_bytes=96 * MIB)))
    assert error.code == MEMORY_LIMIT
    assert "this site lets it have 96 MiB (training_memory_gib in policy.toml)" in error.message


@needs_proc
def test_many_processes_that_take_a_little_each_are_ended_together(
    tmp_path: Path, terms: Terms | None
) -> None:
    given = None if terms is None else keeper_terms(terms)
    bounds = replace(ROOMY, memory_bytes=128 * MIB)
    error = asyncio.run(ended_by(tmp_path, HOARDS_IN_CHILDREN, given, bounds))
    assert error.code == MEMORY_LIMIT


def test_a_process_that_fills_the_disk_file_by_file_is_ended(
    tmp_path: Path, terms: Terms | None
) -> None:
    error = asyncio.run(ended_by(tmp_path, FILLS, terms, replace(ROOMY, disk_bytes=16 * MIB)))
    assert error.code == DISK_LIMIT
    assert "this site lets it have 16 MiB (training_disk_gib in policy.toml)" in error.message


@needs_proc
def test_memory_of_a_process_is_what_it_holds() -> None:
    before = memory_use([os.getpid()]).bytes_
    # New from the kernel: what Python takes may be memory that this process was holding already.
    with mmap.mmap(-1, 32 * MIB) as kept:
        kept.write(b"x" * len(kept))
        use = memory_use([os.getpid()])
    assert use.bytes_ - before >= 16 * MIB
    assert use.threads >= 1


def test_memory_is_that_of_a_process_and_of_all_that_descend_from_it(tmp_path: Path) -> None:
    held = {7: (8, 9), 8: (10,), 9: (), 10: (7,), 11: ()}
    for pid, children in held.items():
        thread = tmp_path / f"{pid}/task/{pid}"
        thread.mkdir(parents=True)
        (thread / "children").write_text(" ".join(map(str, (*children, 99))))
        status = "Name:\tpython\nVmRSS:\t 900 kB\nRssAnon:\t 100 kB\nRssFile:\t 700 kB\n"
        status += "RssShmem:\t 20 kB\nVmSwap:\t 3 kB\nThreads:\t5\n"
        (tmp_path / f"{pid}/status").write_text(status)
    assert memory_use([7, 9], str(tmp_path)) == MemoryUse(4 * 123 * 1024, 20)
    assert memory_use([99], str(tmp_path)) == MemoryUse(0, 0)


def test_where_nobody_tells_what_processes_hold_that_is_known(tmp_path: Path) -> None:
    assert not is_memory_seen(str(tmp_path / "none"))
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("RssAnon:\t 100 kB\n")
    mounts = tmp_path / "self/mounts"
    mounts.write_text(f"proc {tmp_path} proc rw,nosuid 0 0\n")
    assert is_memory_seen(str(tmp_path))
    mounts.write_text(f"proc {tmp_path} proc rw,hidepid=invisible 0 0\n")
    assert is_memory_seen(str(tmp_path)) is (os.geteuid() == 0)


def test_the_machine_s_memory_is_the_smallest_that_holds_here(tmp_path: Path) -> None:
    meminfo, groups, own = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "own"
    assert machine_bytes(meminfo, groups, own) is None
    meminfo.write_text("MemTotal:       1000 kB\nMemFree: 7 kB\n")
    assert machine_bytes(meminfo, groups, own) == 1000 << 10
    (groups / "system/node").mkdir(parents=True)
    (groups / "system/node/memory.max").write_text("max\n")
    (groups / "system/memory.max").write_text("5000\n")
    own.write_text("0::/system/node\n")
    assert machine_bytes(meminfo, groups, own) == 5000
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text("4000\n")
    assert machine_bytes(meminfo, groups, own) == 4000


def test_disk_is_what_is_allocated_below_the_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.write_bytes(b"x" * MIB)
    (folder / "deep/link").symlink_to(outside)
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 40)
    (folder / "deep/file").write_bytes(b"x" * 100_000)
    use = disk_use(folder)
    assert 100_000 <= use.bytes_ < MIB
    assert (use.files, use.is_whole) == (4, True)
    assert disk_use(folder, files_max=2) == replace(disk_use(folder, 2), files=3, is_whole=False)
    assert disk_use(tmp_path / "none") == DiskUse(0, 0)


def test_a_folder_beyond_the_reach_of_paths_is_seen_to_be_hidden(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("x" * 250)
            os.chdir("x" * 250)
    finally:
        os.chdir(here)
    assert not disk_use(tmp_path).is_whole


@pytest.mark.skipif(os.geteuid() == 0, reason="root looks into every folder")
@pytest.mark.parametrize("mode", [0o300, 0o400])
def test_a_folder_that_is_closed_to_the_node_is_seen_to_be_hidden(
    tmp_path: Path, mode: int
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(b"x")
    closed.chmod(mode)
    assert not disk_use(tmp_path).is_whole
    closed.chmod(0o700)


BOUNDS = Bounds(memory_bytes=2 * MIB, disk_bytes=3 * MIB, files=5, free_bytes=4 * MIB)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (memory_passed(BOUNDS, MemoryUse(2 * MIB, RUNNING_MAX)), None),
        (memory_passed(BOUNDS, MemoryUse(2 * MIB + 1, 1)), MEMORY_LIMIT),
        (memory_passed(BOUNDS, MemoryUse(0, RUNNING_MAX + 1)), MEMORY_LIMIT),
        (memory_passed(replace(BOUNDS, memory_bytes=None), MemoryUse(1 << 50, 9)), None),
        (disk_passed(BOUNDS, DiskUse(3 * MIB, 5)), None),
        (disk_passed(BOUNDS, DiskUse(3 * MIB + 1, 5)), DISK_LIMIT),
        (disk_passed(BOUNDS, DiskUse(0, 6, is_whole=False)), DISK_LIMIT),
        (disk_passed(BOUNDS, DiskUse(0, 5, is_whole=False)), DISK_LIMIT),
        (space_passed(BOUNDS, 4 * MIB), None),
        (space_passed(BOUNDS, 4 * MIB - 1), "disk-full"),
    ],
)
def test_a_limit_is_passed_above_it(error: TrainingError | None, code: str | None) -> None:
    assert (None if error is None else error.code) == code


def test_without_a_policy_s_word_the_limits_are_shares_of_what_is_there(tmp_path: Path) -> None:
    found = bounds_here(Allowance(), tmp_path, lambda: 8 << 30)
    assert found.memory_bytes == 6 << 30
    disk = os.statvfs(tmp_path)
    assert 0 < found.disk_bytes <= disk.f_blocks * disk.f_frsize
    assert 0 < found.free_bytes <= 1 << 30
    assert bounds_here(Allowance(), tmp_path, lambda: None).memory_bytes is None
    asked = bounds_here(Allowance.of_gib(0.5, 2.0), tmp_path, lambda: 8 << 30)
    assert (asked.memory_bytes, asked.disk_bytes) == (1 << 29, 2 << 30)


def test_who_has_many_files_is_walked_through_more_seldom(tmp_path: Path) -> None:
    times = iter((0.0, 3.0, 4.0, 152.9, 153.1, 153.1))
    look = Look((), tmp_path, replace(ROOMY, files=0), lambda: next(times))
    assert look.again() is None
    (tmp_path / "file").touch()
    assert look.again() is None  # at 4 s
    assert look.again() is None  # at 152.9 s
    error = look.again()
    assert error is not None
    assert "more than 0 files" in error.message
