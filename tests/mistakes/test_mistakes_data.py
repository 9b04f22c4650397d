"""Tables that are not the table they are said to be, and datasets asked for too much."""

from __future__ import annotations

import pytest
from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import SCHEMA, Ran, done, p2pfl, write_table

HEADER = "age,cp,num\n"
ROWS = "".join(f"{20 + index},{index % 4 + 1},{index % 2}\n" for index in range(60))

CASES: dict[str, bytes] = {
    "column_is_missing": b"age,num\n50,1\n",
    "text_in_a_number": b"age,cp,num\nfifty,1,1\n",
    "decimal_comma": b'age,cp,num\n"50,5",1,1\n',
    "na_for_missing": b"age,cp,num\nNA,1,1\n",
    "file_is_empty": b"",
    "header_without_rows": HEADER.encode(),
    "wrong_separator": (HEADER + ROWS).replace(",", ";").encode(),
    "row_is_too_short": b"age,cp,num\n50,1\n",
    "two_columns_of_one_name": b"age,cp,cp,num\n50,1,1,1\n",
    "quotation_mark_left_open": b'age,cp,num\n"50,1,1\n' + ROWS.encode(),
    "label_is_missing": b"age,cp,num\n50,1,\n",
    "one_label_only": (HEADER + ROWS).replace(",0\n", ",1\n").encode(),
    "too_few_patients": b"age,cp,num\n50,1,1\n40,2,0\n",
    "not_utf8": "größe,cp,num\n1,2,1\n".encode("latin-1"),
    "spreadsheet": b"PK\x03\x04\x14\x00\x06\x00\xff\xfe",
    "nul_bytes": b"age,cp,num\n5\x000,1,1\n",
    "endless_line": b"age,cp,num\n" + b"1," * (1 << 20),
    "endless_cell": b"age,cp,num\n" + b"5" * 5000 + b",1,1\n",
}


def add(stage: Stage, content: bytes, *options: object) -> tuple[object, ...]:
    """The words that register a file of this content."""
    table, schema = stage.path / "mine.csv", stage.path / "schema.toml"
    table.write_bytes(content)
    schema.write_text(SCHEMA)
    return ("data", "add", table, "--name", "mine", "--schema", schema, *options)


@pytest.mark.parametrize("content", CASES.values(), ids=CASES.keys())
def test_each_table(row: Row, stage: Stage, content: bytes) -> None:
    ran = stage.refused(row, *add(stage, content))
    assert "fifty" not in ran.err
    assert not (stage.home / "data" / "mine").exists()


def test_several_rows_per_patient(row: Row, stage: Stage) -> None:
    lines = [f"p{index // 2},{line}" for index, line in enumerate(ROWS.splitlines())]
    content = "\n".join([f"pid,{HEADER.strip()}", *lines]) + "\n"
    words = add(stage, content.encode(), "--patient-column", "pid")
    said(row, p2pfl(*words, "--home", stage.home))


def test_values_outside_the_agreed_range(row: Row, stage: Stage) -> None:
    months = "".join(f"{240 + index},1,{index % 2}\n" for index in range(60))
    said(row, p2pfl(*add(stage, (HEADER + months).encode()), "--home", stage.home))


def test_same_row_twice(row: Row, stage: Stage) -> None:
    said(row, p2pfl(*add(stage, (HEADER + ROWS + ROWS).encode()), "--home", stage.home))


def said(row: Row, ran: Ran) -> None:
    """Nothing is refused, but it is said."""
    assert ran.code == int(row.code)
    assert row.says.replace("…", "60") in " ".join(ran.out.split())


def test_patient_column_is_missing(row: Row, stage: Stage) -> None:
    stage.refused(row, *add(stage, (HEADER + ROWS).encode(), "--patient-column", "pid"))


def test_patient_is_not_named(row: Row, stage: Stage) -> None:
    content = f"pid,{HEADER}p1,50,1,1\n,40,2,0\n"
    stage.refused(row, *add(stage, content.encode(), "--patient-column", "pid"))


def test_file_is_missing(row: Row, stage: Stage) -> None:
    stage.refused(row, "data", "add", stage.path / "nothing.csv", "--name", "mine")


def test_directory_holds_no_images(row: Row, stage: Stage) -> None:
    stage.refused(row, "data", "add", stage.path, "--name", "mine")


def test_unknown_schema_key(row: Row, stage: Stage) -> None:
    words = add(stage, (HEADER + ROWS).encode())
    stage.edit(stage.path / "schema.toml", "patients_min", "patient_min")
    stage.refused(row, *words)


def test_name_is_taken(row: Row, stage: Stage) -> None:
    table = write_table(stage.path / "more.csv", rows=60, seed=9)
    stage.refused(row, "data", "add", table, "--name", "patients")


def test_name_cannot_be_one(row: Row, stage: Stage) -> None:
    table = write_table(stage.path / "more.csv", rows=60, seed=9)
    stage.refused(row, "data", "add", table, "--name", "Our Patients")


def test_cap_above_the_policy(row: Row, stage: Stage) -> None:
    stage.refused(row, *add(stage, (HEADER + ROWS).encode(), "--epsilon-cap", "12"))


def test_free_text_for_the_ledger(row: Row, stage: Stage) -> None:
    words = add(stage, (HEADER + ROWS).encode(), "--legal-basis", "we asked Mrs Miller")
    stage.refused(row, *words)


def test_unknown_dataset(row: Row, stage: Stage) -> None:
    stage.refused(row, "data", "show", "patient")


def test_withdrawn_twice(row: Row, stage: Stage) -> None:
    done("data", "revoke", "patients", "--home", stage.home)
    stage.refused(row, "data", "revoke", "patients")
