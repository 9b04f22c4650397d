"""Preparation uses agreed terms only, and its errors say where to look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfl.core.manifest_terms import CategoryColumn, DataTerms, NumberColumn, Target
from p2pfl.learning.datasets.table_file import read_csv
from p2pfl.learning.datasets.tabular import Prepared, label_counts, prepare
from p2pfl.learning.errors import DataRefused, TooFewPatients

TERMS = DataTerms(
    kind="tabular",
    patients_min=2,
    holdout=0.34,
    target=Target("sick", 0.0),
    columns=(
        NumberColumn("age", 20.0, 60.0, 30.0, (-1.0,)),
        CategoryColumn("kind", (1.0, 2.0), (9.0,)),
    ),
)


def prepared(tmp_path: Path, text: str, patient_column: str = "") -> Prepared:
    path = tmp_path / "patients.csv"
    path.write_text(text, encoding="utf-8")
    return prepare(path, TERMS, patient_column=patient_column)


def refused(tmp_path: Path, text: str, patient_column: str = "") -> str:
    with pytest.raises(DataRefused) as caught:
        prepared(tmp_path, text, patient_column)
    return str(caught.value)


def test_numbers_go_to_minus_one_to_one_and_are_clipped(tmp_path: Path) -> None:
    found = prepared(tmp_path, "age,kind,sick\n20,1,0\n40,1,0\n60,1,1\n90,1,2\n1,1,0\n")
    assert found.features[:, 0].tolist() == [-1.0, 0.0, 1.0, 1.0, -1.0]
    assert found.features.dtype == np.float32
    assert found.labels.tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert found.columns == ("age", "kind=1", "kind=2")


@pytest.mark.parametrize("missing", ["", "?", " ", "-1", "-1.0"])
def test_a_missing_number_becomes_the_typical_value(tmp_path: Path, missing: str) -> None:
    found = prepared(tmp_path, f"age,kind,sick\n{missing},1,0\n40,1,1\n")
    assert found.features[0, 0] == pytest.approx(-0.5)


def test_categories_are_one_hot_and_unknown_ones_are_zeros_and_counted(tmp_path: Path) -> None:
    found = prepared(tmp_path, "age,kind,sick\n20,1,0\n20,2.0,0\n20,3,1\n20,?,1\n20,9,1\n")
    assert found.features[:, 1:].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]
    assert found.notes == ('1 rows with a code not agreed on in column "kind"',)


def test_only_the_first_row_of_a_patient_is_kept(tmp_path: Path) -> None:
    text = "id,age,kind,sick\na,20,1,0\nb,30,1,1\na,60,2,1\n"
    found = prepared(tmp_path, text, patient_column="id")
    assert found.size == 2
    assert found.features[0].tolist() == [-1.0, 1.0, 0.0]
    assert found.notes == ("1 rows left out: one record per patient",)
    assert label_counts(found) == {"negative": 1, "positive": 1}


def test_equal_rows_without_a_patient_column_are_different_patients(tmp_path: Path) -> None:
    found = prepared(tmp_path, "age,kind,sick\n20,1,0\n20,1,0\n")
    assert len(set(found.patients)) == 2


def test_a_byte_order_mark_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    assert prepared(tmp_path, "\ufeffage,kind,sick\n20,1,0\n\n40,1,1\n").size == 2


def test_a_word_among_numbers_is_found_by_line_and_column(tmp_path: Path) -> None:
    message = refused(tmp_path, "age,kind,sick\n20,1,0\nforty,1,1\n")
    assert message.startswith('patients.csv, line 3, column "age": not a number. Fix: ')
    assert "forty" not in message


def test_an_infinite_number_is_refused(tmp_path: Path) -> None:
    assert 'line 2, column "age": not a finite' in refused(
        tmp_path, "age,kind,sick\ninf,1,0\n1,1,0\n"
    )


def test_a_missing_target_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "age,kind,sick\n20,1,0\n20,1,?\n")
    assert 'line 3, column "sick": the target is missing' in message


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    message = refused(tmp_path, "ages,kind,sick\n20,1,0\n20,1,1\n")
    assert 'no column "age" (the header has: ages, kind, sick)' in message


def test_a_missing_patient_column_or_pseudonym_is_refused(tmp_path: Path) -> None:
    assert 'no column "id"' in refused(tmp_path, "age,kind,sick\n20,1,0\n", "id")
    text = "id,age,kind,sick\na,20,1,0\n,20,1,0\n"
    assert 'line 3, column "id": no patient is named' in refused(tmp_path, text, "id")


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooFewPatients, match="1 patients, the study asks for at least 2"):
        prepared(tmp_path, "id,age,kind,sick\na,20,1,0\na,20,1,0\n", "id")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("age,kind,sick\n", "has no rows below the header"),
        ("age,kind\n20\n", "line 2: 1 cells, the header has 2"),
        ("age,age\n1,2\n", 'two columns are named "age"'),
        ("age,\n1,2\n", "column 2 has no name"),
        ('age,kind\n"a"b,2\n', "line 2: is not CSV"),
        ("age\n" + "1" * 5000, "line 2: is not CSV"),
        (",".join(f"c{i}" for i in range(10_001)) + "\n", "at most 10000 are read"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refused(tmp_path, text)


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"none\.csv: cannot be read"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(DataRefused, match="cannot be read"):
        read_csv(tmp_path)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"n\xe4me\n1\n")
    with pytest.raises(DataRefused, match="is not UTF-8"):
        read_csv(path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(DataRefused, match="at most 1073741824 are read"):
        read_csv(path)
