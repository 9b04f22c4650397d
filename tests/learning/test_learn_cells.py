"""Gradients from cells: what a private step is made of when a stranger's text computes it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from learn_cells import PARAMETERS, PRIVATE, TERMS, gradient, kept, parsed, patient, study
from learn_texts import PLAIN

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.gradient_cells.asking import Cells, CellsGone
from p2pfl.learning.gradient_cells.given import patient_of_zeros
from p2pfl.learning.gradient_cells.steps import CellSteps, FlatVector
from p2pfl.learning.gradient_cells.trainer import CellTrainer
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.plans.code import code_plan
from p2pfl.learning.private_steps import PrivateSteps
from p2pfl.privacy.noise import GaussianStream

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

KEY = bytes(range(32))
PLAIN_STEP = Arguments(learning_rate=1.0, momentum=0.0)
FULL = PrivacyTerms("gaussian", 3.0, "1e-3", 0.5, "patient", "full", 1.0, 2.0, 1)
START = np.random.Generator(np.random.PCG64(5)).normal(size=PARAMETERS).astype(np.float32)

Keeping = tuple[Callable[[bytes], Cells], "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def keeping() -> Iterator[Keeping]:
    with kept() as found:
        yield found


@pytest.fixture(scope="module")
def cells(keeping: Keeping) -> Cells:
    """Cells of the plain text, with a model loaded."""
    made = keeping[0](study(PLAIN))
    schema = made.open(PARAMETERS)
    assert [one.name for one in schema.tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    made.load(START)
    return made


def patients(n: int = 6) -> Prepared:
    features = np.random.Generator(np.random.PCG64(3)).uniform(-1, 1, (n, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    keys = tuple(bytes([row]) * 32 for row in range(n))
    return Prepared(features, labels, ("a", "b", "c", "d"), keys, ())


def stepped(cells: Cells, data: Prepared, privacy: PrivacyTerms, key: bytes = KEY) -> np.ndarray:
    """What one private step from START subtracts from it, float64[d]."""
    model = FlatVector.of(PARAMETERS)
    model.values.copy_(torch.from_numpy(START))
    local = LocalOptimizer(model)
    local.begin_round(PLAIN_STEP)
    nobody = patient_of_zeros(TERMS)
    steps = CellSteps(cells, model, local, privacy, denominator=25, nobody=nobody)
    seeds = np.random.Generator(np.random.PCG64(1))
    met = steps.run(data, GaussianStream(key), None, seeds, {})
    assert met.without == 0
    return START.astype(np.float64) - model.values.numpy()


def by_opacus(data: Prepared, privacy: PrivacyTerms) -> np.ndarray:
    plan = code_plan(PLAIN)
    arguments = plan.arguments({"learning_rate": 1.0, "momentum": 0.0})
    model = FlatModel(plan.module(TERMS, arguments), plan.schema(TERMS, arguments))
    local = LocalOptimizer(model)
    model.load(START)
    local.begin_round(arguments)
    PrivateSteps(plan, model, local, privacy, denominator=25).run(data, GaussianStream(KEY), None)
    return START.astype(np.float64) - model.vector()


@pytest.mark.parametrize("clip", [0.05, 50.0])
def test_a_step_without_noise_is_that_of_opacus(cells: Cells, clip: float) -> None:
    quiet = dataclasses.replace(FULL, clip_norm=clip, noise_multiplier=0.0)
    almost = dataclasses.replace(quiet, noise_multiplier=1e-9)
    data = patients()
    found = stepped(cells, data, almost)
    assert np.abs(found).max() > 1e-4
    assert found == pytest.approx(by_opacus(data, quiet), abs=1e-6)


def test_noise_is_there_also_when_nobody_is_drawn(cells: Cells) -> None:
    rare = dataclasses.replace(FULL, sampling="poisson", sampling_rate=1e-12)
    moved = stepped(cells, patients(2), rare)
    assert moved.std() * 25e-12 / (2.0 * 0.5) == pytest.approx(1.0, abs=0.3)
    assert not np.array_equal(moved, stepped(cells, patients(2), rare, key=bytes(32)))


def test_one_patient_moves_the_sum_by_at_most_the_clip_norm(cells: Cells) -> None:
    almost = dataclasses.replace(FULL, clip_norm=0.05, noise_multiplier=1e-9)
    data = patients(4)
    without = data.rows(np.arange(4) > 0)
    moved = np.linalg.norm(stepped(cells, data, almost) - stepped(cells, without, almost)) * 25
    assert 0.049 < moved <= 0.05 * (1 + 1e-4)


def test_a_round_trains_and_a_score_comes_back(keeping: Keeping) -> None:
    steady = {"learning_rate": 1.0, "weight": 1.0}
    raw = study(
        PLAIN,
        privacy={**PRIVATE, "clip_norm": 1.0},
        arguments=steady,
        ranges={"weight": [0.5, 4.0]},
    )
    data = patients(5)
    trainer = CellTrainer(
        parsed(raw), data, keeping[0](raw), denominator=20, random_bytes=os.urandom
    )
    work = trainer.train(START, 0, {"weight": 2.0})
    assert (work.steps, work.vector.shape) == (1, START.shape)
    assert not np.array_equal(work.vector, START)
    found = trainer.score(START, data)
    assert found.n == 5
    assert 0.0 <= found.measures["right"] <= 1.0
    with pytest.raises(PlanRefused, match=r'"weight" is 5\.0'):
        trainer.train(START, 1, {"weight": 5.0})


def test_a_text_that_fails_for_everybody_says_where_before_the_study(keeping: Keeping) -> None:
    text = PLAIN.replace("        weight = 1.0", "        nothing\n        weight = 1.0")
    with pytest.raises(PlanRefused, match=r"plan\.py line 19: .* name 'nothing' is not defined"):
        keeping[0](study(text)).open(PARAMETERS)


def test_a_model_of_another_size_than_the_manifest_says_is_refused(keeping: Keeping) -> None:
    raw = study(PLAIN, parameters=40)
    with pytest.raises(PlanRefused, match="has 49 parameters, the manifest says 40"):
        keeping[0](raw).open(40)


def test_a_record_larger_than_a_pipe_arrives_whole(cells: Cells) -> None:
    from p2pfl.learning.gradient_cells import wire

    cells = Cells(cells._control, study(PLAIN))
    cells.open(PARAMETERS)
    cells.load(START)
    many = Batch((np.zeros((50_000, 4), np.float32),), np.zeros(50_000, np.float32))
    raw = cells.ask(wire.Task("score", {}, 0), many, wire.FRAME_BYTES_MAX, 60.0)
    assert wire.frame_in(raw)["auc"] is None
    assert gradient(cells, patient(0.5)) is not None


@pytest.mark.long
def test_a_keeper_that_is_gone_is_told_and_nobody_waits(keeping: Keeping) -> None:
    with kept() as (make, keeper):
        made = make(study(PLAIN))
        made.open(PARAMETERS)
        keeper.kill()
        keeper.wait(30)
        with pytest.raises(CellsGone):
            _ = [gradient(made, patient(0.5)) for _ in range(2)]
