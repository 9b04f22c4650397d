"""Fixtures of the log's tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_histories import opened
from log_samples import NOW_US, STUDY, VECTORS, draft, new_log
from log_tampering import SIZE, Tampering

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


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A closed log of 2,600 entries: two full blocks and a part, heads at odd sizes."""
    home = tmp_path_factory.mktemp("original")
    log = new_log(home)
    number = 0
    for count in (1, 6, 500, 900, 1, 1_100, 91):
        drafts = [draft(i, study=STUDY if i % 2 else None) for i in range(number, number + count)]
        log.append(drafts, NOW_US)
        number += count
    assert log.checkpoint.size == SIZE
    log.close()
    return home


@pytest.fixture
def home(original, tmp_path):
    shutil.copytree(original, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def tamper(home):
    tampering = Tampering(home)
    tampering.run("BEGIN")
    tampering.run("COMMIT")
    yield tampering
    tampering.connection.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "witness.db"


@pytest.fixture
def database(path):
    found = opened(path)
    yield found
    found.close()
