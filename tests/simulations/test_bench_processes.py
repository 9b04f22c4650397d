"""What benchmarks read of running processes, tried on this very process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.benchmarks.processes import (
    NodeWatch,
    children,
    descendants,
    maps_library,
    peak_megabytes,
    run_checked,
    started_s,
    used_per_round_s,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
NOBODY = 2**22 + 1  # above the largest process id of Linux


@needs_proc
def test_memory_start_and_libraries_of_a_process_are_read() -> None:
    peak, started = peak_megabytes(os.getpid()), started_s(os.getpid())
    assert peak is not None
    assert 5 < peak < 100_000
    assert started is not None
    # A test of a wall-clock reading needs the wall clock.
    assert 0 <= time.time() - started < 24 * 3600  # noqa: TID251 - see above
    assert maps_library(os.getpid(), "no-such-library") is False


def test_a_process_that_is_gone_has_no_numbers() -> None:
    assert peak_megabytes(NOBODY) is None
    assert started_s(NOBODY) is None
    assert maps_library(NOBODY, "libc") is None


@needs_proc
def test_running_nodes_are_found_by_their_pid_files(tmp_path: Path) -> None:
    for name, written in (("north", f"{os.getpid()}\n"), ("south", "\n"), ("west", f"{NOBODY}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "node.pid").write_text(written, "ascii")
    watch = NodeWatch(tmp_path)
    watch.look()
    watch.look()
    assert set(watch.started_s) == set(watch.main_mb) == set(watch.used) == {tmp_path / "north"}
    (first, _), (second, _) = watch.used[tmp_path / "north"]
    assert first <= second


@needs_proc
def test_processes_below_those_that_confine_them_count() -> None:
    shell = ["sh", "-c", "sh -c 'echo here; read line; true'; true"]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"here\n"
        inner = children(outer.pid)
        assert len(inner) == 1
        assert {outer.pid, *inner} <= set(descendants(os.getpid()))
        outer.communicate(b"\n")


def test_processor_time_is_shared_among_the_rounds_between_two_looks() -> None:
    looks = [(float(at), at / 10) for at in range(10)]
    assert used_per_round_s(looks, [2.5, 4.5, 6.5]) == pytest.approx(0.2)
    assert used_per_round_s(looks, [2.5]) is None
    assert used_per_round_s(looks[:1], [2.5, 4.5]) is None
    assert used_per_round_s([(1.0, 5.0), (2.0, 1.0)], [0.5, 1.5, 2.5]) is None


def test_a_command_that_fails_ends_the_benchmark_with_its_complaint() -> None:
    assert run_checked([sys.executable, "-c", "print(6 * 7)"], limit_s=60) == "42\n"
    failing = "import sys; sys.exit('no such patient')"
    with pytest.raises(SystemExit, match="status 1:\nno such patient"):
        run_checked([sys.executable, "-c", failing], limit_s=60)
