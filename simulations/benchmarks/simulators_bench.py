"""Site-rounds per second of this simulator and of Flower's, the same job, in the same run.

    python -m simulations.benchmarks.simulators_bench [--flower PYTHON] [--sites 50] [--rounds 10]

Job: made-up tables of 40 rows × 10 columns, a network with 16 hidden units, 5 full-batch steps a
round, everybody in every round. Ours averages robustly on a random graph of degree 6 and plays
every node's state machine; with `--executed` it signs and writes ledgers, too. Flower averages at
one place. Start-up of workers is not counted, on either side. PYTHON: an interpreter with
`flwr[simulation]` and torch:

    python -m venv flower && flower/bin/pip install "flwr[simulation]" torch
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from p2pfl.learning.plans.arguments import Arguments
from simulations.benchmarks.report import Measured, machine, write_json
from simulations.lab.play import play
from simulations.lab.terms import Averaging, DataSource, Scenario

ROWS, FEATURES, HIDDEN, STEPS = 40, 10, 16, 5
LIMIT_S = 600.0
FLOWER_JOB = Path(__file__).with_name("flower_job.py")


def job(sites: int, rounds: int) -> Scenario:
    """The job as a scenario."""
    return Scenario(
        "simulators",
        sites=sites,
        rounds=rounds,
        consensus_rounds=0,
        hidden=HIDDEN,
        training=Arguments(learning_rate=0.2, local_steps=STEPS, hidden=HIDDEN, outputs=2),
        data=DataSource(rows=ROWS, features=FEATURES),
        averaging=Averaging(topology="random-regular" if sites > 12 else "complete"),
    )


def ours(scenario: Scenario) -> float:
    """Site-rounds per second of wall time, in this process."""
    return play(scenario).site_rounds_per_s


def flower(python: str, sites: int, rounds: int) -> float:
    """Site-rounds per second of wall time. Raises RuntimeError with the end of what it said."""
    terms = (sites, rounds, ROWS, FEATURES, HIDDEN, STEPS)
    ran = subprocess.run(  # noqa: S603 - the interpreter that the person named
        [python, str(FLOWER_JOB), *map(str, terms)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    seconds = [line.split()[1] for line in ran.stdout.splitlines() if line.startswith("SECONDS ")]
    if not seconds:
        raise RuntimeError(f"Flower did not finish: {(ran.stdout + ran.stderr)[-2000:]}")
    return sites * rounds / float(seconds[0])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="simulations.benchmarks.simulators_bench")
    parser.add_argument("--flower", default="", help="an interpreter that has Flower")
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--executed", action="store_true", help="signatures and ledgers, too")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print."""
    given = parse(arguments)
    scenario = job(given.sites, given.rounds)
    lines = [Measured("this simulator, signatures counted", ours(scenario), "site-rounds/s")]
    if given.executed:
        executed = ours(replace(scenario, signatures="executed"))
        lines.append(Measured("this simulator, everything executed", executed, "site-rounds/s"))
    if given.flower:
        other = flower(given.flower, given.sites, given.rounds)
        lines.append(Measured("Flower's simulation", other, "site-rounds/s"))
        lines.append(Measured("counted, compared with Flower", lines[0].value / other, "×"))
    print(machine())
    for line in lines:
        print(f"{line.what:<40} {line.value:10.1f} {line.unit}")
    write_json(given.json, {"site-rounds per second": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
