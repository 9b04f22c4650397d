"""`p2pfl logs`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import JsonOption, opened_home, say, say_wrapped

if TYPE_CHECKING:
    from p2pfl.runtime.home import Home
    from p2pfl.runtime.node_log import LogLine

LOOK_EVERY_S = 0.2

app = typer.Typer(rich_markup_mode=None)


@app.command()
def logs(
    context: typer.Context,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")
    ] = 30,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    event: Annotated[str, typer.Option(help="Only this event, like round_done.")] = "",
    json: JsonOption = False,
) -> None:
    """What the node did, in readable lines; times are UTC. With --json: its JSON lines."""
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.node_log import last_lines, require_log

    home = opened_home(context)
    require_log(home)
    shown = Printer(as_json=json)
    if follow:
        _follow(home, count, event, shown)
        return
    found = last_lines(_chosen(home, event), count)
    with paged(2 * len(found)):
        for line in found:
            shown.show(line)
    if not found and event and not json:
        known = sorted({line.event for line in _chosen(home, "")})
        words = ", ".join(known) or "nothing yet"
        say_wrapped(f'No line about "{event}". The log knows: {words}.')


class Printer:
    """Prints lines, and the date where it changes."""

    def __init__(self, *, as_json: bool, of_one_study: bool = False) -> None:
        self._as_json = as_json
        self._of_one_study = of_one_study
        self._day = ""

    def show(self, line: LogLine) -> None:
        """Print one line."""
        from p2pfl.cli import log_text

        if self._as_json:
            say(line.raw)
            return
        if log_text.day_of(line) != self._day:
            self._day = log_text.day_of(line)
            say(f"{self._day} (UTC)")
        say(log_text.shown(line, of_one_study=self._of_one_study))


def _follow(home: Home, count: int, event: str, shown: Printer) -> None:
    from p2pfl.runtime.node_log import Follower, last_lines

    # The end is marked before the past is read: a line between the two is shown twice, never lost.
    follower = Follower(home.node_log, from_start=False)
    past = last_lines(_chosen(home, event), count)
    for line in past:
        shown.show(line)
    seen = {line.raw for line in past}
    try:
        while True:
            for line in follower.new_lines():
                if (not event or line.event == event) and line.raw not in seen:
                    shown.show(line)
            flush()
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return  # that is how one stops following


def _chosen(home: Home, event: str) -> Iterator[LogLine]:
    from p2pfl.runtime.node_log import log_lines

    return (line for line in log_lines(home) if not event or line.event == event)


def flush() -> None:
    """Let whoever reads a pipe see each line at once."""
    import sys

    sys.stdout.flush()
