"""Demonstration data: documented spread, faithful files, errors that name file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from learn_tables import write_csv
from sklearn.datasets import load_breast_cancer

from p2pfl.core.manifest import parse_data_section
from p2pfl.learning import demo_data
from p2pfl.learning.datasets.tabular import label_counts, prepare
from p2pfl.learning.demo_data import HEART_FILES, SITES_MAX, cancer_sites, heart_sites, terms_toml
from p2pfl.learning.demo_terms import CANCER_TERMS, HEART_TERMS
from p2pfl.learning.errors import DataRefused


def test_every_cancer_patient_is_at_exactly_one_site() -> None:
    original = load_breast_cancer()
    rows = sorted(row for site in cancer_sites(4, 7) for row in site.rows)
    table = np.array([row[1:] for row in rows], dtype=np.float64)
    assert np.array_equal(table[:, :-1], original.data)
    assert np.array_equal(table[:, -1], 1 - original.target)
    names = [column.name for column in CANCER_TERMS.columns]
    assert names == list(original.feature_names)


def test_the_spread_follows_the_seed_and_is_not_uniform() -> None:
    assert cancer_sites(4, 7) == cancer_sites(4, 7)
    assert cancer_sites(4, 7) != cancer_sites(4, 8)
    sizes = [len(site.rows) for site in cancer_sites(4, 7)]
    shares = [
        sum(row[-1] == "1" for row in site.rows) / len(site.rows) for site in cancer_sites(4, 7)
    ]
    assert max(sizes) > 2 * min(sizes)
    assert max(shares) - min(shares) > 0.1


@pytest.mark.parametrize("sites", [1, 2, 4, 9, SITES_MAX])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_site_has_patients_of_both_labels(tmp_path: Path, sites: int, seed: int) -> None:
    made = cancer_sites(sites, seed)
    assert len(made) == sites
    for site in made:
        table = write_csv(site, tmp_path / "site.csv")
        prepared = prepare(table, CANCER_TERMS, patient_column="patient")
        assert min(label_counts(prepared).values()) >= 8
        assert np.abs(prepared.features).max() <= 1.0
        assert prepared.notes == ()


def test_a_number_of_sites_that_cannot_be_filled_is_refused() -> None:
    for sites in (0, SITES_MAX + 1):
        with pytest.raises(DataRefused, match="choose 1 to 16"):
            cancer_sites(sites, 7)


@pytest.mark.parametrize("terms", [CANCER_TERMS, HEART_TERMS])
def test_the_terms_are_read_back_by_the_manifest_s_parser(terms: object) -> None:
    assert parse_data_section(terms_toml(terms)) == terms  # type: ignore[arg-type]


def test_few_cancer_values_are_clipped() -> None:
    """The agreed ranges are wide enough to keep what tells patients apart."""
    original = load_breast_cancer().data
    lows = np.array([column.low for column in CANCER_TERMS.columns])  # type: ignore[union-attr]
    highs = np.array([column.high for column in CANCER_TERMS.columns])  # type: ignore[union-attr]
    outside = ((original < lows) | (original > highs)).mean(axis=0)
    assert outside.max() < 0.05


def test_the_command_writes_tables_and_terms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_data.main(["--out", str(tmp_path / "d"), "--sites", "3", "--seed", "5"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [site["name"] for site in answer["sites"]] == ["hospital-1", "hospital-2", "hospital-3"]
    assert sum(site["patients"] for site in answer["sites"]) == 569
    terms = parse_data_section(Path(answer["terms"]).read_bytes())
    for site in answer["sites"]:
        found = prepare(Path(site["csv"]), terms, patient_column=answer["patient_column"])
        assert found.size == site["patients"]


def test_the_four_hospitals_are_read_as_they_are(heart_folder: Path, tmp_path: Path) -> None:
    sites = heart_sites(heart_folder)
    assert [(site.name, len(site.rows)) for site in sites] == [
        ("cleveland", 303),
        ("hungary", 294),
        ("switzerland", 123),
        ("va", 200),
    ]
    first = (heart_folder / "processed.cleveland.data").read_text().splitlines()[0]
    assert ",".join(sites[0].rows[0][1:]) == first
    positives = [
        label_counts(
            prepare(write_csv(site, tmp_path / "x.csv"), HEART_TERMS, patient_column="patient")
        )["positive"]
        for site in sites
    ]
    assert positives == [139, 106, 115, 149]


def heart_folder_with(tmp_path: Path, name: str, text: bytes | None) -> Path:
    """Four files of two patients each, one of them changed or missing."""
    row = b"63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n"
    for _, file in HEART_FILES:
        (tmp_path / file).write_bytes(row + b"\n" + row)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(text)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "processed.va.data: No such file"),
        (b"1,2,3\n", "processed.va.data, line 1: not 14 numbers"),
        (b"a,1,1,1,1,1,1,1,1,1,1,1,1,0\n", "line 1: not 14 numbers"),
        (b"nan,1,1,1,1,1,1,1,1,1,1,1,1,0\n", "line 1: not 14 numbers"),
        (b"\n", "is empty"),
        (b"\xff\n", "is not plain text"),
    ],
)
def test_a_missing_or_malformed_heart_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes | None, problem: str
) -> None:
    folder = heart_folder_with(tmp_path, "processed.va.data", text)
    assert demo_data.main(["--out", str(tmp_path / "out"), "--heart", str(folder)]) == 1
    assert problem in capsys.readouterr().err


def test_heart_tables_are_written(
    heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "uci"
    shutil.copytree(heart_folder, copy)
    assert demo_data.main(["--out", str(tmp_path / "d"), "--heart", str(copy)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [site["patients"] for site in answer["sites"]] == [303, 294, 123, 200]
