"""Following one study through the node's log until it ends here."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from p2pfl.cli.context import say, short
from p2pfl.cli.transfers_shown import Fetched, Lines, Looker

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from p2pfl.cli.logs import Printer
    from p2pfl.core.history import StudyHistory
    from p2pfl.core.manifest import Manifest
    from p2pfl.runtime.home import Home
    from p2pfl.runtime.node_log import Follower, LogLine

LOOK_EVERY_S: Final = 0.2
NODE_EVERY_LOOKS: Final = 15
TRANSFERS_EVERY_LOOKS: Final = 5
NODE_MISSED_MAX: Final = 3
LINES_BEFORE: Final = 3
COMPLETE: Final = "study_complete"
LEFT: Final = "study_left"


class Screen(Protocol):
    """Where lines and transfers are shown."""

    def show(self, line: LogLine) -> None:
        """A line of the log."""

    def fetching(self, fetched: Sequence[Fetched]) -> None:
        """What is on its way now."""


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
    looker = Looker(home, study.hex(), time.monotonic)
    with _screen(manifest, past, as_json=as_json) as screen:
        for line in last_lines(iter(past), LINES_BEFORE):
            screen.show(line)
        if ended is None:
            seen = {line.raw for line in past}
            ended = _until_it_ends(home, study.hex(), follower, screen, seen, looker)
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


def _until_it_ends(
    home: Home, study: str, follower: Follower, screen: Screen, seen: set[str], looker: Looker
) -> Ended:
    from p2pfl.runtime.control_call import node_is_running

    looks, missing = 0, 0
    while True:
        for line in follower.new_lines():
            if line.text("study") != study:
                continue
            if line.raw not in seen:  # what was shown as past still counts as an end
                screen.show(line)
            if line.event in (COMPLETE, LEFT):
                how = "It is complete." if line.event == COMPLETE else "This site left it."
                return Ended(0 if line.event == COMPLETE else 1, how)
        time.sleep(LOOK_EVERY_S)
        looks += 1
        if looks % TRANSFERS_EVERY_LOOKS == 0:
            screen.fetching(looker.look())
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
def _screen(manifest: Manifest, past: list[LogLine], *, as_json: bool) -> Iterator[Screen]:
    """Lines below each other; on a terminal with progress bars that stay at the bottom."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from p2pfl.cli.logs import Printer

    printer = Printer(as_json=as_json, of_one_study=True)
    console = Console(highlight=False, markup=False)
    if as_json or not console.is_terminal:
        yield Piped(printer, manifest.study_id.hex(), as_json=as_json)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bars = Bars(printer, progress, manifest.study.name, manifest.study.rounds_total)
        for line in past:
            bars.advance(line)
        yield bars


class Piped:
    """Lines alone."""

    def __init__(self, printer: Printer, study: str, *, as_json: bool) -> None:
        self._printer = printer
        self._study = study
        self._transfers = Lines(self._say_json if as_json else lambda one: say(one.words))

    def show(self, line: LogLine) -> None:
        """A line of the log."""
        from p2pfl.cli.logs import flush

        self._printer.show(line)
        flush()

    def fetching(self, fetched: Sequence[Fetched]) -> None:
        """What is on its way now."""
        self._transfers.show(time.monotonic(), fetched)

    def _say_json(self, one: Fetched) -> None:
        said = {
            "event": "fetching",
            "study": self._study,
            "name": one.name,
            "bytes": one.have_bytes,
            "of_bytes": one.of_bytes,
            "bytes_per_s": round(one.bytes_per_s),
        }
        say(json.dumps(said))


class Bars:
    """Lines above, a bar for the rounds and one for each model on its way below."""

    def __init__(self, printer: Printer, progress: Progress, name: str, rounds: int) -> None:
        self._printer = printer
        self._progress = progress
        self._rounds = progress.add_task(name, total=rounds)
        self._models: list[TaskID] = []

    def show(self, line: LogLine) -> None:
        """A line of the log."""
        self._printer.show(line)
        self.advance(line)

    def advance(self, line: LogLine) -> None:
        """As far as the line says."""
        task = next(one for one in self._progress.tasks if one.id == self._rounds)
        self._progress.update(self._rounds, completed=_rounds_done(line, task.completed))

    def fetching(self, fetched: Sequence[Fetched]) -> None:
        """What is on its way now, in kilobytes."""
        for bar in self._models:
            self._progress.remove_task(bar)
        self._models = [
            self._progress.add_task(
                f"{one.name}, kB ({one.bytes_per_s / 1e6:.1f} MB/s)",
                total=one.of_bytes // 1000,
                completed=one.have_bytes // 1000,
            )
            for one in fetched
        ]


def _rounds_done(line: LogLine, before: float) -> float:
    number = line.number("round") if line.event == "round_done" else None
    return before if number is None else number + 1
