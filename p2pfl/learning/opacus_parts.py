"""The two parts of Opacus that training uses, loaded without the seconds the rest costs.

Responsible for handing out Opacus' own `GradSampleModule` (per-sample gradients by hooks) and
`DPOptimizer` (per-sample clipping). Imported in private studies only.

Measured on 2 cores with torch 2.13.0 and opacus 1.6.0, after torch itself (2.2 s):
`import opacus` takes 3.5 s: its accountants load scipy.stats (0.7 s), and the name `DTensor`,
which its optimizer uses in type annotations only, loads torch.distributed.tensor with sympy
(1.7 s). Creating a torch.optim.Optimizer loads torch._dynamo, another 3.1 s. The two files alone
take 0.02 s. Every training process of a private study would pay for the difference.

So for exactly the version that was tested, the packages around the two files are put in place
empty while the files load, and taken away again: a later `import opacus` works as usual and finds
the same classes. Any other version is imported the ordinary way.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

TESTED_VERSION: Final = "1.6.0"

_PACKAGES: Final = ("opacus", "opacus.grad_sample", "opacus.optimizers")
_RULES: Final = ("linear", "conv", "instance_norm", "group_norm", "layer_norm")
"""Each registers how per-sample gradients of its layers are computed."""
_ANNOTATION_ONLY: Final = "torch.distributed.tensor"


def _load() -> tuple[Any, Any]:
    """Return (DPOptimizer, GradSampleModule)."""
    is_loaded = "opacus" in sys.modules
    if version("opacus") == TESTED_VERSION and not is_loaded:
        return _load_alone()
    return _classes()


def _load_alone() -> tuple[Any, Any]:
    spec = importlib.util.find_spec("opacus")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise ImportError("opacus is not installed")
    root = Path(spec.origin).parent
    placeholders: dict[str, ModuleType] = {}
    for name in _PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        placeholders[name] = package
    if _ANNOTATION_ONLY not in sys.modules:
        tensor_module = ModuleType(_ANNOTATION_ONLY)
        tensor_module.__dict__["DTensor"] = torch.Tensor
        placeholders[_ANNOTATION_ONLY] = tensor_module
    sys.modules.update(placeholders)
    try:
        return _classes()
    finally:
        for name in placeholders:
            del sys.modules[name]


def _classes() -> tuple[Any, Any]:
    optimizer = importlib.import_module("opacus.optimizers.optimizer")
    grad_sample = importlib.import_module("opacus.grad_sample.grad_sample_module")
    for rules in _RULES:
        importlib.import_module(f"opacus.grad_sample.{rules}")
    return optimizer.DPOptimizer, grad_sample.GradSampleModule


def prepare_convolutions() -> None:
    """Load what Opacus' rule for convolutions asks torch for by name (1.5 s, no table needs it)."""
    importlib.import_module("torch.distributed.fsdp")


# Our inputs are data, so the hooks always fire without gradients towards the inputs.
warnings.filterwarnings("ignore", message="Full backward hook is firing")

DPOptimizer, GradSampleModule = _load()
