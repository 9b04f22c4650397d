"""Sweeps that are broken off in the middle of a combination go on to the same files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.lab.play import Progress
from simulations.lab.reading import read_scenario
from simulations.lab.results import SUMMARY
from simulations.lab.sweeps import Cell, Workplace, cells_of, conclude, run_cells
from simulations.lab.terms import Scenario, Sweep

SCENARIO = b"""
[scenario]
name = "broken-off"
sites = 4
rounds = 3
[data]
rows = 20
features = 4
[averaging]
topology = "complete"
[training]
learning_rate = 0.2
[sweep]
seed = [1, 2, 3]
"""
TIMES = ("wall_s", "cpu_s", "site_rounds_per_s")


def parsed() -> tuple[Scenario, Sweep]:
    return read_scenario(SCENARIO)


def played(folder: Path, broken_off_in: int = -1, by: int = signal.SIGINT) -> list[bool]:
    """Run the sweep; a signal comes in the middle of one combination. Which were done before?"""
    scenario, sweep = parsed()

    def progress(number: int, _cell: Cell) -> Progress:
        def look(done: int, total: int) -> None:
            if number == broken_off_in and 0 < done < total:
                os.kill(os.getpid(), by)

        return look

    found = list(run_cells(folder, cells_of(scenario, sweep), Workplace(), progress))
    conclude(folder, sweep, [(cell, summary) for cell, summary, _ in found])
    return [was_done for _, _, was_done in found]


def files_of(folder: Path) -> dict[str, object]:
    """Everything in the folder; of summaries all but how long it took."""
    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name != SUMMARY:
            found[name] = path.read_bytes()
            continue
        summary = json.loads(path.read_text())
        found[name] = {key: value for key, value in summary.items() if key not in TIMES}
    return found


@pytest.fixture(scope="module")
def never_broken_off(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    assert played(folder) == [False, False, False]
    return files_of(folder)


def test_a_sweep_that_was_interrupted_goes_on_to_the_same_files(
    tmp_path: Path, never_broken_off: dict[str, object]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path, broken_off_in=1)
    assert files_of(tmp_path) != never_broken_off
    assert played(tmp_path) == [True, False, False]
    assert files_of(tmp_path) == never_broken_off


def test_a_sweep_that_was_killed_goes_on_to_the_same_files(
    tmp_path: Path, never_broken_off: dict[str, object]
) -> None:
    code = (
        "import pathlib, signal, test_sim_sweeps as here\n"
        f"here.played(pathlib.Path({str(tmp_path)!r}), broken_off_in=1, by=signal.SIGKILL)\n"
    )
    folders = (Path(__file__).parents[2], Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert played(tmp_path) == [True, False, False]
    assert files_of(tmp_path) == never_broken_off


def test_results_that_were_only_half_written_are_computed_again(
    tmp_path: Path, never_broken_off: dict[str, object]
) -> None:
    played(tmp_path)
    (tmp_path / "2" / SUMMARY).write_bytes((tmp_path / "2" / SUMMARY).read_bytes()[:40])
    (tmp_path / "3" / SUMMARY).unlink()
    (tmp_path / "3" / "rounds.csv").write_text("round,conse")
    assert played(tmp_path) == [True, False, False]
    assert files_of(tmp_path) == never_broken_off
