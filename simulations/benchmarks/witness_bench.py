"""What a member's node costs in processor time as members grow: talking, recording, witnessing.

    python -m simulations.benchmarks.witness_bench [--nodes 4 10] [--rounds 20]

Founds a consortium of each size on the loopback network, runs one small private study, and counts
what the nodes' main processes use from the third round on: everything but training. Nearly all of
it grows with members, because each witnesses all others. Afterwards every ledger is audited across
all sites: heads that are shown more seldom have to be cosigned all the same.

A busy machine makes rounds longer, so that more heads are shown in each: write the load beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from simulations.benchmarks.processes import processor_seconds
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    print_section,
    write_json,
)
from simulations.chaos.node import Node
from simulations.chaos.people import CommandFailed, People, StudyTerms, found, p2pfl
from simulations.chaos.stage import opened

WARM_UP_ROUNDS: Final = 3
LOOK_S: Final = 0.2
LIMIT_S: Final = 900.0
SETTLED_S: Final = 10.0
"""Longer than the newest head of ten members waits for its turn."""
GOAL_GROWTH: Final = 4.0
"""Ten members witness nine logs each, four witness three."""


def measure(count: int, rounds: int, folder: Path) -> list[Measured]:
    """One consortium, one study. Raises SystemExit where it takes too long."""
    study = StudyTerms(WARM_UP_ROUNDS + rounds, 2, 20.0, 2.0)
    with opened(folder, count, ()) as stage:
        found(stage.homes, stage.addresses, folder, seed=1)
        people = People(stage.homes, folder, study, lambda line: None)
        people.begin()
        for node in stage.nodes:
            node.start()
        _until(stage.nodes, lambda done: min(done) >= WARM_UP_ROUNDS)
        before, before_s, began_s = _rounds(stage.nodes), _used_s(stage.nodes), time.monotonic()
        _until(stage.nodes, lambda done: min(done) >= WARM_UP_ROUNDS + rounds)
        done = sum(_rounds(stage.nodes)) - sum(before)
        used_s, lasted_s = _used_s(stage.nodes) - before_s, time.monotonic() - began_s
        time.sleep(SETTLED_S)
        codes = [node.stop() for node in stage.nodes]
        failed = _audits_failed(stage.nodes)
    return [
        Measured(f"{count} nodes: of each node and round", used_s / done, "s"),
        Measured(f"{count} nodes: of each node and second", used_s / count / lasted_s, "s"),
        Measured(f"{count} nodes: a round took", lasted_s * count / done, "s"),
        at_most(f"{count} nodes: audits that did not pass", failed, "", 0),
        at_most(f"{count} nodes: bad ends", float(sum(code != 0 for code in codes)), "", 0),
    ]


def _until(nodes: Sequence[Node], is_over: Callable[[list[int]], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not is_over(_rounds(nodes)):
        if time.monotonic() > end_s:
            raise SystemExit(f"rounds done after {LIMIT_S:g} s: {_rounds(nodes)}")
        time.sleep(LOOK_S)
        for node in nodes:
            node.read_log()


def _rounds(nodes: Sequence[Node]) -> list[int]:
    return [len(node.said("round_done")) for node in nodes]


def _used_s(nodes: Sequence[Node]) -> float:
    return sum(processor_seconds(node.pid) for node in nodes if node.pid is not None)


def _audits_failed(nodes: Sequence[Node]) -> float:
    failed = 0
    for node in nodes:
        others = [other.home.path for other in nodes if other is not node]
        try:
            p2pfl(node.home, "ledger", "audit", *(w for o in others for w in ("--peers", str(o))))
        except CommandFailed as failure:
            failed += 1
            print(f"{node.name}: {failure}", flush=True)
    return float(failed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 10], help="sizes [4 10]")
    parser.add_argument("--rounds", type=int, default=20, help="that are counted [20]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether every goal was met."""
    options = parse(arguments)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    for count in options.nodes:
        title = f"{count} members"
        with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
            sections[title] = measure(count, options.rounds, Path(folder))
        print_section(title, sections[title])
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    if len(options.nodes) > 1:
        first, last = (sections[f"{options.nodes[at]} members"][0].value for at in (0, -1))
        title = "growth"
        what = f"{options.nodes[-1]} members / {options.nodes[0]}, of each node and round"
        sections[title] = [at_most(what, last / first, "×", GOAL_GROWTH)]
        print_section(title, sections[title])
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
