"""One node's process: started and started again as a supervisor would, watched through log and
/proc. Linux only."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from p2pfl.runtime.home import Home
from simulations.benchmarks.processes import children, descendants, program

Json: TypeAlias = dict[str, Any]  # what a log line holds; its fields are read by name

AGAIN_S: Final = 2.0
"""A supervisor waits so long before it starts a node that ended by itself."""
LOG_TAIL: Final = 3
STOP_S: Final = 90.0
PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """What the kernel says of a node. descriptors: by sort (socket, pipe, file, …)."""

    at_s: float
    resident_mb: float
    descriptors: Counter[str]


@dataclass(slots=True)
class Life:
    """From one start of the process to its end. ended: how, in words; None while it runs."""

    started_s: float
    ready_s: float | None = None
    ended: str | None = None
    samples: list[Sample] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """A home and whatever process runs it now.

    before: words that start it at its place in the network; environment: added to our own."""

    home: Home
    console: Path
    before: Sequence[str]
    environment: dict[str, str]
    clock_s: Callable[[], float] = time.monotonic
    process: subprocess.Popen[bytes] | None = None
    start_at_s: float | None = None
    """When the supervisor starts it (again); None: it runs, or it is to stay down."""
    lives: list[Life] = field(default_factory=list)
    events: list[tuple[float, Json]] = field(default_factory=list)
    """(when we read it by our own clock, line of the log)"""
    torn_lines: int = 0
    _position: int = 0

    @property
    def name(self) -> str:
        return self.home.path.name

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def start(self) -> None:
        """As its operator would: `p2pfl node start`."""
        self.start_at_s = None
        self.lives.append(Life(self.clock_s()))
        with self.console.open("ab") as console:
            # Our own program at a place we made for it.
            self.process = subprocess.Popen(  # noqa: S603
                [*self.before, *program(), "--home", str(self.home.path), "node", "start"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
            )

    def look(self) -> str | None:
        """Start it if that is due. Returns how it ended if it has just ended by itself."""
        now_s = self.clock_s()
        if self.start_at_s is not None and now_s >= self.start_at_s:
            self.start()
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.process, self.start_at_s = None, now_s + AGAIN_S
        said = f"exit code {code}: {' '.join(self._last_words())}"
        self.lives[-1].ended = said
        return said

    def kill(self, down_s: float) -> None:
        """As a power cut does it; it comes back after a while."""
        self.start_at_s = self.clock_s() + down_s
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.lives[-1].ended = "killed"

    def stand_still(self, still: bool) -> None:
        """Stop the node and its training processes, or let them go on."""
        if self.pid is not None:
            number = signal.SIGSTOP if still else signal.SIGCONT
            for pid in (self.pid, *descendants(self.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> int | None:
        """Ask it to end, for good. Returns its exit code, None if it did not run."""
        self.start_at_s = None
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        self.lives[-1].ended = f"stopped, exit code {code}"
        return code

    # -- what it says ----------------------------------------------------------------------------

    def read_log(self) -> list[Json]:
        """New lines of its log. A line that a full disk cut off is counted, and nothing more."""
        try:
            with self.home.node_log.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._position:
                    self._position = 0  # the log was rotated
                file.seek(self._position)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self._position += len(whole) + 1 if whole else 0
        new: list[Json] = []
        for line in whole.splitlines():
            try:
                new.append(json.loads(line))
            except ValueError:
                self.torn_lines += 1
        now_s = self.clock_s()
        self.events += [(now_s, line) for line in new]
        if any(line["event"] == "node_ready" for line in new) and self.lives:
            self.lives[-1].ready_s = now_s
        return new

    def said(self, event: str) -> list[tuple[float, Json]]:
        """Every line of a name so far, and when it was read."""
        return [(at_s, line) for at_s, line in self.events if line["event"] == event]

    def sample(self) -> None:
        """Take its memory and descriptors, if it is up and ready."""
        if self.pid is None or self.lives[-1].ready_s is None:
            return
        proc = Path(f"/proc/{self.pid}")
        with contextlib.suppress(OSError):
            resident_mb = int((proc / "statm").read_text().split()[1]) * PAGE_MB
            sample = Sample(self.clock_s(), resident_mb, descriptors(proc))
            self.lives[-1].samples.append(sample)

    def trains(self) -> bool:
        """Whether it has children: training processes, or a table of ε being computed."""
        return self.pid is not None and bool(children(self.pid))

    def _last_words(self) -> list[str]:
        said = self.console.read_text("utf-8", "replace").strip().splitlines()
        return [line.strip() for line in said[-LOG_TAIL:]]


def descriptors(proc: Path) -> Counter[str]:
    """How many descriptors of each sort the process of a /proc directory holds. Raises OSError.

    None are seen of a node of one's own user, unless that is root."""
    found: Counter[str] = Counter()
    if not os.access(proc / "fd", os.R_OK):
        return found
    for path in (proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            to = str(path.readlink())
            sort, is_special, _ = to.partition(":")
            found[sort if is_special and not to.startswith("/") else "file"] += 1
    return found
