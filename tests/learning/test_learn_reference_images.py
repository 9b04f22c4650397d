"""What a collaborative segmentation is compared with, and the pictures of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from learn_images import image_terms, look, write_patients
from learn_manifests import manifest_bytes

from p2pfl.core.manifest import parse_manifest
from p2pfl.learning.initial import initial_model
from p2pfl.learning.reference_images import answered
from p2pfl.learning.vector import write_vector


def test_models_are_scored_on_every_hold_out_and_drawn(tmp_path: Path) -> None:
    raw = manifest_bytes(
        image_terms(),
        plan="segmentation",
        arguments={"width": 4, "levels": 2, "batch_size": 4, "local_steps": 20},
        rounds=1,
    )
    (tmp_path / "study.toml").write_bytes(raw)
    write_vector(tmp_path / "start", initial_model(parse_manifest(raw)))
    sites = []
    for number, name in enumerate(("a", "b")):
        write_patients(tmp_path / name, 5, seed=number)
        look(tmp_path / name, tmp_path / f"look-{name}")
        index = tmp_path / f"look-{name}" / "images.json"
        models = {"together": str(tmp_path / "start")}
        sites.append({"name": name, "dataset": str(index), "models": models})
    out = tmp_path / "pictures"
    found = answered(
        {
            "manifest": str(tmp_path / "study.toml"),
            "out": str(out),
            "sites": sites,
            "curves": {"together": {"a": [0.1, 0.2], "b": [0.1, 0.3]}},
        }
    )
    assert json.dumps(found)
    told = found["sites"]
    assert isinstance(told, list)
    for site, name in itertools.product(told, ("alone", "together", "pooled")):
        scored = site["own"][name]
        assert 0.0 <= scored["dice"] <= 1.0
        assert set(scored["regions"]) == {"dice whole", "dice core"}
        assert scored["hd95"] is None or 0.0 <= scored["hd95"] < 16.0 * np.sqrt(3.0)
        assert 0.0 <= site["union"][name]["dice"] <= 1.0
    assert all(site["own"]["pooled"]["dice"] > 0.4 for site in told)
    assert [Path(picture).name for picture in found["pictures"]] == ["overlay.png", "curves.png"]
    assert all(Path(picture).read_bytes()[:4] == b"\x89PNG" for picture in found["pictures"])


@pytest.mark.long
def test_the_tumour_demonstration_runs_as_a_whole(tmp_path: Path) -> None:
    from p2pfl.cli.main import main

    words = ["--sites", "3", "--patients", "60", "--side", "16", "--rounds", "3"]
    words += ["--private-rounds", "2", "--pictures", str(tmp_path / "pictures")]
    assert main(["demo-tumour", *words, "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["dice"]) == {"alone", "together", "with DP", "pooled"}
    assert result["dice"]["together"] > 0.5
    assert len(result["studies"]) == 2
