"""The watcher between two clocks: what is written while it looks at the past is not missed."""

from __future__ import annotations

import json
from pathlib import Path

from p2pfl.cli.study_following import COMPLETE, LEFT, Ended, _until_it_ends
from p2pfl.runtime.home import Home
from p2pfl.runtime.node_log import Follower, LogLine

STUDY = "ab" * 32


def line(event: str, study: str = STUDY) -> str:
    return json.dumps({"event": event, "level": "info", "timestamp": "t", "study": study})


def ended(tmp_path: Path, *lines: str, seen: set[str]) -> tuple[Ended, list[str]]:
    home, shown = Home(tmp_path), list[str]()
    home.logs.mkdir()
    follower = Follower(home.node_log, from_start=False)
    home.node_log.write_text("\n".join(lines) + "\n")

    def show(found: LogLine) -> None:
        shown.append(found.event)

    return _until_it_ends(home, STUDY, follower, show, seen), shown


def test_an_end_that_was_already_shown_still_ends_the_watch(tmp_path: Path) -> None:
    """It was written after the log's end was marked, and read again as part of the past."""
    end, shown = ended(tmp_path, line(COMPLETE), seen={line(COMPLETE)})
    assert (end.exit_code, shown) == (0, [])


def test_other_studies_are_neither_shown_nor_an_end(tmp_path: Path) -> None:
    lines = (line(COMPLETE, "cd" * 32), line("round_done"), line(LEFT))
    end, shown = ended(tmp_path, *lines, seen=set())
    assert (end.exit_code, shown) == (1, ["round_done", LEFT])
