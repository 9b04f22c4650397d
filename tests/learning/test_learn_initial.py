"""The starting model is made from a manifest; for tables without torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from learn_manifests import MLP, manifest, manifest_bytes

from p2pfl.learning import initial
from p2pfl.learning.demo_terms import CANCER_TERMS
from p2pfl.learning.initial import initial_model
from p2pfl.learning.vector import read_vector

MLP_MANIFEST = manifest_bytes(CANCER_TERMS, plan="tabular-mlp", arguments=MLP)


def test_a_manifest_gives_the_same_file_as_its_values_without_torch(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(MLP_MANIFEST)
    program = (
        "import sys\n"
        "from p2pfl.learning import initial\n"
        "import p2pfl.learning.results, p2pfl.learning.demo_data\n"
        "assert initial.main(sys.argv[1:]) == 0\n"
        "slow = [n for n in ('torch', 'opacus', 'pandas', 'sklearn', 'monai', 'nibabel')\n"
        "        if n in sys.modules]\n"
        "assert not slow, slow\n"
    )
    words = ["--manifest", str(tmp_path / "study.toml"), "--out", str(tmp_path / "one")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, check=True, timeout=120
    )
    one = json.loads(done.stdout)
    assert one["digest"] == hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest()
    assert one["parameters"] == 2114
    expected = initial_model(manifest(CANCER_TERMS, plan="tabular-mlp", arguments=MLP))
    assert np.array_equal(read_vector(tmp_path / "one", 2114), expected)


def test_a_draft_manifest_may_hold_another_digest_and_length(tmp_path: Path) -> None:
    draft = manifest_bytes(CANCER_TERMS, parameters=1)
    (tmp_path / "draft.toml").write_bytes(draft)
    out = tmp_path / "model"
    assert initial.main(["--manifest", str(tmp_path / "draft.toml"), "--out", str(out)]) == 0
    assert not read_vector(out, 31).any()


@pytest.mark.parametrize(
    ("change", "problem"),
    [((b"tabular-mlp", b"zzz"), 'no plan "zzz"'), ((b"[plan]", b"[plann]"), "plan")],
)
def test_a_wrong_manifest_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[bytes, bytes],
    problem: str,
) -> None:
    (tmp_path / "study.toml").write_bytes(MLP_MANIFEST.replace(*change))
    words = ["--manifest", str(tmp_path / "study.toml"), "--out", str(tmp_path / "x")]
    assert initial.main(words) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_a_manifest_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert initial.main(["--manifest", str(tmp_path / "none.toml"), "--out", "x"]) == 1
    assert "none.toml" in capsys.readouterr().err
