"""The outside oracle."""

from typing import Any

import pytest

from simulations.benchmarks.byzfl_rules import byzfl_aggregators


@pytest.fixture(scope="session")
def byzfl() -> Any:
    return byzfl_aggregators()
