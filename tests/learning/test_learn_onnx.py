"""ONNX of released models: the file says to anyone's inputs what the model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from learn_images import image_terms
from learn_manifests import MLP, manifest_bytes, table
from onnx.reference import ReferenceEvaluator

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import DataTerms, Manifest, NumberColumn, Target
from p2pfl.learning import onnx_export
from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.evaluation import Predictor
from p2pfl.learning.initial import initial_model
from p2pfl.learning.onnx_export import write_onnx

AGE = NumberColumn("age", 20.0, 90.0, 55.0, ())
SICK = Target("sick", 0.0)
DENSE = {"network": "densenet", "width": 4, "levels": 2, "blocks": 1, "dropout": 0.3}
FUSED = replace(image_terms(regions=(), window=(16, 16)), target=SICK, columns=(AGE,))


def study(terms: DataTerms, plan: str, arguments: Mapping[str, object]) -> Manifest:
    return parse_manifest(manifest_bytes(terms, plan=plan, arguments=arguments))


@pytest.mark.parametrize(
    ("terms", "plan", "arguments", "inputs"),
    [
        (table(5), "tabular-mlp", MLP, {"columns": (5,)}),
        (
            image_terms(window=(16, 16)),
            "segmentation",
            {"width": 4, "levels": 2},
            {"image": (2, 16, 16)},
        ),
        (FUSED, "image-table-fusion", DENSE, {"image": (2, 16, 16), "columns": (1,)}),
    ],
    ids=["table", "regions", "fusion"],
)
def test_another_implementation_says_the_same(
    tmp_path: Path,
    terms: DataTerms,
    plan: str,
    arguments: Mapping[str, object],
    inputs: Mapping[str, tuple[int, ...]],
) -> None:
    manifest = study(terms, plan, arguments)
    generator = np.random.default_rng(4)
    model = initial_model(manifest) + generator.normal(0, 0.1, manifest.study.parameters)
    model = model.astype(np.float32)
    write_onnx(tmp_path / "model.onnx", model, manifest)
    graph = onnx.load(tmp_path / "model.onnx")
    told = {entry.key: entry.value for entry in graph.metadata_props}
    assert (told["plan"], told["study"]) == (plan, manifest.study_id.hex())
    for patients in (1, 3):
        given = {
            name: generator.normal(size=(patients, *shape)).astype(np.float32)
            for name, shape in inputs.items()
        }
        found = ReferenceEvaluator(graph).run(["outputs"], given)[0]
        with torch.no_grad():
            module = Predictor(manifest, model).module
            expected = module(*(torch.from_numpy(part) for part in given.values())).numpy()
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_graph_that_says_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "DIFFERENCE_MAX", -1.0)
    manifest = study(table(5), "tabular-mlp", MLP)
    with pytest.raises(ModelRefused, match=r"differs from the model.*leave --onnx out"):
        write_onnx(tmp_path / "model.onnx", initial_model(manifest), manifest)
    assert not (tmp_path / "model.onnx").exists()
