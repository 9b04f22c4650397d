"""A demonstration table and training processes shared by the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from learn_child import Child
from learn_tables import write_csv

from p2pfl.learning.demo_data import cancer_sites

torch.set_num_threads(1)  # as in the training process

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "heart_disease_uci"


@pytest.fixture(scope="session")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One training process for all tests that leave it usable."""
    running = Child(tmp_path_factory.mktemp("child"), "--parent", str(os.getpid()))
    yield running
    assert running.end() == 0


@pytest.fixture
def new_child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts a training process of the test's own."""
    started: list[Child] = []

    def start(*arguments: str) -> Child:
        started.append(Child(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture(scope="session")
def cancer_csvs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The breast-cancer patients of four sites."""
    folder = tmp_path_factory.mktemp("cancer")
    return tuple(write_csv(site, folder / f"{site.name}.csv") for site in cancer_sites(4, 7))


@pytest.fixture(scope="session")
def heart_folder() -> Path:
    """The four UCI files, where this machine has them."""
    if not SHARED.is_dir():
        pytest.skip("the UCI heart-disease files are not on this machine")
    return SHARED
