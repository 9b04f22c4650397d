"""Looking at tables before they are registered: pandera's findings by place, never a value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from p2pfl.core.manifest_terms import (
    CategoryColumn,
    DataTerms,
    NumberColumn,
    SurvivalTarget,
    Target,
)
from p2pfl.learning.datasets.table_file import read_csv
from p2pfl.learning.datasets.table_preview import preview
from p2pfl.learning.datasets.tabular import prepare
from p2pfl.learning.errors import DataRefused

TERMS = DataTerms(
    "tabular",
    2,
    0.34,
    Target("sick", 0.0),
    (
        NumberColumn("age", 20.0, 90.0, 55.0, (0.0,)),
        CategoryColumn("stage", (1.0, 2.0), ()),
        NumberColumn("centre", 0.0, 5.0, 1.0, ()),
    ),
)
TEXT = """patient,age,stage,centre,birth_date,seen,sick
a,40,1,1,1961-04-12,2020-01-02,0
b,140,2,1,1962-04-12,2020-01-03,1
b,0,3,1,1963-04-12,2020-01-04,1
c,,?,1,1964-04-12,2020-01-05,0
d,old,1,1,1964-04-12,2020-01-05,0
"""


def test_what_does_not_fit_is_counted_and_placed_without_values(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(TEXT)
    seen = preview(file, TERMS, patient_column="patient")
    assert (seen["rows"], seen["patients"]) == (5, 4)
    assert seen["labels"] == {"negative": 3, "positive": 2}
    columns = {column["name"]: column for column in seen["columns"]}
    assert (columns["age"]["outside"], columns["age"]["first_line"]) == (2, 3)
    assert (columns["stage"]["outside"], columns["stage"]["missing"]) == (1, 1)
    assert [columns[name]["kind"] for name in ("patient", "seen", "sick")] == [
        "patient",
        "unused",
        "target",
    ]
    said = " / ".join(seen["warnings"])
    assert 'column "birth_date" is named like something personal' in said
    assert 'column "seen" holds what looks like a date' in said
    assert 'column "centre" says the same of every patient' in said
    assert "5 rows of 4 patients" in said
    assert not any(value in json.dumps(seen) for value in ("1961", "140", '"old"'))


def test_survival_times_and_missing_columns_are_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("age,stage,centre,months,died\n40,1,1,-2,1\n50,2,2,3,0\n50,2,2,3,0\n")
    terms = replace(TERMS, target=SurvivalTarget("months", "died"))
    seen = preview(file, terms, patient_column="")
    assert seen["labels"] == {"event": 1, "no event": 2}
    columns = {column["name"]: column for column in seen["columns"]}
    assert (columns["months"]["outside"], columns["months"]["first_line"]) == (1, 2)
    assert "1 rows repeat another one" in seen["warnings"][0]
    with pytest.raises(DataRefused, match=r'no column "sick" \(the header has: age'):
        preview(file, TERMS, patient_column="")
    with pytest.raises(DataRefused, match='no column "who"'):
        preview(file, None, patient_column="who")


def test_a_parquet_file_is_the_table_it_would_be_as_csv(tmp_path: Path) -> None:
    columns = {
        "age": pyarrow.array([40.0, None, float("nan")]),
        "stage": pyarrow.array([1, 2, None], pyarrow.int8()),
        "centre": pyarrow.array(["1", " 2", "3"]),
        "sick": pyarrow.array([True, False, True]),
    }
    file, text = tmp_path / "t.parquet", tmp_path / "t.csv"
    parquet.write_table(pyarrow.table(columns), file)
    text.write_text("age,stage,centre,sick\n40.0,1,1,1\n,2,2,0\n,,3,1\n")
    assert read_csv(file).rows == read_csv(text).rows
    assert read_csv(file).lines == read_csv(text).lines
    found, expected = (prepare(path, TERMS, patient_column="") for path in (file, text))
    assert (found.features == expected.features).all()
    assert found.patients == expected.patients


def test_what_is_no_parquet_table_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(DataRefused, match=r"t\.parquet: is not a Parquet file"):
        read_csv(file)
    parquet.write_table(pyarrow.table({"slices": [[1, 2], [3]]}), file)
    with pytest.raises(DataRefused, match=r'column "slices" holds list'):
        read_csv(file)
    parquet.write_table(pyarrow.table({"age": pyarrow.array([], pyarrow.int8())}), file)
    with pytest.raises(DataRefused, match="has no rows"):
        read_csv(file)
