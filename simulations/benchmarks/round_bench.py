"""How long a round takes and where its time goes: four real nodes beside plain torch.

    python -m simulations.benchmarks.round_bench [--runs 3] [--rounds 30] [--epsilon 3]

Four `p2pfl node start` processes on loopback train a 30-64-2 MLP on scikit-learn's breast cancer,
first without, then with differential privacy. After each run the same training is timed in plain
torch: same patients, batches, steps and model, one process and thread, nothing exchanged.

A round ends when the average is on record. Its phases, as each node's log states them:
train (in the training process), record (spending and update into the ledger), gather (until the
last neighbour's update is verified and stored: it holds the waiting for the slowest), average,
close (the averaging into the ledger).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from simulations.benchmarks.demo_run import PHASES, DemoRun, run_demo
from simulations.benchmarks.processes import run_checked
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    percentile,
    print_section,
    write_json,
)

GOAL_ROUND_S: Final = 0.25
GOAL_MEMORY_MB: Final = 250.0
PLAIN_LIMIT_S: Final = 300.0


def measure(privacy: str, arguments: argparse.Namespace) -> list[Measured]:
    """Run the study a few times, plain torch after each run, and put both side by side."""
    runs, plain = [], []
    for number in range(arguments.runs):
        print(f"privacy {privacy}: run {number + 1} of {arguments.runs} …", flush=True)
        with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
            runs.append(run_demo(demo_options(privacy, number, arguments), Path(folder)))
            plain += plain_rounds(Path(folder) / "homes", runs[-1].result)
    return lines_of(runs, plain)


def demo_options(privacy: str, number: int, arguments: argparse.Namespace) -> list[str]:
    """The demonstration's options; every run has a seed of its own."""
    seed, rounds = str(arguments.seed + number), str(arguments.rounds)
    options = ["--plan", "tabular-mlp", "--privacy", privacy, "--seed", seed, "--rounds", rounds]
    return [*options, "--sites", str(arguments.sites), "--rule", arguments.rule]


def plain_rounds(homes: Path, result: dict[str, Any]) -> list[float]:
    """Time the same training in plain torch, in a process of its own. Returns seconds per round."""
    request = {
        "manifest": str(homes / "study.toml"),
        "sites": [
            {
                "dataset": str(homes / "data" / f"{site['name']}.csv"),
                "patient_column": "patient",
                "denominator": max(1, site.get("patients_train", 0)),
            }
            for site in result["sites"]
        ],
    }
    command = [sys.executable, "-m", "simulations.benchmarks.plain_torch"]
    answer = run_checked(command, limit_s=PLAIN_LIMIT_S, given=json.dumps(request))
    return [float(taken) for taken in json.loads(answer)["round_s"]]


def lines_of(runs: Sequence[DemoRun], plain: Sequence[float]) -> list[Measured]:
    """The table: medians over all rounds of all sites and runs."""
    together = [taken for run in runs for taken in run.phase_s("round")]
    mixing = [taken for run in runs for taken in run.phase_s("round", of="consensus")]
    medians = [statistics.median(run.phase_s("round")) for run in runs]
    median_s, plain_s = statistics.median(together), statistics.median(plain)
    lines = [
        at_most(f"round, median of {len(together)}", median_s, "s", GOAL_ROUND_S),
        Measured("  of the fastest run", min(medians), "s"),
        Measured("  of the slowest run", max(medians), "s"),
        Measured("round, 95th percentile", percentile(together, 0.95), "s"),
    ]
    for name in PHASES:
        taken = [took for run in runs for took in run.phase_s(name)]
        lines.append(Measured(f"  {name}, median", statistics.median(taken), "s"))
    lines += [
        Measured("round without training, median", statistics.median(mixing), "s"),
        Measured(f"plain torch, median of {len(plain)}", plain_s, "s"),
        Measured("round / plain torch", median_s / plain_s, "×"),
    ]
    return lines + _process_lines(runs)


def _process_lines(runs: Sequence[DemoRun]) -> list[Measured]:
    """Processor time, start and memory of the nodes; nothing where the kernel does not say."""
    ready = [taken for run in runs for taken in run.ready_s]
    main = [peak for run in runs for peak in run.main_mb]
    training = [peak for run in runs for peak in run.training_mb]
    used = [taken for run in runs for taken in run.used_s]
    lines = []
    if used:
        name = "processor time per node and round, median"
        lines.append(Measured(name, statistics.median(used), "s"))
    if ready:
        together = f"node ready, {len(runs[0].ready_s)} starting together, slowest"
        lines.append(Measured(together, max(ready), "s"))
    if main:
        lines.append(at_most("main process, peak memory", max(main), "MB", GOAL_MEMORY_MB))
    if training:
        lines.append(Measured("training process, peak memory", max(training), "MB"))
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="of each study [3]")
    parser.add_argument("--rounds", type=int, default=30, help="rounds with training [30]")
    parser.add_argument("--sites", type=int, default=4, help="nodes [4]")
    parser.add_argument("--rule", default="gm_clip", help="averaging rule [gm_clip]")
    parser.add_argument("--seed", type=int, default=7, help="of the first run [7]")
    parser.add_argument("--epsilon", type=float, default=3.0, help="of the private study [3]")
    parser.add_argument("--only", choices=("none", "dp"), help="one of the two studies")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether every goal was met."""
    options = parse(arguments)
    studies = {"none": "none", "dp": f"eps={options.epsilon:g}"}
    sections: dict[str, list[Measured]] = {}
    print(machine(), flush=True)
    for name, privacy in studies.items():
        if options.only in (None, name):
            title = "without privacy" if name == "none" else f"with privacy, {privacy}"
            sections[title] = measure(privacy, options)
    for title, lines in sections.items():
        print_section(f"{options.sites} nodes, 30-64-2 MLP, {title}", lines)
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
