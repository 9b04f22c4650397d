"""The training process is trusted less than the node: whatever it does ends in one event."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from node_homes import Consortium
from node_in_process import living_children, until, worker

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.manifest import PrivacyTerms
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import BlobError
from p2pfl.runtime.training_jobs import DatasetFile, TrainingJobs, opened_update
from p2pfl.runtime.training_process import LOG_BYTES_MAX
from p2pfl.runtime.training_usage import Allowance
from p2pfl.runtime.update_privacy import protected_model

GARBAGE_AT_OPEN = {
    "no-parameters": "garbled",
    "parameters-text": "garbled",
    "parameters-huge": "garbled",
    "hash-short": "garbled",
    "hash-number": "garbled",
    "crash": "died",
    "number": "died",
    "list": "died",
    "id-list": "died",
    "not-msgpack": "died",
    "huge-frame": "died",
    "cut-frame": "died",
    "nested": "died",
    "bytes-keys": "died",
    "flooding": "died",
    "claiming": "failed",
}
GARBAGE_AT_TRAINING = {
    "crash": "died",
    "no-loss": "garbled",
    "steps-text": "garbled",
    "sigma-long": "garbled",
    "mech-bytes": "garbled",
    "nothing-written": "bad-update",
    "nan": "bad-update",
    "short": "bad-update",
    "endless": "bad-update",
    "link": "bad-update",
    "pipe": "bad-update",
    "folder": "bad-update",
    "huge": "bad-update",
}


class Trainee:
    """Training jobs of site 0 with a process that behaves as told."""

    def __init__(
        self, made: Consortium, behaviour: str, allowance: Allowance | None = None
    ) -> None:
        self.home, self.manifest = made.home(0), made.manifest
        self.study = StudyId(self.manifest.study_id)
        self.events: list[ev.Event] = []
        self.jobs = TrainingJobs(
            home=self.home,
            blobs=BlobStore(self.home.blobs),
            dataset_file=lambda ds: DatasetFile(made.folder / "site0.csv", ""),
            program=worker(behaviour),
            allowance=allowance,
            submit=self.events.append,
        )

    async def open(self) -> None:
        dataset = DatasetId(bytes(32))
        await self.jobs.open(fx.OpenTraining(self.study, self.manifest, dataset, 40))

    async def train(self) -> None:
        terms = self.manifest.study
        base = ModelHash(terms.initial_model)
        await self.jobs.train(fx.Train(self.study, Round(0), base, terms.parameters))

    def failure(self) -> ev.TrainingFailed:
        (failed,) = self.events
        assert isinstance(failed, ev.TrainingFailed)
        return failed


@pytest.mark.parametrize(("behaviour", "code"), GARBAGE_AT_OPEN.items())
async def test_nonsense_at_opening_is_one_named_failure(
    consortium: Consortium, behaviour: str, code: str
) -> None:
    trainee = Trainee(consortium, behaviour)
    await asyncio.wait_for(trainee.open(), 40)
    assert trainee.failure().code == code
    await asyncio.wait_for(trainee.jobs.kill_all(), 5)
    assert living_children() == []


@pytest.mark.parametrize(("behaviour", "code"), GARBAGE_AT_TRAINING.items())
async def test_nonsense_after_training_is_one_named_failure_and_no_update(
    consortium: Consortium, behaviour: str, code: str
) -> None:
    trainee = Trainee(consortium, behaviour)
    before = BlobStore(trainee.home.blobs).digests()
    await asyncio.wait_for(trainee.open(), 40)
    trainee.events.clear()
    await asyncio.wait_for(trainee.train(), 40)
    assert trainee.failure().code == code
    assert BlobStore(trainee.home.blobs).digests() == before
    await asyncio.wait_for(trainee.jobs.kill_all(), 5)
    assert living_children() == []


async def test_a_process_that_hangs_is_killed_at_once_and_its_request_ends(
    consortium: Consortium,
) -> None:
    trainee = Trainee(consortium, "silent")
    opening = asyncio.create_task(trainee.open())
    await until(trainee.jobs.pids)
    started_s = time.monotonic()
    await trainee.jobs.kill(trainee.study)
    await asyncio.wait_for(opening, 5)
    assert time.monotonic() - started_s < 1.0
    assert trainee.failure().code == "died"
    assert living_children() == []


async def test_a_process_that_writes_too_much_fails_by_that_name_and_leaves_nothing(
    consortium: Consortium,
) -> None:
    trainee = Trainee(consortium, "filling", Allowance(disk_bytes=8 << 20))
    await asyncio.wait_for(trainee.open(), 40)
    trainee.events.clear()
    await asyncio.wait_for(trainee.train(), 40)
    assert trainee.failure().code == "disk-limit"
    work = trainee.home.path / "work"
    assert list(work.glob("*/filled"))
    await asyncio.wait_for(trainee.jobs.kill_all(), 5)
    assert list(work.iterdir()) == []
    assert living_children() == []


async def test_folders_that_no_walk_reaches_the_end_of_go_with_the_study(
    consortium: Consortium,
) -> None:
    trainee = Trainee(consortium, "nesting")
    await asyncio.wait_for(trainee.open(), 40)
    await asyncio.wait_for(trainee.jobs.kill_all(), 20)
    assert list((trainee.home.path / "work").iterdir()) == []


async def test_what_a_process_left_behind_holds_up_nothing(consortium: Consortium) -> None:
    trainee = Trainee(consortium, "orphaning")
    await asyncio.wait_for(trainee.open(), 40)
    assert isinstance(trainee.events[0], ev.TrainingOpened)
    await asyncio.wait_for(trainee.jobs.kill_all(), 5)
    assert trainee.jobs.pids() == ()


async def test_a_noisy_process_cannot_fill_the_disk_with_its_complaints(
    consortium: Consortium,
) -> None:
    trainee = Trainee(consortium, "noisy")
    await asyncio.wait_for(trainee.open(), 80)
    assert isinstance(trainee.events[0], ev.TrainingOpened)
    await trainee.jobs.kill_all()
    kept = sum(path.stat().st_size for path in trainee.home.logs.glob("training-*"))
    assert 0 < kept <= 2 * LOG_BYTES_MAX + 65_536


async def test_a_second_opening_leaves_one_process(consortium: Consortium) -> None:
    trainee = Trainee(consortium, "well")
    await asyncio.gather(trainee.open(), trainee.open())
    assert len(trainee.jobs.pids()) == 1
    assert list(trainee.jobs.pids()) == living_children()
    await trainee.jobs.kill_all()


async def test_scratch_files_are_private_and_go_with_the_study(consortium: Consortium) -> None:
    trainee = Trainee(consortium, "well")
    left = trainee.home.path / "work" / trainee.study.hex() / "round-7.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a process that was killed")
    await trainee.open()
    assert not left.exists()
    assert left.parent.stat().st_mode & 0o077 == 0
    await trainee.train()
    assert list(left.parent.iterdir()) == []
    await trainee.jobs.close(trainee.study)
    assert not left.parent.exists()


def test_an_update_file_is_read_only_as_far_as_a_model_reaches(tmp_path: Path) -> None:
    path = tmp_path / "update"
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)  # a terabyte that takes no disk
    with pytest.raises(BlobError), opened_update(path, 9):
        pass


async def test_whole_updates_leave_clipped_and_noised_by_the_node(consortium: Consortium) -> None:
    """The process adds a constant and no noise: what it says of itself counts for nothing."""
    trainee = Trainee(consortium, "good")
    privacy = PrivacyTerms("gaussian", 1.0, "1e-3", 0.5, "site", "full", 1.0, 4.0, 1)
    trainee.manifest = replace(trainee.manifest, privacy=privacy)
    await asyncio.wait_for(trainee.open(), 40)
    await asyncio.wait_for(trainee.train(), 40)
    trained = trainee.events[-1]
    assert isinstance(trained, ev.Trained)
    store, d = BlobStore(trainee.home.blobs), trainee.manifest.study.parameters
    base = store.read_vector(trainee.manifest.study.initial_model, d)
    moved = store.read_vector(trained.model, d) - base
    assert len(set(moved.tolist())) == d
    # σ × 2 × clip norm = 4 per parameter; the clipped constant is lost in it.
    assert 4.0 / 3 < float(np.sqrt(np.mean(moved**2))) < 4.0 * 3
    await asyncio.wait_for(trainee.jobs.kill_all(), 5)


def test_a_protected_update_is_the_clipped_one_under_the_noise_that_is_accounted() -> None:
    d = 200_000
    base = np.linspace(-1.0, 1.0, d, dtype=np.float32)
    trained = base + np.float32(3.0)
    privacy = PrivacyTerms("gaussian", 1.0, "1e-3", 0.5, "site", "full", 1.0, 4.0, 1)
    released = protected_model(trained, base, privacy) - base
    clipped = 0.5 / np.sqrt(d)
    assert float(released.mean()) == pytest.approx(clipped, abs=5 * 4.0 / np.sqrt(d))
    assert float(released.std()) == pytest.approx(4.0, rel=0.01)
    quiet = replace(privacy, noise_multiplier=1e-9)
    exact = protected_model(trained, base, quiet) - base
    assert float(np.linalg.norm(exact)) == pytest.approx(0.5, rel=1e-3)
