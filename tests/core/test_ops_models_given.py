"""Which models a process gets to read: all where it runs our code, its own study's else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ops_manifests import PLAN, PRIVACY, STUDY, rendered

from p2pfl.core.manifest import Manifest, StudyId, parse_manifest
from p2pfl.core.manifest_code import CodeTerms, text_digest
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.home import Home
from p2pfl.runtime.models_given import COPIES, ModelsGiven, runs_inside
from p2pfl.runtime.training_answers import TrainingError

TEXT = "class Plan:\n    pass\n"


def manifest_of(blobs: BlobStore, gradients: str) -> Manifest:
    """A study with code whose initial model is kept."""
    initial, _ = blobs.write_vector(np.zeros(7, dtype=np.float32))
    code = CodeTerms(TEXT, text_digest(TEXT), {}, "inside" if gradients == "inside" else "outside")
    raw = rendered(
        study=replace(STUDY, initial_model=initial, parameters=7),
        plan=replace(PLAN, name="code"),
        privacy=PRIVACY,
        code=code,
    )
    return parse_manifest(raw)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.blobs.mkdir()
    return made


def test_code_in_the_process_gets_copies_of_its_own_study_and_nothing_else(home: Home) -> None:
    blobs = BlobStore(home.blobs)
    manifest, given = manifest_of(blobs, "inside"), ModelsGiven(home, blobs)
    assert runs_inside(manifest)
    models = [blobs.write_vector(np.full(7, n, dtype=np.float32))[0] for n in range(1, 12)]
    given.begin(manifest)
    folder = given.folder(manifest)
    assert folder != home.blobs
    assert not home.blobs.is_relative_to(folder)
    initial = manifest.study.initial_model
    assert [path.name for path in folder.iterdir()] == [initial.hex()]
    for digest in models:
        assert given.path(manifest, digest).read_bytes() == blobs.read_bytes(digest)
    newest = {digest.hex() for digest in models[-COPIES:]}
    assert {one.name for one in folder.iterdir()} == {initial.hex(), *newest}
    with pytest.raises(TrainingError, match="is not stored"):
        given.path(manifest, bytes(32))
    given.forget(StudyId(manifest.study_id))
    assert not folder.exists()


def test_code_in_cells_leaves_the_process_as_trusted_as_a_shipped_plans(home: Home) -> None:
    blobs = BlobStore(home.blobs)
    manifest, given = manifest_of(blobs, "outside"), ModelsGiven(home, blobs)
    given.begin(manifest)
    assert not runs_inside(manifest)
    assert given.folder(manifest) == home.blobs
    digest = manifest.study.initial_model
    assert given.path(manifest, digest) == blobs.path(digest)
