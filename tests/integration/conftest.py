"""Founding takes seconds: one consortium per session, with a study, copied per test."""

import asyncio
import inspect
import sys
from pathlib import Path

import node_in_process
import pytest
from node_homes import Consortium, found, with_study

# The raw peers of the network's own tests attack nodes here, too, and nodes train plans of others.
for folder in ("gossip", "learning"):
    sys.path.append(str(Path(__file__).parent.parent / folder))

QUICK = ("--privacy", "none", "--argument", "local_steps=2", "--weighting", "uniform")


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(autouse=True)
def elder_children() -> None:
    """Remember which children of this process are none of the test's."""
    node_in_process.ELDER.clear()
    node_in_process.ELDER.update(node_in_process.living_children())


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Three sites with a dataset each, and no study yet."""
    return found(tmp_path_factory.mktemp("founded") / "c", 3)


@pytest.fixture(scope="session")
def with_short_study(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Three sites that approved three rounds and one more of mixing, without privacy."""
    copy = founded.copied(tmp_path_factory.mktemp("study") / "c")
    terms = ("--rounds", "3", "--consensus-rounds", "1", "--round-deadline", "5")
    return with_study(copy, *QUICK, *terms, "--neighbours-min", "1", "--sites-min", "2")


@pytest.fixture
def consortium(with_short_study: Consortium, tmp_path: Path) -> Consortium:
    """An own copy of three sites with a short study."""
    return with_short_study.copied(tmp_path / "c")
