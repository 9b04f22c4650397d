"""How long it takes until a fifth site belongs to four that run, without the people's own time.

    python -m simulations.benchmarks.joining_bench

Real nodes on this machine, the commands of docs/quickstart.md. Comparing words by telephone takes
what it takes; everything that programs do is timed: from `init` of the new home until its node has
met all four. Reference of the same run: `p2pfl --help`, the least that a command takes. Afterwards
the new site replaces its transport key and is met again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from simulations.benchmarks.processes import program, run_checked
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    print_section,
    write_json,
)

GOAL_S: Final = 300.0
"""Five minutes, as the quickstart promises."""
LIMIT_S: Final = 120.0
FOUNDERS: Final = ("north", "east", "south", "west")
QUORUM: Final = 3


class Stopwatch:
    """Names what was done and how long it took."""

    def __init__(self) -> None:
        self.lines: list[Measured] = []

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do it. Returns what it returns."""
        started_s = time.perf_counter()
        result = work()
        self.lines.append(Measured(name, time.perf_counter() - started_s, "s"))
        return result

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(line.value for line in self.lines)


def addresses(count: int) -> list[str]:
    """Free addresses of this machine."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in opened]


def command(home: Path, *words: str) -> str:
    """Run p2pfl to its end. Raises SystemExit."""
    return run_checked([*program(), "--home", str(home), *words], limit_s=LIMIT_S)


def command_json(home: Path, *words: str) -> Any:
    """What it says with --json."""
    return json.loads(command(home, *words, "--json"))


def init(home: Path, address: str) -> None:
    """A home of this consortium."""
    command(home, "init", "--name", home.name, "--listen", address, "--consortium", "bench")


def found(folder: Path, listen: Sequence[str]) -> list[Path]:
    """Four sites with a roster in force."""
    homes = [folder / name for name in FOUNDERS]
    for home, address in zip(homes, listen, strict=True):
        init(home, address)
    roster = str(folder / "bench.roster")
    cards = [str(home / f"{home.name}.card") for home in homes[1:]]
    command(homes[0], "consortium", "create", *cards, "--out", roster, "--yes")
    for home in homes[1:]:
        command(home, "roster", "sign", roster)
    for home in homes[:-1]:
        command(home, "roster", "install", roster)
    return homes


@contextlib.contextmanager
def stopped_at_the_end(homes: Sequence[Path]) -> Iterator[None]:
    """Whatever runs of these nodes is stopped."""
    try:
        yield
    finally:
        for home in homes:
            if (home / "node.pid").exists():
                command(home, "node", "stop")


def until(condition: Callable[[], object], what: str) -> None:
    """Ask until it holds. Raises SystemExit."""
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)


def connected(home: Path) -> int:
    """How many members its node has met."""
    return len(command_json(home, "node", "status")["connected"])


def join(homes: Sequence[Path], fifth: Path, address: str, admission: str) -> Stopwatch:
    """The whole way of the fifth site."""
    watch = Stopwatch()
    watch.time("init", lambda: init(fifth, address))
    invite = ("consortium", "invite", "--admission", admission)
    line = watch.time("consortium invite", lambda: command_json(homes[0], *invite))["line"]
    asked = watch.time(
        "consortium join, asks", lambda: command_json(fifth, "consortium", "join", line)
    )
    if asked["standing"] != "waiting":
        raise SystemExit(f"the listener did not answer: {asked['why']}")
    watch.time("consortium accept", lambda: command(homes[0], "consortium", "accept", "--yes"))
    for home in homes[1:QUORUM]:
        watch.time(f"roster sign at {home.name}", functools.partial(sign, home))

    def taken_over() -> bool:
        return bool(command_json(fifth, "consortium", "join")["standing"] == "member")

    watch.time("consortium join, takes over", lambda: until(taken_over, "a member"))
    watch.time("node start", lambda: command(fifth, "node", "start", "--background"))
    watch.time("all four are met", lambda: until(lambda: connected(fifth) == 4, "all are met"))
    return watch


def sign(home: Path) -> None:
    """Sign the proposal as soon as it has arrived."""
    until(lambda: command_json(home, "roster", "status")["proposals"], "the proposal arrives")
    command(home, "roster", "sign", "--yes")


def rotate(homes: Sequence[Path], fifth: Path) -> Stopwatch:
    """A new transport key for a site that runs."""
    watch = Stopwatch()
    watch.time("node stop", lambda: command(fifth, "node", "stop"))
    card = watch.time(
        "keys rotate transport",
        lambda: command_json(fifth, "keys", "rotate", "transport", "--yes"),
    )["card"]
    watch.time("roster take-card", lambda: command(homes[1], "roster", "take-card", card))
    watch.time("node start", lambda: command(fifth, "node", "start", "--background"))
    watch.time("all four are met", lambda: until(lambda: connected(fifth) == 4, "all are met"))
    return watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether the goal was met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    given = parser.parse_args(arguments)
    print(machine(), flush=True)
    help_s = Stopwatch()
    help_s.time("p2pfl --help", lambda: run_checked([*program(), "--help"], limit_s=LIMIT_S))
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        *listen, fifth_address, admission = addresses(6)
        homes, fifth = found(Path(folder), listen), Path(folder) / "bonn"
        with stopped_at_the_end([*homes, fifth]):
            for home in homes:
                command(home, "node", "start", "--background")
            until(lambda: connected(homes[0]) == 3, "the four meet")
            joined = join(homes, fifth, fifth_address, admission)
            rotated = rotate(homes, fifth)
    lines = [
        *joined.lines,
        at_most("a fifth site joins four that run", joined.total_s, "s", GOAL_S),
        *help_s.lines,
        Measured("joining / p2pfl --help", joined.total_s / help_s.total_s, "×"),
    ]
    sections = {"joining": lines, "a new transport key": rotated.lines}
    for name, section in sections.items():
        print_section(name, section)
    write_json(given.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    raise SystemExit(main())
