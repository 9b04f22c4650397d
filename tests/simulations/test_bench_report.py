"""How benchmarks look: lines, goals, exit status, JSON."""

import json
from pathlib import Path

import pytest

from simulations.benchmarks.report import (
    Measured,
    at_least,
    at_most,
    exit_status,
    machine,
    percentile,
    print_section,
    spread,
    table,
    write_json,
)


def test_a_limit_is_met_at_the_limit_and_missed_above_it() -> None:
    assert at_most("round", 0.25, "s", 0.25).met is True
    assert at_most("round", 0.26, "s", 0.25).met is False
    assert at_least("rate", 8000, "1/s", 8000).met is True
    assert at_least("rate", 7999, "1/s", 8000).met is False


def test_the_table_says_goal_and_verdict_where_there_is_a_goal() -> None:
    measured = [Measured("memory", 1234.5, "MB"), Measured("score", 0.85, "AUC")]
    lines = table([at_most("round", 0.5, "s", 0.25), *measured, Measured("faults", 2.0, "")])
    assert lines[0].split() == ["round", "0.500", "s", "≤", "0.25", "MISSED"]
    assert lines[1].split() == ["memory", "1,234.500", "MB"]
    assert [line.split()[1] for line in lines[2:]] == ["0.8500", "2"]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1.0), (0.5, 2.0), (0.51, 3.0), (0.95, 4.0), (1.0, 4.0)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_a_sample_is_shown_as_median_and_95th_percentile() -> None:
    median, high = spread("start", [1.0, 2.0, 3.0, 10.0], "s")
    assert (median.value, high.value) == (2.5, 10.0)
    assert median.what == "start, median of 4"


def test_a_missed_goal_is_an_exit_status() -> None:
    fine, missed = at_most("a", 1, "s", 2), at_most("b", 3, "s", 2)
    assert exit_status({"one": [fine], "two": [Measured("c", 9, "s")]}) == 0
    assert exit_status({"one": [fine], "two": [missed]}) == 1


def test_numbers_are_written_with_where_they_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [at_most("Größe", 1.0, "s", 2)]
    write_json(None, {"none": lines})
    write_json(tmp_path / "numbers.json", {"one": lines})
    print_section("one", lines)
    read = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    assert read["measured"]["one"][0]["met"] is True
    assert "cores" in read["machine"]
    assert "cores" in machine()
    assert "Größe" in capsys.readouterr().out
