"""A demonstration table and training processes shared by the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from p2pfl.learning.demo_data import DemoSite, cancer_sites
from p2pfl.learning.frames import Body, read_frame, write_frame

torch.set_num_threads(1)  # as in the training process

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "heart_disease_uci"


class Child:
    """A training process and its frames."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pfl.learning.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def ask(self, op: str, **fields: object) -> Body:
        """Send one request, return its answer."""
        assert self.process.stdin is not None
        write_frame(self.process.stdin, {"op": op, "id": 41, **fields})  # type: ignore[arg-type]
        answer = self.answer()
        assert answer["id"] == 41
        return answer

    def answer(self) -> Body:
        """The next frame."""
        assert self.process.stdout is not None
        return read_frame(self.process.stdout)  # type: ignore[arg-type]

    def send(self, raw: bytes) -> None:
        """Send bytes that may be no frame."""
        assert self.process.stdin is not None
        self.process.stdin.write(raw)
        self.process.stdin.flush()

    def end(self) -> int:
        """Close its stdin and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(120)


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


def write_csv(site: DemoSite, path: Path) -> Path:
    """Put a demonstration site's table on disk."""
    path.write_text("\n".join(",".join(row) for row in (site.header, *site.rows)) + "\n")
    return path


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
