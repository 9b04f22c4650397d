"""Following one study through the node's log until it ends here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2pfl.cli.context import say, short

if TYPE_CHECKING:
    from p2pfl.core.history import StudyHistory
    from p2pfl.core.manifest import Manifest
    from p2pfl.runtime.home import Home
    from p2pfl.runtime.node_log import Follower, LogLine

LOOK_EVERY_S: Final = 0.2
NODE_EVERY_LOOKS: Final = 15
NODE_MISSED_MAX: Final = 3
LINES_BEFORE: Final = 3
COMPLETE: Final = "study_complete"
LEFT: Final = "study_left"

Show = Callable[["LogLine"], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the study ended here."""

    exit_code: int
    sentence: str


def watch_study(home: Home, prefix: str, *, as_json: bool) -> int:
    """Show the study's lines until it ends. Returns 0 if it completed, 1 if it was left.

    Raises OperatorError if the study is unknown, or no node runs that could go on with it.
    """
    from p2pfl.runtime.commands.opening import read_history
    from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
    from p2pfl.runtime.node_log import Follower, last_lines, log_lines

    # The log's end is marked before the ledger is read: an end between the two is seen in one.
    follower = Follower(home.node_log, from_start=False)
    history = read_history(home)
    study = find_study(home, history, prefix)
    manifest = read_manifest(home, study)
    past = [line for line in log_lines(home) if line.text("study") == study.hex()]
    ended = _ended_on_record(history.study(study), manifest)
    if ended is None:
        _require_node(home)
    with _screen(manifest, past, as_json=as_json) as show:
        for line in last_lines(iter(past), LINES_BEFORE):
            show(line)
        if ended is None:
            ended = _until_it_ends(home, study.hex(), follower, show, {line.raw for line in past})
    if not as_json:
        say(ended.sentence)
        say(f"Next: p2pfl study results {short(study)}")
    return ended.exit_code


def _ended_on_record(past: StudyHistory, manifest: Manifest) -> Ended | None:
    from p2pfl.core.history import Standing

    name = manifest.study.name
    match past.standing:
        case Standing.CLOSED if past.released is not None:
            return Ended(0, f"{name} is complete here.")
        case Standing.CLOSED:
            return Ended(1, f"{name} is closed here, without a model: {past.closed_reason}.")
        case Standing.REFUSED | Standing.REVOKED:
            return Ended(1, f"{name} does not run here: it is {past.standing.value}.")
    return None


def _until_it_ends(home: Home, study: str, follower: Follower, show: Show, seen: set[str]) -> Ended:
    from p2pfl.runtime.control_call import node_is_running

    looks, missing = 0, 0
    while True:
        for line in follower.new_lines():
            if line.text("study") != study:
                continue
            if line.raw not in seen:  # what was shown as past still counts as an end
                show(line)
            if line.event in (COMPLETE, LEFT):
                how = "It is complete." if line.event == COMPLETE else "This site left it."
                return Ended(0 if line.event == COMPLETE else 1, how)
        time.sleep(LOOK_EVERY_S)
        looks += 1
        if looks % NODE_EVERY_LOOKS == 0:
            missing = 0 if node_is_running(home) else missing + 1
            if missing >= NODE_MISSED_MAX:  # a restart takes a few seconds
                _require_node(home)


def _require_node(home: Home) -> None:
    from p2pfl.runtime.control_call import node_is_running
    from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

    if not node_is_running(home):
        raise OperatorError(
            f"No node runs on {home.path}, so the study does not go on here.",
            fix=f"Start it with `p2pfl --home {home.path} node start`; the study resumes by "
            "itself.",
            exit_code=EXIT_UNAVAILABLE,
        )


@contextlib.contextmanager
def _screen(manifest: Manifest, past: list[LogLine], *, as_json: bool) -> Iterator[Show]:
    """Lines below each other; on a terminal with a progress bar that stays at the bottom."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from p2pfl.cli.logs import Printer, flush

    printer = Printer(as_json=as_json, of_one_study=True)
    console = Console(highlight=False, markup=False)
    if as_json or not console.is_terminal:

        def show_line(line: LogLine) -> None:
            printer.show(line)
            flush()

        yield show_line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task(manifest.study.name, total=manifest.study.rounds_total)

        def show_and_advance(line: LogLine) -> None:
            printer.show(line)
            progress.update(bar, completed=_rounds_done(line, progress.tasks[0].completed))

        for line in past:
            progress.update(bar, completed=_rounds_done(line, progress.tasks[0].completed))
        yield show_and_advance


def _rounds_done(line: LogLine, before: float) -> float:
    number = line.number("round") if line.event == "round_done" else None
    return before if number is None else number + 1
