"""Two founded sites with a study to decide on, copied for every mistake; and the row it proves."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from free_ports import neighbouring_ports
from mistakes_stage import Stage
from mistakes_table import Row, rows
from ops_sites import done, draft, found, register


@pytest.fixture(scope="session")
def stage_once(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    path, port = tmp_path_factory.mktemp("mistakes"), neighbouring_ports(2)
    for seed, home in enumerate(found(path, sites=2, first_port=port)):
        assert register(home, seed=seed).code == 0
    assert draft(path / "site0", path / "study.toml").code == 0
    kept = done("study", "propose", path / "study.toml", "--home", path / "site0", "--json").json
    return Stage(path, kept["study"], port)


@pytest.fixture
def stage(stage_once: Stage, tmp_path: Path) -> Stage:
    """An own copy, files of the datasets included."""
    copy = Stage(tmp_path / "stage", stage_once.study, stage_once.port)
    shutil.copytree(stage_once.path, copy.path)
    for home in (copy.home, copy.other):
        copy.edit(home / "data" / "patients" / "dataset.toml", str(stage_once.path), str(copy.path))
    return copy


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row of docs/mistakes.md that this test proves: it has the test's name."""
    callspec = getattr(request.node, "callspec", None)
    name = callspec.id if callspec else request.function.__name__.removeprefix("test_")
    return rows()[name]
