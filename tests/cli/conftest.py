"""Founding takes a second: one consortium is founded per test session and copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ops_sites import draft, found, p2pfl, register


@pytest.fixture(scope="session")
def founded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites with a roster in force and a dataset each, and a drafted study."""
    directory = tmp_path_factory.mktemp("consortium")
    for seed, home in enumerate(found(directory, sites=2)):
        assert register(home, seed=seed).code == 0
    assert draft(directory / "site0", directory / "study.toml").code == 0
    return directory


@pytest.fixture
def consortium(founded_once: Path, tmp_path: Path) -> Path:
    """An own copy of the two sites; the dataset files stay where they were registered."""
    copy = tmp_path / "consortium"
    shutil.copytree(founded_once, copy)
    return copy


@pytest.fixture
def proposed(consortium: Path) -> str:
    """The id of a study that both sites know."""
    manifest, proposal = consortium / "study.toml", consortium / "study.study"
    kept = p2pfl("study", "propose", manifest, "--home", consortium / "site0", "--json")
    assert kept.code == 0, kept.err
    imported = p2pfl("study", "import", proposal, "--home", consortium / "site1")
    assert imported.code == 0, imported.err
    study: str = kept.json["study"]
    return study
