"""`p2pfl simulate`: a study with many sites, on this machine or on a Ray cluster."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from p2pfl.cli.context import say, say_table

if TYPE_CHECKING:
    from simulations.lab.play import Progress
    from simulations.lab.sweeps import Cell, Summary
    from simulations.lab.terms import Scenario, Sweep

app = typer.Typer(rich_markup_mode=None)


@app.command("simulate")
def simulate(
    scenario: Annotated[Path, typer.Argument(help="A scenario file; see docs/simulator.md.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results [default: simulated/NAME].")
    ] = None,
    engine: Annotated[
        Literal["process", "pool", "ray"],
        typer.Option(help="Train where sites are played, in a pool of processes, or on Ray."),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Processes; results do not depend on it [default: one, or one per core where "
            "sites are many].",
            show_default=False,
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Of a running Ray cluster [default: one on this machine].")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Run a study's whole life with simulated sites: the node's own core, averaging and training.

    Results that are in the folder already are not computed again: an interrupted sweep goes on.
    """
    from simulations.lab.sweeps import Workplace, cells_of, conclude, run_cells

    study, sweep = _read(scenario)
    folder = out or Path("simulated") / study.name
    cells = cells_of(study, sweep)
    found: list[tuple[Cell, Summary]] = []
    with _Progress(len(cells)) as progress:
        done = run_cells(folder, cells, Workplace(engine, workers or 0, address), progress.of)
        try:
            for cell, summary, was_done in done:
                found.append((cell, summary))
                if was_done and not json:
                    say(f"{cell.label or study.name}: done before, in {folder}")
        except Exception as error:
            raise _explained(error) from error
    if sweep:
        conclude(folder, sweep, found)
    if json:
        say(json_module.dumps([summary for _, summary in found], indent=2, ensure_ascii=False))
    else:
        _tell(folder, study.name, found)


def _read(path: Path) -> tuple[Scenario, Sweep]:
    from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
    from simulations.lab.reading import read_scenario

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be read: {error.strerror}.",
            fix="Name a scenario file; simulations/scenarios has one for each use.",
            exit_code=EXIT_NO_INPUT,
        ) from None
    try:
        return read_scenario(raw)
    except Exception as error:
        raise _explained(error) from error


def _explained(error: Exception) -> Exception:
    """What to do about a scenario that cannot be played; the error itself if it is ours."""
    from p2pfl.averaging import AveragingError
    from p2pfl.core.errors import ManifestError
    from p2pfl.learning.errors import LearningError
    from p2pfl.runtime.errors import EXIT_DATA, OperatorError, as_sentence

    if not isinstance(error, ManifestError | LearningError | AveragingError):
        return error
    return OperatorError(
        as_sentence(f"The scenario is refused: {error}"),
        fix="Correct the file; docs/simulator.md explains every key.",
        exit_code=EXIT_DATA,
    )


def _tell(folder: Path, name: str, found: list[tuple[Cell, Summary]]) -> None:
    from simulations.lab.sweeps import numbers_of

    rows = []
    for cell, summary in found:
        final = numbers_of(summary)
        mean, worst = final.get("accuracy_mean"), final.get("accuracy_worst")
        distance = final.get("consensus_distance")
        rows.append(
            [
                cell.label or name,
                "-" if mean is None else f"{mean:.3f}",
                "-" if worst is None else f"{worst:.3f}",
                "-" if distance is None else f"{distance:.1e}",
                f"{summary['site_rounds_per_s']}",
                "yes" if summary["complete"] else "no",
            ]
        )
    headers = ["scenario", "accuracy", "worst site", "distance", "site-rounds/s", "complete"]
    say_table(headers, rows)
    say(f"Tables and pictures: {folder}")


class _Progress:
    """A bar per cell, on a terminal only."""

    def __init__(self, cells: int) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        console = Console(stderr=True, highlight=False, markup=False)
        self._cells = cells
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.completed}/{task.total} site-rounds"),
            rich_progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._bar.stop()

    def of(self, number: int, cell: Cell) -> Progress:
        """What a cell reports its progress to."""
        words = f"{number + 1}/{self._cells} {cell.label or cell.scenario.name}"
        task = self._bar.add_task(words, total=None)

        def report(done: int, total: int) -> None:
            self._bar.update(task, completed=done, total=total)

        return report
