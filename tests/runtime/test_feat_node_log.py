"""Reading a log that grows, is rotated, and holds what a crash cut."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.runtime.home import Home
from p2pfl.runtime.node_log import Follower, last_lines, log_lines, parse_line


def line(event: str, **fields: object) -> str:
    named = {"event": event, "level": "info", "timestamp": "2030-01-02T03:04:05Z", **fields}
    return json.dumps(named) + "\n"


def events(follower: Follower) -> list[str]:
    return [found.event for found in follower.new_lines()]


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.logs.mkdir()
    home.node_log.with_name("node.jsonl.2").write_text(line("a"))
    home.node_log.with_name("node.jsonl.1").write_text(line("b") + "half a li")
    home.node_log.write_text(line("c") + "[1]\n" + line("d"))
    assert [found.event for found in log_lines(home)] == ["a", "b", "c", "d"]
    assert [found.event for found in last_lines(log_lines(home), 2)] == ["c", "d"]


def test_new_lines_come_whole_and_once(tmp_path: Path) -> None:
    log = tmp_path / "node.jsonl"
    log.write_text(line("old"))
    follower = Follower(log, from_start=False)
    assert events(follower) == []
    text = line("new")
    with log.open("a") as file:
        file.write(text[:10])
        file.flush()
        assert events(follower) == []
        file.write(text[10:])
    assert events(follower) == ["new"]
    assert events(follower) == []
    assert events(Follower(log, from_start=True)) == ["old", "new"]


def test_a_rotation_loses_no_line(tmp_path: Path) -> None:
    log = tmp_path / "node.jsonl"
    log.write_text(line("a"))
    follower = Follower(log, from_start=True)
    assert events(follower) == ["a"]
    with log.open("a") as file:
        file.write(line("b"))
    log.rename(tmp_path / "node.jsonl.1")
    log.write_text(line("c"))
    assert events(follower) == ["b", "c"]


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "node.jsonl", from_start=False)
    assert events(follower) == []
    (tmp_path / "node.jsonl").write_text(line("first"))
    assert events(follower) == ["first"]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(raw: bytes) -> None:
    parse_line(raw)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_fields_of_any_type_have_a_text_and_a_number(value: object) -> None:
    found = parse_line(line("event", field=value).encode())
    assert found is not None
    assert isinstance(found.text("field"), str)
    assert found.number("field") is None or isinstance(found.number("field"), float)
