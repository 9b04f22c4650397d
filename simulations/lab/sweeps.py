"""Runs a scenario, or every combination of its sweep, into a folder; goes on where it stopped."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simulations.lab.play import Played, Progress, play
from simulations.lab.results import finished, summary_of, write_results, write_sweep
from simulations.lab.terms import Scenario, Sweep, with_axis

Summary = dict[str, object]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination. values: on each axis, in the axes' order."""

    scenario: Scenario
    values: tuple[object, ...]

    @property
    def label(self) -> str:
        """The values, as people name the cell; also its folder's name."""
        return " ".join(str(value) for value in self.values)


def cells_of(scenario: Scenario, sweep: Sweep) -> list[Cell]:
    """Every combination of the axes' values; the scenario alone without axes."""
    found = []
    for values in itertools.product(*sweep.values()):
        changed = scenario
        for axis, value in zip(sweep, values, strict=True):
            changed = with_axis(changed, axis, value)
        found.append(Cell(changed, values))
    return found


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where it is computed."""

    engine: str = "process"
    places: int = 0
    address: str = ""


def run_cells(
    folder: Path,
    cells: list[Cell],
    workplace: Workplace,
    progress: Callable[[int, Cell], Progress],
) -> Iterator[tuple[Cell, Summary, bool]]:
    """Play every cell that is not done yet. Yields (cell, summary, whether it was done before).

    Raises DataRefused, PlanRefused, OperatorError."""
    from simulations.lab.plots import draw

    for number, cell in enumerate(cells):
        place = folder / cell.label.replace(" ", ",") if cell.values else folder
        known = finished(place, cell.scenario)
        if known is not None:
            yield cell, known, True
            continue
        played: Played = play(
            cell.scenario,
            engine=workplace.engine,
            places=workplace.places,
            address=workplace.address,
            progress=progress(number, cell),
        )
        place.mkdir(parents=True, exist_ok=True)
        draw(place / "rounds.png", played)
        write_results(place, played)
        yield cell, summary_of(played), False


def conclude(folder: Path, sweep: Sweep, found: list[tuple[Cell, Summary]]) -> None:
    """Write a sweep's table and picture."""
    from simulations.lab.plots import draw_sweep

    rows = []
    for cell, summary in found:
        final = numbers_of(summary)
        named = ("accuracy_mean", "accuracy_worst", "auc_mean", "consensus_distance")
        numbers = (final.get(name) for name in named)
        rows.append((*cell.values, *numbers, summary["bytes_out_mean"]))
    write_sweep(folder, tuple(sweep), rows)
    labels = [cell.label for cell, _ in found]
    means = [numbers_of(summary).get("accuracy_mean") or 0.0 for _, summary in found]
    worsts = [numbers_of(summary).get("accuracy_worst") or 0.0 for _, summary in found]
    draw_sweep(folder / "sweep.png", labels, means, worsts)


def numbers_of(summary: Summary) -> dict[str, float | None]:
    """The final numbers of a summary; null is None."""
    final = summary["final"]
    return dict(final) if isinstance(final, dict) else {}
