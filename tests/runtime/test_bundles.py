"""Bundles of a site: what may be one, and that one which changed is noticed before it is used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pfl.core.manifest_bundle import TRAIN_CONFIG
from p2pfl.learning.bundles.report import bundle_report
from p2pfl.runtime.bundles import (
    BUNDLE_BYTES_MAX,
    FILE_BYTES_MAX,
    FILES_MAX,
    add_bundle,
    bundle_with,
    bundles_of,
    find_bundle,
    is_installed,
    remove_bundle,
)
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home

RISK = Path(__file__).parents[2] / "examples/bundle/risk"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.path.mkdir()
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "risk"
    shutil.copytree(RISK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_bundle_is_copied_and_pinned(home: Home, source: Path) -> None:
    (source / "models").mkdir()
    (source / "models/model.pt").write_bytes(b"pickled")
    added = add_bundle(home, source, "risk")
    assert added.left_out == ("models/model.pt",)
    shutil.rmtree(source)
    assert find_bundle(home, "risk") == added.bundle
    assert bundles_of(home) == (added.bundle,)
    assert find_bundle(home, added.bundle.digest.hex()[:8]).files == added.bundle.files
    assert TRAIN_CONFIG in added.bundle.files
    remove_bundle(home, added.bundle)
    assert not is_installed(home, added.bundle.digest)
    with pytest.raises(OperatorError, match="not installed here"):
        bundle_with(home, added.bundle.digest)


@pytest.mark.parametrize("how", ["edited", "longer", "more", "fewer", "link"])
def test_a_copy_that_changed_is_no_bundle(home: Home, source: Path, how: str) -> None:
    bundle = add_bundle(home, source, "risk").bundle
    config = bundle.folder / TRAIN_CONFIG
    raw = config.read_bytes()
    config.chmod(0o600)
    match how:
        case "edited":
            config.write_bytes(raw.replace(b"0.9", b"0.8"))
        case "longer":
            config.write_bytes(raw + b"\n")
        case "more":
            (bundle.folder / "scripts/more.py").write_text("")
        case "fewer":
            (bundle.folder / "configs/metadata.json").unlink()
        case _:
            config.unlink()
            config.symlink_to(source / TRAIN_CONFIG)
    with pytest.raises(OperatorError):
        bundle_with(home, bundle.digest)
    assert bundles_of(home) == ()


@pytest.mark.parametrize("what", ["link", "folder link", "odd name", "pipe", "many", "big", "none"])
def test_what_cannot_be_pinned_is_refused(home: Home, source: Path, what: str) -> None:
    import os

    match what:
        case "link":
            (source / "key").symlink_to("/etc/passwd")
        case "folder link":
            (source / "all").symlink_to("/")
        case "odd name":
            (source / "a\nb").write_text("")
        case "pipe":
            os.mkfifo(source / "pipe")
        case "many":
            for number in range(FILES_MAX):
                (source / f"{number}").write_text("")
        case "big":
            with (source / "big").open("wb") as file:
                file.truncate(FILE_BYTES_MAX + 1)
        case _:
            (source / TRAIN_CONFIG).unlink()
    with pytest.raises(OperatorError):
        add_bundle(home, source, "risk")
    assert bundles_of(home) == ()
    assert not home.bundles.exists()


def test_a_bundle_of_many_bytes_is_refused(home: Home, source: Path) -> None:
    for number in range(BUNDLE_BYTES_MAX // FILE_BYTES_MAX):
        with (source / f"{number}").open("wb") as file:
            file.truncate(FILE_BYTES_MAX)
    with pytest.raises(OperatorError, match="bytes"):
        add_bundle(home, source, "risk")


def test_reading_a_bundle_names_what_it_calls_evaluates_and_imports(source: Path) -> None:
    hostile = '{"a": {"b": ["$import os; os.system(1)"], "_target_": "nibabel.load"}}'
    (source / "configs/other.json").write_text(hostile)
    (source / "scripts/more.py").write_text("import socket\n")
    files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    found = bundle_report(source, files)
    assert found["problem"] == ""
    assert found["license"] == "Apache-2.0"
    assert found["packages"] == ["ignite", "monai", "nibabel", "torch"]
    assert {"file": "configs/other.json", "name": "nibabel.load"} in found["targets"]  # type: ignore[operator]
    told = {"file": "configs/other.json", "place": "a#b#0", "text": "$import os; os.system(1)"}
    assert told in found["expressions"]  # type: ignore[operator]
    assert any(one["imports"] == ["socket"] for one in found["scripts"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["{", "[" * 5000 + "]" * 5000], ids=["cut", "deep"])
def test_a_configuration_that_cannot_be_read_is_said_so(source: Path, text: str) -> None:
    (source / TRAIN_CONFIG).write_text(text)
    assert TRAIN_CONFIG in str(bundle_report(source, [TRAIN_CONFIG])["problem"])
