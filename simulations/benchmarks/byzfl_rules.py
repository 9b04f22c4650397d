"""The aggregators of byzfl, a reference library, without its training framework.

`import byzfl` also runs that framework, which needs torchvision, and torchvision's wheel fails to
load beside a CPU build of torch. So the package is entered without running its `__init__`: an
empty module with the same search path stands in its place. byzfl is a development dependency.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any


def byzfl_aggregators() -> Any:
    """byzfl.aggregators, pre-aggregators included. Raises ModuleNotFoundError without byzfl."""
    if "byzfl" not in sys.modules:
        spec = importlib.util.find_spec("byzfl")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("byzfl is not installed: pip install byzfl==0.0.11")
        package = types.ModuleType("byzfl")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["byzfl"] = package
    found = importlib.import_module("byzfl.aggregators.aggregators")
    found.NNM = importlib.import_module("byzfl.aggregators.preaggregators").NNM  # type: ignore[attr-defined]
    return found


def counterparts(f: int) -> Mapping[str, Callable[[Any], Any]]:
    """Our rule → what byzfl does with a float32[n, d] matrix to the same end, f hostile models."""
    byzfl = byzfl_aggregators()
    trimmed = byzfl.TrMean(f)
    return {
        "gossip": byzfl.Average(),
        "trimmed_mean": trimmed,
        "median": byzfl.Median(),
        "geometric_median": byzfl.GeometricMedian(),
        "krum": byzfl.Krum(f),
        "multi_krum": byzfl.MultiKrum(f),
        "nna": byzfl.MoNNA(f, 0),
        "centered_clipping": byzfl.CenteredClipping(L=3),
        "nnm": lambda models: trimmed(byzfl.NNM(f)(models)),
    }
