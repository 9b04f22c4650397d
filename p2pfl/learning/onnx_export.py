"""A released model as ONNX, for software that is not ours; compared with torch before it is kept.

The network alone: how columns and images become its inputs is in the file's metadata, the same
words as in the safetensors file beside it. The number of patients is free, a window's size is not.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.evaluation import Predictor
from p2pfl.learning.results import model_metadata
from p2pfl.learning.vector import Vector, replace_file

PATIENTS: Final = 2
"""Of the example the graph is recorded with; one would be taken for a constant."""
DIFFERENCE_MAX: Final = 1e-4
"""Of an output, relative to the largest: float32 in another order of summing."""


def write_onnx(path: Path, vector: Vector, manifest: Manifest) -> None:
    """Write the model. vector: float32[d].

    Raises OSError, PlanRefused; ModelRefused where ONNX's own reference does not say what torch
    says to the same inputs.
    """
    import onnx

    module = Predictor(manifest, vector).module
    examples = _examples(manifest)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        made: Any = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            verbose=False,
            dynamic_shapes=tuple({0: torch.export.Dim("patients")} for _ in examples),
            input_names=list(examples),
            output_names=["outputs"],
        )
    graph = made.model_proto
    onnx.helper.set_model_props(graph, model_metadata(manifest))
    onnx.checker.check_model(graph)
    _check_says_the_same(graph, module, examples)
    replace_file(path, graph.SerializeToString())


def _examples(manifest: Manifest) -> dict[str, torch.Tensor]:
    """Made-up inputs by name, in the module's order."""
    data = manifest.data
    generator = np.random.Generator(np.random.PCG64(0))
    shapes: dict[str, tuple[int, ...]] = {}
    if data.images is not None:
        shapes["image"] = (data.images.channels, *data.images.window)
    if data.columns:
        shapes["columns"] = (data.features,)
    return {
        name: torch.from_numpy(generator.uniform(-1.0, 1.0, (PATIENTS, *shape)).astype(np.float32))
        for name, shape in shapes.items()
    }


def _check_says_the_same(
    graph: Any, module: torch.nn.Module, examples: dict[str, torch.Tensor]
) -> None:
    """Another implementation, and another number of patients than the recorded one."""
    from onnx.reference import ReferenceEvaluator

    first = {name: example[:1] for name, example in examples.items()}
    with torch.no_grad():
        expected = module(*first.values()).numpy()
    given = {name: example.numpy() for name, example in first.items()}
    found = ReferenceEvaluator(graph).run(None, given)[0]
    off = float(np.abs(found - expected).max(initial=0.0))
    if not off <= DIFFERENCE_MAX * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise ModelRefused(
            f"the ONNX file differs from the model by {off:.1e}: leave --onnx out, "
            "model.safetensors holds the model exactly"
        )
