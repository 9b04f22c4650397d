"""The starting model is made without torch, from a manifest or from JSON."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from learn_manifests import MLP, manifest_bytes

from p2pfl.learning import initial
from p2pfl.learning.demo_terms import CANCER_TERMS
from p2pfl.learning.initial import initial_model
from p2pfl.learning.vector import read_vector


def test_a_manifest_and_its_json_give_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(
        manifest_bytes(CANCER_TERMS, plan="tabular-mlp", arguments=MLP)
    )
    command = [sys.executable, "-m", "p2pfl.learning.initial"]
    from_manifest = subprocess.run(
        [*command, "--manifest", str(tmp_path / "study.toml"), "--out", str(tmp_path / "one")],
        capture_output=True,
        check=True,
        timeout=30,
    )
    wanted = {
        "plan": "tabular-mlp",
        "arguments": MLP,
        "features": 30,
        "seed": 7,
        "out": str(tmp_path / "two"),
    }
    from_json = subprocess.run(
        command, input=json.dumps(wanted).encode(), capture_output=True, check=True, timeout=30
    )
    one, two = json.loads(from_manifest.stdout), json.loads(from_json.stdout)
    assert one["digest"] == two["digest"]
    assert one["digest"] == hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest()
    assert one["parameters"] == 2114
    expected = initial_model("tabular-mlp", MLP, features=30, seed=7)
    assert np.array_equal(read_vector(tmp_path / "one", 2114), expected)


def test_making_it_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "from p2pfl.learning.initial import initial_model\n"
        "import p2pfl.learning.results, p2pfl.learning.demo_data\n"
        "initial_model('tabular-mlp', {'hidden': 8}, features=3, seed=1)\n"
        "slow = [n for n in ('torch', 'opacus', 'pandas', 'sklearn') if n in sys.modules]\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_draft_manifest_may_hold_another_digest_and_length(tmp_path: Path) -> None:
    draft = manifest_bytes(CANCER_TERMS, parameters=1)
    (tmp_path / "draft.toml").write_bytes(draft)
    out = tmp_path / "model"
    assert initial.main(["--manifest", str(tmp_path / "draft.toml"), "--out", str(out)]) == 0
    assert not read_vector(out, 31).any()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "expected JSON"),
        ("[]", "expected JSON"),
        ('{"plan": "tabular-mlp"}', "'arguments'"),
        (
            '{"plan": "zzz", "arguments": {}, "features": 3, "seed": 1, "out": "x"}',
            'no plan "zzz"',
        ),
    ],
)
def test_a_wrong_request_is_one_sentence(text: str, problem: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pfl.learning.initial"],
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert problem in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_manifest_without_a_place_for_the_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert initial.main(["--manifest", str(tmp_path / "none.toml")]) == 1
    assert "--out is missing" in capsys.readouterr().err
    assert initial.main(["--manifest", str(tmp_path / "none.toml"), "--out", "x"]) == 1
    assert "none.toml" in capsys.readouterr().err
