"""Rounds of a model of five million parameters (20 MB): four real nodes beside plain torch.

    python -m simulations.benchmarks.big_bench [--rounds 8] [--hidden 151515] [--only float32]

Four `p2pfl node start` processes on loopback train a 30-HIDDEN-2 MLP on scikit-learn's breast
cancer without privacy, one local step a round, with updates as float32, as bf16 and as int8. After
each run the same training is timed in plain torch: same patients, batches, steps and model, in one
process and thread, one site after the other, nothing exchanged. The phases of a round are those
of `round_bench`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulations.benchmarks.demo_run import PHASES, DemoRun, run_demo
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    percentile,
    print_section,
    write_json,
)
from simulations.benchmarks.round_bench import plain_rounds

GOALS: Final = {"float32": 2.5, "bf16": 2.0, "int8": 2.0}
"""Median round, in rounds of plain torch."""
RATE_AT_64: Final = 0.1
"""A wider layer needs a smaller step: its outputs add up more units."""


def measure(encoding: str, arguments: argparse.Namespace) -> list[Measured]:
    """Run the study once, plain torch afterwards, and put both side by side."""
    print(f"{encoding}: {arguments.rounds} rounds …", flush=True)
    with tempfile.TemporaryDirectory(prefix="p2pfl-big-") as folder:
        run = run_demo(demo_options(encoding, arguments), Path(folder))
        plain = plain_rounds(Path(folder) / "homes", run.result)
    return lines_of(encoding, run, plain)


def demo_options(encoding: str, arguments: argparse.Namespace) -> list[str]:
    """The demonstration's options."""
    rate = RATE_AT_64 * min(1.0, 64 / arguments.hidden)
    options = ["--plan", "tabular-mlp", "--privacy", "none", "--no-compare"]
    options += ["--rounds", str(arguments.rounds), "--encoding", encoding]
    plan = [f"hidden={arguments.hidden}", f"learning_rate={rate:.3g}", "local_steps=1"]
    for argument in plan:
        options += ["--argument", argument]
    return options


def lines_of(encoding: str, run: DemoRun, plain: Sequence[float]) -> list[Measured]:
    """The table: medians over all rounds of all sites but the first, which waits for starts."""
    together = run.phase_s("round")
    median_s, plain_s = statistics.median(together), statistics.median(plain)
    lines = [
        Measured(f"round, median of {len(together)}", median_s, "s"),
        Measured("round, 95th percentile", percentile(together, 0.95), "s"),
    ]
    lines += [
        Measured(f"  {name}, median", statistics.median(run.phase_s(name)), "s") for name in PHASES
    ]
    lines += [
        Measured(f"plain torch, median of {len(plain)}", plain_s, "s"),
        at_most("round / plain torch", median_s / plain_s, "×", GOALS[encoding]),
    ]
    if run.used_s:
        used_s = statistics.median(run.used_s)
        lines.append(Measured("processor time per node and round, median", used_s, "s"))
        lines.append(Measured("  of all nodes / plain torch", 4 * used_s / plain_s, "×"))
    if run.main_mb:
        lines.append(Measured("main process, peak memory", max(run.main_mb), "MB"))
    if run.training_mb:
        lines.append(Measured("training process, peak memory", max(run.training_mb), "MB"))
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8, help="rounds with training [8]")
    parser.add_argument("--hidden", type=int, default=151_515, help="hidden units [151515]")
    parser.add_argument("--only", choices=tuple(GOALS), help="one of the encodings")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether every goal was met."""
    options = parse(arguments)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    for encoding in GOALS:
        if options.only in (None, encoding):
            parameters = 33 * options.hidden + 2
            title = f"4 nodes, {parameters:,} parameters, updates as {encoding}"
            sections[title] = measure(encoding, options)
            print_section(title, sections[title])
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
