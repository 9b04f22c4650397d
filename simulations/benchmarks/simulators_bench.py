"""Site-rounds per second of this simulator and of others', the same job, in the same run.

    python -m simulations.benchmarks.simulators_bench --others FOLDER [--sites 50] [--rounds 10]

Job: made-up tables of 40 rows × 10 columns, a network with 16 hidden units, 5 full-batch steps a
round, everybody in every round. Ours averages robustly on a random graph of degree 6 and plays
every node's state machine; with `--executed` it signs and writes ledgers, too. Flower averages at
one place; PyPI's `p2pfl`, which is somebody else's, gossips between threads. Start-up is not
counted, on any side. FOLDER: where each of the others gets an environment of its own, once, with
torch; what pip needs to know (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CONSTRAINT) it reads from the
environment as always. One that cannot be installed or does not finish is named, with the reason.
"""

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2pfl.learning.plans.arguments import Arguments
from simulations.benchmarks.report import Measured, machine, write_json
from simulations.lab.play import play
from simulations.lab.terms import Averaging, DataSource, Scenario

ROWS, FEATURES, HIDDEN, STEPS = 40, 10, 16, 5
LIMIT_S = 600.0
INSTALL_LIMIT_S = 1800.0
TORCH = "torch==2.13.0"
SAID_MAX = 2000


@dataclass(frozen=True, slots=True)
class Other:
    """A simulator that is compared. job: run by the Python of its own environment."""

    name: str
    requirements: tuple[str, ...]
    job: str


FLOWER = Other("Flower", ("flwr[simulation]", TORCH), "flower_job.py")
# It does not say that it needs opendp, and its NumPy is older than what newer pyarrow works with.
PYPI_P2PFL = Other(
    "PyPI's p2pfl",
    ("p2pfl==0.4.4", "opendp<0.15", "pyarrow<19", "huggingface_hub<0.26", TORCH),
    "pypi_p2pfl_job.py",
)


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


def python_of(folder: Path, other: Other) -> str:
    """The Python of another simulator's environment, made if it is not there yet.

    Raises RuntimeError with the end of what pip said."""
    place = folder.resolve() / other.job.removesuffix("_job.py")
    python, is_ready = place / "bin" / "python", place / "ready"
    if not is_ready.exists():
        venv.create(place, with_pip=True, clear=True)
        _said([str(python), "-m", "pip", "install", "-q", *other.requirements], INSTALL_LIMIT_S)
        is_ready.touch()
    return str(python)


def theirs(python: str, other: Other, sites: int, rounds: int) -> float:
    """Site-rounds per second of wall time. Raises RuntimeError with the end of what it said."""
    terms = (sites, rounds, ROWS, FEATURES, HIDDEN, STEPS)
    job_file = Path(__file__).resolve().with_name(other.job)
    said = _said([python, "-I", str(job_file), *map(str, terms)], LIMIT_S)
    seconds = [line.split()[1] for line in said.splitlines() if line.startswith("SECONDS ")]
    if not seconds:
        raise RuntimeError(f"it did not finish: {said[-SAID_MAX:]}")
    return sites * rounds / float(seconds[0])


def _said(command: list[str], limit_s: float) -> str:
    """Away from this package: one of the others has the same name."""
    try:
        ran = subprocess.run(  # noqa: S603 - made of this file's own words
            command,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            cwd=Path(command[0]).parent,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(str(error)) from error
    if ran.returncode != 0:
        raise RuntimeError((ran.stdout + ran.stderr)[-SAID_MAX:])
    return ran.stdout


def compared(folder: Path, sites: int, rounds: int, own: float) -> list[Measured]:
    """The others' lines; who cannot be measured is named with the reason."""
    lines = []
    for other in (FLOWER, PYPI_P2PFL):
        try:
            found = theirs(python_of(folder, other), other, sites, rounds)
        except RuntimeError as error:
            print(f"{other.name} cannot be compared here: {error}", file=sys.stderr)
            continue
        lines.append(Measured(f"{other.name}'s simulation", found, "site-rounds/s"))
        lines.append(Measured(f"counted, compared with {other.name}", own / found, "×"))
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="simulations.benchmarks.simulators_bench")
    parser.add_argument("--others", type=Path, help="a folder for the others' environments")
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
    if given.others:
        lines += compared(given.others, given.sites, given.rounds, lines[0].value)
    print(machine())
    for line in lines:
        print(f"{line.what:<40} {line.value:10.1f} {line.unit}")
    write_json(given.json, {"site-rounds per second": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
