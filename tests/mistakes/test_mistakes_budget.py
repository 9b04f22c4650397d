"""Ways to get a spent budget back, none of which works."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import done, p2pfl, write_table

from ledger.provenance import kinds
from p2pfl.cli.context import now_us
from p2pfl.runtime.commands.opening import open_site
from p2pfl.runtime.home import Home

NONE = kinds.DpTerms("none", "0", "0", 0, "0", "0", "none", "")


def train_once(home: Path) -> None:
    """Put on record that something was computed from `patients`: from now on it counts."""
    ds = bytes.fromhex(done("data", "show", "patients", "--home", home, "--json").json["ds"])
    some = hashlib.sha256(b"").digest()
    with open_site(Home(home), purpose="test", now_us=now_us) as site:
        spent = kinds.TrainDone(
            *(some, 0, ds, some, some, some, some, some, some, NONE), eps_u=0, eps_total_u=0
        )
        site.record(spent.draft("node"))


def lines_of(stage: Stage) -> tuple[str, list[str]]:
    header, *lines = stage.table.read_text().splitlines()
    return header, lines


def add(stage: Stage, header: str, lines: list[str], *options: object) -> tuple[object, ...]:
    table = stage.path / "again.csv"
    table.write_text("\n".join([header, *lines]) + "\n")
    return ("data", "add", table, "--name", "again", *options)


def with_column(lines: list[str], values: list[object]) -> list[str]:
    return [f"{value},{line}" for line, value in zip(lines, values, strict=True)]


def test_same_file_under_another_name(row: Row, stage: Stage) -> None:
    stage.refused(row, "data", "add", stage.table, "--name", "again")


def test_rows_removed(row: Row, stage: Stage) -> None:
    header, lines = lines_of(stage)
    stage.refused(row, *add(stage, header, list(reversed(lines[30:]))))


def test_rows_added(row: Row, stage: Stage) -> None:
    header, lines = lines_of(stage)
    # Ages that nobody at the site has: the known patients are a fiftieth of the table.
    fresh = [f"{20 + index / 100},{index % 4 + 1},{index % 2}" for index in range(3000)]
    stage.refused(row, *add(stage, header, [*fresh, *lines]))


def test_columns_reordered_and_numbers_rewritten(row: Row, stage: Stage) -> None:
    _, lines = lines_of(stage)
    cells = [line.split(",") for line in lines]
    rewritten = [f"{num}.0,{float(age):.2f},0{cp}" for age, cp, num in cells]
    stage.refused(row, *add(stage, "num,age,cp", rewritten))


def test_column_added(row: Row, stage: Stage) -> None:
    header, lines = lines_of(stage)
    numbered = with_column(lines, list(range(len(lines))))
    stage.refused(row, *add(stage, f"pid,{header}", numbered, "--patient-column", "pid"))


def test_withdrawing_data_does_not_free_its_patients(row: Row, stage: Stage) -> None:
    train_once(stage.home)
    done("data", "revoke", "patients", "--home", stage.home)
    stage.refused(row, "data", "add", stage.table, "--name", "again")


@pytest.fixture
def visits(stage: Stage) -> tuple[str, list[str]]:
    """A registered table with pseudonyms, and wide enough that no two rows coincide."""
    header, lines = lines_of(stage)
    lines = with_column(lines, [f"{index * 7.5}" for index in range(len(lines))])
    named = with_column(lines, [f"p{index}" for index in range(len(lines))])
    table = stage.path / "visits.csv"
    table.write_text("\n".join([f"pid,weight,{header}", *named]) + "\n")
    done("data", "revoke", "patients", "--home", stage.home)
    words = ("data", "add", table, "--name", "visits", "--patient-column", "pid")
    done(*words, "--home", stage.home)
    return f"weight,{header}", lines


def test_one_patient_again(row: Row, stage: Stage, visits: tuple[str, list[str]]) -> None:
    header, _ = visits
    fresh = [f"q{index},{index},{20 + index},1,{index % 2}" for index in range(40)]
    lines = [*fresh, "p3,1,50,1,1"]
    stage.refused(row, *add(stage, f"pid,{header}", lines, "--patient-column", "pid"))


def test_pseudonyms_dropped(row: Row, stage: Stage, visits: tuple[str, list[str]]) -> None:
    header, lines = visits
    stage.refused(row, *add(stage, header, lines[1:]))


def test_pseudonyms_renamed(row: Row, stage: Stage, visits: tuple[str, list[str]]) -> None:
    header, lines = visits
    renamed = with_column(lines[1:], [f"new{index}" for index in range(len(lines) - 1)])
    stage.refused(row, *add(stage, f"pid,{header}", renamed, "--patient-column", "pid"))


def test_most_columns_removed(row: Row, stage: Stage, visits: tuple[str, list[str]]) -> None:
    header, lines = visits
    names = header.split(",")[:2]
    cut = [",".join(line.split(",")[:2]) for line in lines]
    ran = p2pfl(*add(stage, ",".join(names), cut), "--home", stage.home)
    assert ran.code == int(row.code)
    assert row.says in " ".join(ran.out.split())


def test_a_column_removed(row: Row, stage: Stage, visits: tuple[str, list[str]]) -> None:
    header, lines = visits
    names = header.split(",")[:-1]
    cut = [line.rpartition(",")[0] for line in lines]
    stage.refused(row, *add(stage, ",".join(names), cut))


def test_other_patients_are_welcome(stage: Stage) -> None:
    train_once(stage.home)
    table = write_table(stage.path / "other.csv", rows=60, seed=99)
    wide = [f"{line},{index}" for index, line in enumerate(table.read_text().splitlines()[1:])]
    lines = [f"{float(line.split(',')[0]) + 0.25},{line.partition(',')[2]}" for line in wide]
    done(*add(stage, "age,cp,num,extra", lines), "--home", stage.home)
