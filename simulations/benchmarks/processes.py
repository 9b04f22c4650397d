"""Our own commands as processes, and what the kernel says about a running one.

Responsible for starting `p2pfl` and python as a person would, and for reading /proc. Linux only
where it reads /proc: elsewhere memory and start times are not measured.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def program() -> list[str]:
    """How p2pfl is started: the installed script beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("p2pfl")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "p2pfl.cli.main"]


def run_checked(command: Sequence[str], *, limit_s: float, given: str = "") -> str:
    """Run a command to its end and return what it printed.

    Raises SystemExit with what it complained about if it fails.
    """
    # Our own programs, chosen by the benchmarks themselves.
    done = subprocess.run(  # noqa: S603
        list(command), input=given, capture_output=True, text=True, timeout=limit_s, check=False
    )
    if done.returncode != 0:
        shown = (done.stderr or done.stdout).strip()[-2000:]
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{shown}")
    return done.stdout


def peak_megabytes(pid: int) -> float | None:
    """The most memory that was resident at once (VmHWM), in MB; None if the process is gone."""
    try:
        lines = (PROC / str(pid) / "status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 / 1e6 if found else None


def processor_seconds(pid: int) -> float:
    """What a process has used of the processor so far, all its threads, without its children."""
    fields = (PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Process ids of the direct children, of whichever thread."""
    found: list[int] = []
    for path in (PROC / str(pid) / "task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text("ascii").split()]
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of the children, of their children and so on: a confined process may be below
    the one that confined it."""
    found = children(pid)
    for one in found:  # grows while it is walked
        found += children(one)
    return found


def started_s(pid: int) -> float | None:
    """When the process was started, unix seconds at the kernel's resolution of 10 ms."""
    try:
        fields = (PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot = next(
            int(line.split()[1])
            for line in (PROC / "stat").read_text("ascii").splitlines()
            if line.startswith("btime ")
        )
    except OSError:
        return None
    # Field 22 of proc(5), counted from 1; the first two were cut off with the name.
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def maps_library(pid: int, name: str) -> bool | None:
    """Whether a shared library with `name` in its path is mapped; None if that cannot be read."""
    try:
        return name in (PROC / str(pid) / "maps").read_text("utf-8", "replace")
    except OSError:
        return None


@dataclass(slots=True)
class NodeWatch:
    """What was seen of the nodes below one folder while they ran.

    started_s: unix seconds; main_mb, training_mb: peak memory; used: (unix seconds, processor
    seconds of the node and its training processes until then) at every look, by home.
    """

    folder: Path
    started_s: dict[Path, float] = field(default_factory=dict)
    main_mb: dict[Path, float] = field(default_factory=dict)
    training_mb: dict[Path, float] = field(default_factory=dict)
    used: dict[Path, list[tuple[float, float]]] = field(default_factory=dict)

    def look(self) -> None:
        """Take the numbers of every node that runs now."""
        for home, pid in self.running():
            if home not in self.started_s and (started := started_s(pid)) is not None:
                self.started_s[home] = started
            _raise_to(self.main_mb, home, peak_megabytes(pid))
            trained_by = descendants(pid)
            for child in trained_by:
                _raise_to(self.training_mb, home, peak_megabytes(child))
            with contextlib.suppress(OSError):
                used_s = sum(processor_seconds(one) for one in (pid, *trained_by))
                now_s = datetime.datetime.now(datetime.UTC).timestamp()
                self.used.setdefault(home, []).append((now_s, used_s))

    def running(self) -> Iterator[tuple[Path, int]]:
        """Home and process id of every node whose pid file is there."""
        for path in sorted(self.folder.glob("*/node.pid")):
            try:
                yield path.parent, int(path.read_text("ascii"))
            except (OSError, ValueError):
                continue  # it is being written, or its node has just ended


def _raise_to(peaks: dict[Path, float], home: Path, megabytes: float | None) -> None:
    if megabytes is not None:
        peaks[home] = max(megabytes, peaks.get(home, 0.0))


def used_per_round_s(used: Sequence[tuple[float, float]], done_s: Sequence[float]) -> float | None:
    """Processor time per round between the first and the last of the moments `done_s`.

    used: (unix seconds, processor seconds so far), ascending. None if they say too little.

    >>> used_per_round_s([(0.0, 1.0), (2.0, 2.0), (6.0, 4.0)], [1.0, 3.0, 5.0])
    1.0
    """
    if len(done_s) < 2:
        return None
    between = [look for look in used if min(done_s) <= look[0] <= max(done_s)]
    ends = [*[look for look in used if look[0] < min(done_s)][-1:], *between]
    if len(ends) < 2:
        return None
    (start_s, before_s), (stop_s, after_s) = ends[0], ends[-1]
    count = sum(start_s < moment <= stop_s for moment in done_s)
    # A child that ended takes its time with it.
    return (after_s - before_s) / count if count and after_s >= before_s else None
