"""The watcher between two clocks: what is written while it looks at the past is not missed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from p2pfl.cli.study_following import COMPLETE, LEFT, Ended, _until_it_ends
from p2pfl.cli.transfers_shown import Fetched, Lines, Looker, Rates
from p2pfl.runtime.home import Home
from p2pfl.runtime.node_log import Follower, LogLine

STUDY = "ab" * 32


def line(event: str, study: str = STUDY) -> str:
    return json.dumps({"event": event, "level": "info", "timestamp": "t", "study": study})


class Shown:
    """A screen that remembers the names of lines."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def show(self, line: LogLine) -> None:
        self.events.append(line.event)

    def fetching(self, fetched: Sequence[Fetched]) -> None:
        self.events += [one.words for one in fetched]


def ended(tmp_path: Path, *lines: str, seen: set[str]) -> tuple[Ended, list[str]]:
    home, shown = Home(tmp_path), list[str]()
    home.logs.mkdir()
    follower = Follower(home.node_log, from_start=False)
    home.node_log.write_text("\n".join(lines) + "\n")

    looker = Looker(home, STUDY, lambda: 0.0)
    return _until_it_ends(home, STUDY, follower, Shown(shown), seen, looker), shown


def test_an_end_that_was_already_shown_still_ends_the_watch(tmp_path: Path) -> None:
    """It was written after the log's end was marked, and read again as part of the past."""
    end, shown = ended(tmp_path, line(COMPLETE), seen={line(COMPLETE)})
    assert (end.exit_code, shown) == (0, [])


def test_other_studies_are_neither_shown_nor_an_end(tmp_path: Path) -> None:
    lines = (line(COMPLETE, "cd" * 32), line("round_done"), line(LEFT))
    end, shown = ended(tmp_path, *lines, seen=set())
    assert (end.exit_code, shown) == (1, ["round_done", LEFT])


def transfer(have: int, name: str = "south") -> dict[str, object]:
    return {"name": name, "study": STUDY, "bytes": have, "of_bytes": 100_000_000}


def test_what_is_fetched_is_told_with_its_rate_from_the_second_look_on() -> None:
    rates = Rates()
    assert [one.words for one in rates.look(0.0, [transfer(1_000_000)])] == [
        "fetching from south: 1.0 of 100.0 MB"
    ]
    (second,) = rates.look(2.0, [transfer(9_000_000)])
    assert second.words == "fetching from south: 9.0 of 100.0 MB, 4.0 MB/s"
    (slower,) = rates.look(3.0, [transfer(10_000_000)])
    assert 1e6 < slower.bytes_per_s < 4e6
    (next_model,) = rates.look(4.0, [transfer(500_000)])
    assert next_model.bytes_per_s == 0.0
    assert rates.look(5.0, []) == []


def test_where_no_bar_can_move_there_is_a_line_every_ten_seconds() -> None:
    said: list[str] = []
    lines = Lines(lambda one: said.append(one.name))
    slow = Fetched("south", 5, 9, 1.0)
    lines.show(0.0, [Fetched("north", 5, 9, 0.0)])  # just begun: over in a moment, mostly
    for now_s in (1.0, 5.0, 10.9, 11.0):
        lines.show(now_s, [slow])
    assert said == ["south", "south"]


def test_a_node_that_does_not_answer_fetches_nothing(tmp_path: Path) -> None:
    assert Looker(Home(tmp_path), STUDY, lambda: 0.0).look() == []
