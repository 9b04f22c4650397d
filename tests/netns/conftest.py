"""Network namespaces on a switch of ours, and the real nodes of the integration tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.network_lab import NetworkLab

sys.path.append(str(Path(__file__).parent.parent / "integration"))


@pytest.fixture
def lab() -> Iterator[NetworkLab]:
    """Four places: 20 ms apart one way, one frame in a hundred lost, 100 Mbit/s each."""
    made = NetworkLab(4, prefix=f"p2pfl-{os.getpid()}-", loss=0.01)
    try:
        made.open()
        yield made
    finally:
        made.close()
