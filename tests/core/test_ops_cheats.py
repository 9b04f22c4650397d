"""What foreign code may not do where it runs beside patients: be other code, or say too much."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ops_manifests import rendered
from test_manifest_bundle import BUNDLE, BUNDLE_PLAN, BY_UPDATE

from gossip.identifiers import Digest
from ledger.provenance.kinds import CodeApproved
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_bundle import TRAIN_CONFIG
from p2pfl.runtime.bundles import add_bundle
from p2pfl.runtime.confinement.terms import terms_here
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import (
    bundle_started,
    check_startable,
    recorded_versions,
    versions_here,
)
from p2pfl.runtime.training_answers import TrainingError, scored

RISK = Path(__file__).parents[2] / "examples/bundle/risk"


def test_a_bundle_is_started_only_as_it_was_approved(tmp_path: Path) -> None:
    home, source = Home(tmp_path / "home"), tmp_path / "risk"
    home.path.mkdir()
    shutil.copytree(RISK, source, ignore=shutil.ignore_patterns("__pycache__"))
    bundle = add_bundle(home, source, "risk").bundle
    terms = replace(BUNDLE, sha256=Digest(bundle.digest))
    manifest = parse_manifest(rendered(plan=BUNDLE_PLAN, bundle=terms, privacy=BY_UPDATE))
    versions = recorded_versions(versions_here(terms.packages))
    approved = CodeApproved(manifest.study_id, terms.sha256, "node", "C", versions)
    confined = terms_here()
    check_startable(manifest, approved, confined)
    assert bundle_started(home, manifest) == bundle.folder.resolve()
    for wrong in (None, replace(approved, text=Digest(bytes(32)))):
        with pytest.raises(TrainingError, match="not what was approved here"):
            check_startable(manifest, wrong, confined)
    with pytest.raises(TrainingError, match=r"monai is .* here, approved was 1\.0"):
        check_startable(manifest, replace(approved, versions={"monai": "1.0"}), confined)
    config = bundle.folder / TRAIN_CONFIG
    config.chmod(0o600)
    config.write_bytes(config.read_bytes().replace(b"0.9", b"0.8"))
    with pytest.raises(TrainingError, match="not as it was when it was added"):
        bundle_started(home, manifest)
    # Nobody brings a bundle along: where it is not installed, it is not run.
    shutil.rmtree(home.bundles)
    with pytest.raises(TrainingError, match="not installed here"):
        bundle_started(home, manifest)


def test_of_measures_only_the_declared_ones_are_taken_over() -> None:
    said = {"dice": 0.123456789, "row": 61.0, "age": 1.5, "sex": "f", "nan": float("nan")}
    answer = {"auc": None, "accuracy": 0.5, "measures": said}
    unit = (0.0, 1.0)
    ranges = {"dice": unit, "age": unit, "sex": unit, "nan": unit, "absent": unit}
    assert scored(answer, ranges).measures == (("dice", 0.1235),)
    assert scored(answer).measures == ()
    assert scored({**answer, "measures": "all"}, ranges).measures == ()
