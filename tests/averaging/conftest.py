"""Makes the oracle's aggregators importable.

`import byzfl` also runs its training framework, which needs torchvision, and torchvision's wheel
fails to load beside a CPU build of torch. We need its aggregators alone, so the package is entered
without running its `__init__`: an empty module with the same search path stands in its place.
"""

import importlib
import importlib.util
import sys
import types
from typing import Protocol

import pytest


class Aggregators(Protocol):
    """The part of byzfl.aggregators that the tests call."""

    TrMean: type
    Median: type
    GeometricMedian: type
    Average: type


@pytest.fixture(scope="session")
def byzfl() -> Aggregators:
    if "byzfl" not in sys.modules:
        spec = importlib.util.find_spec("byzfl")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        package = types.ModuleType("byzfl")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["byzfl"] = package
    return importlib.import_module("byzfl.aggregators.aggregators")  # type: ignore[return-value]
