"""Fixtures of the log's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_samples import VECTORS, new_log

from ledger.log import Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An open log that holds its genesis entry only."""
    opened = new_log(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def vectors() -> Path:
    """The folder of shared test vectors; tests skip where it is absent."""
    if not VECTORS.is_dir():
        pytest.skip("shared test vectors are not here")
    return VECTORS
