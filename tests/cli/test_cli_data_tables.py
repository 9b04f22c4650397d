"""Looking at a table with the real command: what fits, what does not, and nothing recorded."""

from __future__ import annotations

from pathlib import Path

from ops_sites import done, found, p2pfl

from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.errors import EXIT_DATA
from p2pfl.runtime.home import Home

SCHEMA = """[data]
kind = "tabular"
patients_min = 2
holdout = 0.3
target = { column = "sick", positive_above = 0.0 }
[[data.columns]]
name = "age"
type = "number"
range = [20.0, 90.0]
typical = 55.0
"""


def test_a_table_is_shown_and_not_registered(tmp_path: Path) -> None:
    home = found(tmp_path, sites=2)[0]
    file, schema = tmp_path / "t.csv", tmp_path / "study.toml"
    schema.write_text(SCHEMA)
    file.write_text("patient,age,sick,phone\na,40,0,1\nb,140,1,2\nc,,1,3\n")
    words = ("data", "preview", file, "--schema", schema, "--home", home)
    shown = done(*words, "--patient-column", "patient")
    assert "3, 3 rows" in shown.out
    assert "negative: 1, positive: 2" in shown.out
    assert 'column "phone" is named like something personal' in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    seen = done(*words, "--json").json
    age = next(column for column in seen["columns"] if column["name"] == "age")
    assert (age["missing"], age["outside"], age["first_line"]) == (1, 1, 3)
    assert list(local_datasets(Home(home))) == []
    file.write_text("age\n40\n")
    refused = p2pfl(*words)
    assert refused.code == EXIT_DATA
    assert 'no column "sick"' in refused.err


def test_plans_are_listed_with_what_they_predict(tmp_path: Path) -> None:
    shown = done("study", "plans")
    assert "tabular-cox" in shown.out
    assert "image-table-fusion" in done("study", "plans", "--json").json
    assert max(map(len, shown.out.splitlines())) <= 80
