"""Network namespaces on a switch of ours, and the real nodes of the integration tests."""

import contextlib
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
    with _opened(NetworkLab(4, prefix=_prefix(), loss=0.01)) as made:
        yield made


@pytest.fixture
def ten_places() -> Iterator[NetworkLab]:
    """Ten places on a good line."""
    with _opened(NetworkLab(10, prefix=_prefix(), delay_s=0.005)) as made:
        yield made


@pytest.fixture
def slow_line() -> Iterator[NetworkLab]:
    """Three places: a round trip of 40 ms, one frame in a hundred lost, 20 Mbit/s each."""
    with _opened(NetworkLab(3, prefix=_prefix(), loss=0.01, rate_bps=20e6)) as made:
        yield made


@contextlib.contextmanager
def _opened(made: NetworkLab) -> Iterator[NetworkLab]:
    try:
        made.open()
        yield made
    finally:
        made.close()


def _prefix() -> str:
    return f"p2pfl-{os.getpid()}-"
