"""How long `p2pfl --help` and a node take to be there, and what a node takes when idle.

    python -m simulations.benchmarks.startup_bench [--processes 10]

References of the same run: an interpreter that does nothing, and one that imports the command-line
library alone. A node counts as ready when it prints that it listens; its only neighbour is absent,
and no study runs. Then two nodes are left alone with each other, and their processor time counted,
which depends little on what else the machine does. Memory is read from /proc, Linux only.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulations.benchmarks.processes import (
    maps_library,
    peak_megabytes,
    processor_seconds,
    program,
    run_checked,
)
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    print_section,
    spread,
    write_json,
)

GOAL_HELP_S: Final = 0.3
GOAL_READY_S: Final = 3.0
GOAL_MEMORY_MB: Final = 250.0
GOAL_IDLE_PERCENT: Final = 1.0
SETTLED_S: Final = 15.0
"""After connecting, two nodes exchange what the other missed."""
LIMIT_S: Final = 60.0
LOADED: Final = (
    "import sys; from p2pfl.cli.main import main; main(['--help']); "
    "print(sum(name in sys.modules for name in ('torch', 'opacus', 'monai', 'pandas')))"
)


def command_seconds(command: Sequence[str], processes: int) -> list[float]:
    """Wall time of a command in fresh processes, after one that warms the page cache."""
    run_checked(command, limit_s=LIMIT_S)
    taken = []
    for _ in range(processes):
        started_s = time.perf_counter()
        run_checked(command, limit_s=LIMIT_S)
        taken.append(time.perf_counter() - started_s)
    return taken


def help_lines(processes: int) -> list[Measured]:
    """`p2pfl --help` beside the interpreter, and whether heavy libraries were loaded for it."""
    nothing = statistics.median(command_seconds([sys.executable, "-c", "pass"], processes))
    typer = statistics.median(command_seconds([sys.executable, "-c", "import typer"], processes))
    shown = command_seconds([*program(), "--help"], processes)
    median_s = statistics.median(shown)
    loaded = run_checked([sys.executable, "-c", LOADED], limit_s=LIMIT_S).split()[-1]
    return [
        at_most(f"p2pfl --help, median of {processes}", median_s, "s", GOAL_HELP_S),
        Measured("p2pfl --help, slowest", max(shown), "s"),
        Measured("python -c pass, median", nothing, "s"),
        Measured("python -c 'import typer', median", typer, "s"),
        Measured("p2pfl --help / import typer", median_s / typer, "×"),
        at_most("heavy libraries loaded by --help", float(loaded), "", 0),
    ]


def found_two_sites(folder: Path) -> Path:
    """Make a consortium of two. Returns the home of the first, ready to start."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        listen = [f"127.0.0.1:{opened.getsockname()[1]}" for opened in (first, second)]
    homes = [folder / name for name in ("north", "south")]
    for home, address in zip(homes, listen, strict=True):
        named = ["init", "--name", home.name, "--listen", address, "--consortium", "bench"]
        _command(home, *named)
    roster = str(folder / "bench.roster")
    cards = [str(home / f"{home.name}.card") for home in homes]
    _command(homes[0], "roster", "create", *cards, "--out", roster)
    for home in reversed(homes):  # the last signature puts the roster into force at the first
        _command(home, "roster", "sign", roster)
    return homes[0]


def _command(home: Path, *words: str) -> str:
    return run_checked([*program(), "--home", str(home), *words], limit_s=LIMIT_S)


def node_lines(processes: int) -> list[Measured]:
    """Start a node again and again: time until it listens, then its memory."""
    ready, memory, torch = [], [], []
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        home = found_two_sites(Path(folder))
        for _ in range(processes):
            taken_s, peak_mb, has_torch = start_once(home)
            ready.append(taken_s)
            memory += [peak_mb] if peak_mb is not None else []
            torch += [has_torch] if has_torch is not None else []
    median_s = statistics.median(ready)
    lines = [
        at_most(f"node start until it listens, median of {processes}", median_s, "s", GOAL_READY_S),
        *spread("node start until it listens", ready, "s")[1:],
    ]
    if memory:
        lines.append(at_most("idle node, peak memory", max(memory), "MB", GOAL_MEMORY_MB))
    if torch:
        lines.append(at_most("starts that mapped libtorch", float(sum(torch)), "", 0))
    return lines


def start_once(home: Path) -> tuple[float, float | None, bool | None]:
    """Start the node, stop it. Returns seconds until it listens, peak MB, torch mapped or not.

    Raises SystemExit if it ends before it listens.
    """
    started_s = time.perf_counter()
    # Our own program.
    process = subprocess.Popen(  # noqa: S603
        [*program(), "--home", str(home), "node", "start"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if " listens on " in line:
                taken_s = time.perf_counter() - started_s
                return taken_s, peak_megabytes(process.pid), maps_library(process.pid, "libtorch")
        raise SystemExit(f"the node did not listen:\n{''.join(said)[-2000:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)


def idle_lines(seconds: float) -> list[Measured]:
    """Two nodes that are connected and have nothing to do: the processor time of the busier."""
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        first = found_two_sites(Path(folder))
        homes = [first, first.parent / "south"]
        _command(homes[1], "roster", "install", str(first.parent / "bench.roster"))
        try:
            for home in homes:
                _command(home, "node", "start", "--background")
            pids = [int((home / "node.pid").read_text("ascii")) for home in homes]
            _until_connected(first)
            time.sleep(SETTLED_S)
            before_s = [processor_seconds(pid) for pid in pids]
            time.sleep(seconds)
            used_s = [
                processor_seconds(pid) - past_s for pid, past_s in zip(pids, before_s, strict=True)
            ]
        finally:
            for home in homes:
                if (home / "node.pid").exists():
                    _command(home, "node", "stop")
    share = 100.0 * max(used_s) / seconds
    return [at_most(f"idle node over {seconds:g} s, of one core", share, "%", GOAL_IDLE_PERCENT)]


def _until_connected(home: Path) -> None:
    """Ask until the neighbour is there. Raises SystemExit."""
    end_s = time.monotonic() + LIMIT_S
    while not json.loads(_command(home, "node", "status", "--json"))["connected"]:
        if time.monotonic() > end_s:
            raise SystemExit("the two nodes did not connect")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=10, help="starts of each kind [10]")
    parser.add_argument("--idle", type=float, default=60, help="seconds of doing nothing [60]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether every goal was met."""
    options = parse(arguments)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    sections["the command line"] = help_lines(options.processes)
    print_section("the command line", sections["the command line"])
    sections["a node"] = node_lines(options.processes)
    print_section("a node", sections["a node"])
    sections["an idle node"] = idle_lines(options.idle)
    print_section("an idle node", sections["an idle node"])
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
