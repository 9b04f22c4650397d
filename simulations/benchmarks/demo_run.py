"""One run of `p2pfl demo`, with its results, its nodes' logs and their memory.

Responsible for running the real demonstration in processes of its own, and for reading what it
left; must not know what a benchmark makes of it. A benchmark reaches the demonstration through
its command alone, as anybody would.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from simulations.benchmarks.processes import NodeWatch, program, used_per_round_s

LOOK_EVERY_S: Final = 0.1
LIMIT_S: Final = 900.0
STOP_S: Final = 30.0

PHASES: Final = ("train", "record", "gather", "average", "close")

Json: TypeAlias = dict[str, Any]  # what json.loads gives; the fields are read by name below


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What came of one demonstration.

    result: the demonstration's own JSON, see docs/benchmarks.md; rounds: the `round_done` lines
    of all nodes; ready_s: from a node's start to its `node_ready`, by node; main_mb, training_mb:
    peak resident memory of the nodes' main and training processes, MB; used_s: processor time of
    a node and its training process per round, by node.
    """

    result: Json
    rounds: tuple[Json, ...]
    ready_s: tuple[float, ...]
    main_mb: tuple[float, ...]
    training_mb: tuple[float, ...]
    used_s: tuple[float, ...] = ()

    def phase_s(self, name: str, *, of: str = "training") -> list[float]:
        """Seconds that a phase took (or "round" for all of it), in every round of a kind.

        of: "training" or "consensus".
        """
        return [float(line[f"{name}_s"]) for line in self.rounds if line["phase"] == of]


def run_demo(options: Sequence[str], folder: Path) -> DemoRun:
    """Run the demonstration with its homes kept in `folder`/homes.

    Raises SystemExit with the end of its output if it fails.
    """
    homes, result = folder / "homes", folder / "result.json"
    command = [*program(), "demo", "--home", str(homes), "--keep", "--json", str(result), *options]
    watch, end_s = NodeWatch(homes), time.monotonic() + LIMIT_S
    with tempfile.TemporaryFile("w+") as output:
        # Our own program, with options that a benchmark chose.
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None and time.monotonic() < end_s:
                watch.look()
                time.sleep(LOOK_EVERY_S)
        finally:
            _end(process, watch)
        output.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"the demonstration failed:\n{output.read()[-3000:]}")
    return _read(result, watch)


def _end(process: subprocess.Popen[bytes], watch: NodeWatch) -> None:
    """Stop it and the nodes it started, if they still run: the benchmark was interrupted."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()
        for _, pid in watch.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _read(result: Path, watch: NodeWatch) -> DemoRun:
    read: Json = json.loads(result.read_text("utf-8"))
    homes = [Path(site["home"]) for site in read["sites"]]
    logs = {home: _log(home) for home in homes}
    ready = [
        _unix_s(line["timestamp"]) - watch.started_s[home]
        for home in homes
        for line in logs[home]
        if line["event"] == "node_ready" and home in watch.started_s
    ]
    done = {h: [line for line in logs[h] if line["event"] == "round_done"] for h in homes}
    rounds = [line for home in homes for line in done[home]]
    used = [
        used_per_round_s(watch.used.get(home, []), [_unix_s(x["timestamp"]) for x in done[home]])
        for home in homes
    ]
    return DemoRun(
        read,
        tuple(rounds),
        tuple(ready),
        tuple(watch.main_mb.values()),
        tuple(watch.training_mb.values()),
        tuple(taken for taken in used if taken is not None),
    )


def _log(home: Path) -> list[Json]:
    lines = (home / "logs" / "node.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _unix_s(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()
