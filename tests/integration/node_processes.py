"""Real nodes: `p2pfl node start` in processes of their own, watched through log, socket, /proc."""

import contextlib
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_homes import Consortium, p2pfl_json

from p2pfl.cli.demo_nodes import program
from p2pfl.runtime.home import Home

WAIT_S = 360.0
STOP_S = 5.0


@dataclass(slots=True)
class RunningNode:
    """One node's process and what its log said since it was started."""

    home: Home
    process: subprocess.Popen[bytes]
    position: int
    started_s: float
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def read_log(self) -> list[dict[str, Any]]:
        """Every event since the start."""
        if self.home.node_log.is_file():
            with self.home.node_log.open("rb") as file:
                file.seek(self.position)
                whole = file.read().rpartition(b"\n")[0]
            self.position += len(whole) + 1 if whole else 0
            self.events += [json.loads(line) for line in whole.splitlines()]
        return self.events

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.read_log() if line["event"] == event]

    def wait(self, event: str, count: int = 1, wait_s: float = WAIT_S) -> dict[str, Any]:
        """The `count`-th event of this name."""
        self.until(lambda: len(self.said(event)) >= count, event, wait_s)
        return self.said(event)[count - 1]

    def until(self, condition: Callable[[], object], what: str, wait_s: float = WAIT_S) -> None:
        poll(condition, self._lives, f"{self.home.path.name}: {what}", wait_s)

    def _lives(self) -> None:
        code = self.process.poll()
        assert code is None, f"{self.home.path.name} ended with {code}: {self.console()[-1500:]}"

    def status(self) -> Any:
        return p2pfl_json(self.home, "node", "status")

    def training_pids(self) -> list[int]:
        return list(self.status()["training_processes"])

    def memory_peak_mb(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return int(peak) / 1024

    def maps(self) -> str:
        """What it has loaded. Root alone sees that: a node closes its memory to its own user."""
        try:
            return Path(f"/proc/{self.pid}/maps").read_text()
        except PermissionError:
            return ""

    def console(self) -> str:
        return (self.home.logs / "console.log").read_text("utf-8", "replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ask it to end. Returns its exit code and how long it took."""
        asked_s = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(80)
        return code, time.monotonic() - asked_s


def start(home: Home, before: Sequence[str] = ()) -> RunningNode:
    """Start a home's node as its operator would; `before` its words: where to run it."""
    size = home.node_log.stat().st_size if home.node_log.is_file() else 0
    console_log = home.logs / "console.log"
    console_log.touch(mode=0o600)
    with console_log.open("wb") as console:
        process = subprocess.Popen(
            [*before, *program(), "--home", str(home.path), "node", "start"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    return RunningNode(home, process, size, time.monotonic())


@contextlib.contextmanager
def running(
    homes: Sequence[Home], befores: Sequence[Sequence[str]] = ()
) -> Iterator[list[RunningNode]]:
    """Start nodes; whatever happens, none of them is left. A test may add to the list."""
    nodes: list[RunningNode] = []
    try:
        for home, before in itertools.zip_longest(homes, befores, fillvalue=()):
            nodes.append(start(home, before))
        yield nodes
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.process.kill()
        for node in nodes:
            node.process.wait()


def start_in_vain(home: Home) -> tuple[int, str]:
    """Start a node that cannot run. Returns its exit code and all that it said."""
    done = subprocess.run(
        [*program(), "--home", str(home.path), "node", "start"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def poll(
    condition: Callable[[], object],
    check: Callable[[], None],
    what: str,
    wait_s: float,
) -> None:
    """Look again and again until a condition holds."""
    end_s = time.monotonic() + wait_s
    while not condition():
        check()
        assert time.monotonic() < end_s, f"not within {wait_s:g} s: {what}"
        time.sleep(0.02)


def sentence_of(said: str) -> str:
    """The one sentence (and the line that says what to do) a command ended with."""
    lines = [line for line in said.strip().splitlines() if line]
    assert len(lines) == 2, said
    assert lines[1].startswith("→ "), said
    return lines[0]


__all__ = [
    "Consortium",
    "RunningNode",
    "is_alive",
    "poll",
    "running",
    "sentence_of",
    "start",
    "start_in_vain",
]
