"""Registering a folder of images with the real commands: preview, ledger, overlap, change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ops_sites import done, found, p2pfl

from p2pfl.core.manifest_writing import render_data
from p2pfl.learning.demo_tumours import Scanner, tumour_terms, write_site
from p2pfl.runtime.datasets import (
    check_unchanged,
    local_datasets,
    reached_by_training,
    read_dataset,
)
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home

SIDE = 8
PATIENTS = 21


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    root = tmp_path_factory.mktemp("hospital")
    scanner = Scanner(gain=1.0, noise=0.03, blur=0.0, bias=0.0, contrast=1.0)
    write_site(root / "images", PATIENTS, SIDE, scanner, np.random.default_rng(1))
    (root / "study.toml").write_bytes(render_data(tumour_terms(SIDE)))
    return root


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found(tmp_path, sites=2)[0]


def test_images_are_shown_registered_and_watched(folder: Path, home: Path) -> None:
    own, schema = folder / "images", folder / "study.toml"
    picture = home.parent / "contact.png"
    shown = done("data", "preview", own, "--schema", schema, "--contact", picture, "--home", home)
    assert "T1ce 21/21" in shown.out
    assert "8×8×8 (21×)" in shown.out
    assert max(map(len, shown.out.splitlines())) <= max(80, len(str(picture)) + 13)
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = p2pfl("data", "preview", own, "--contact", picture, "--home", home)
    assert again.code == EXIT_CANNOT_CREATE
    assert list(local_datasets(Home(home))) == []

    words = ("data", "add", own, "--name", "tumours", "--schema", schema, "--home", home)
    seen = done(*words, "--json").json
    assert (seen["kind"], seen["patients"], seen["rows"]) == ("images", PATIENTS, PATIENTS * 5)
    assert seen["file"] == str(own)
    (body,) = [
        entry["body"]
        for entry in done("ledger", "show", "--home", home, "-n", 100, "--json").json
        if entry["kind"] == "dataset.registered"
    ]
    assert body["patients_bucket"] == 20
    assert "sub-" not in str(body)

    dataset = read_dataset(Home(home), "tumours")
    check_unchanged(Home(home), dataset)
    reads, writes = reached_by_training(dataset)
    assert own in reads
    assert all(home in path.parents for path in writes)
    assert [path.name for path in (home / "data").iterdir()] == ["tumours"]

    copy = home.parent / "copy"
    shutil.copytree(own, copy)
    for patient in sorted(copy.glob("sub-*")):
        patient.rename(copy / f"case{patient.name[4:]}")
    (copy / "participants.tsv").unlink()
    refused = p2pfl("data", "add", copy, "--name", "again", "--home", home)
    assert refused.code == EXIT_REFUSED
    assert 'registered already, in "tumours"' in refused.err


def test_a_volume_that_changed_is_named_before_training(folder: Path, home: Path) -> None:
    own = home.parent / "own"
    shutil.copytree(folder / "images", own)
    done("data", "add", own, "--name", "tumours", "--home", home)
    file = own / "sub-003" / "T1" / "sub-003_T1.nii.gz"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(OperatorError, match="sub-003_T1"):
        check_unchanged(Home(home), read_dataset(Home(home), "tumours"))


def test_a_refusal_names_file_and_fix_and_leaves_nothing(folder: Path, home: Path) -> None:
    own = home.parent / "own"
    shutil.copytree(folder / "images", own)
    (own / "sub-002" / "T2" / "sub-002_T2.nii.gz").write_bytes(b"junk")
    words = ("data", "add", own, "--name", "tumours", "--home", home)
    refused = p2pfl(*words, "--json")
    assert refused.code == EXIT_DATA
    error = json.loads(refused.err)["error"]
    assert "sub-002/T2/sub-002_T2.nii.gz" in error["message"]
    assert "xport it again" in error["fix"]
    assert list((home / "data").iterdir()) == []
