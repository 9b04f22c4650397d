"""Local training without privacy: plain gradient descent with momentum, repeatable by seed."""

from __future__ import annotations

import hashlib
import itertools
import os

import numpy as np
import pytest
from learn_manifests import LOGISTIC, MLP, manifest

from p2pfl.core.manifest_terms import DataTerms, NumberColumn, Target
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import Diverged, ModelRefused, PlanRefused
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector

TERMS = DataTerms(
    "tabular",
    2,
    0.34,
    Target("sick", 0.0),
    tuple(NumberColumn(name, -1.0, 1.0, 0.0, ()) for name in ("a", "b", "c")),
)
ZERO = np.zeros(4, dtype=np.float32)


def patients(n: int = 40, seed: int = 0) -> Prepared:
    generator = np.random.default_rng(seed)
    features = generator.uniform(-1, 1, (n, 3)).astype(np.float32)
    labels = (features @ np.array([2.0, -1.0, 0.5]) > 0.2).astype(np.float32)
    keys = tuple(hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(n))
    return Prepared(features, labels, ("a", "b", "c"), keys, ())


def trainer(arguments: dict[str, object], data: Prepared | None = None, **more: object) -> Trainer:
    chosen = manifest(TERMS, arguments=arguments, **more)
    return Trainer(chosen, data or patients(), denominator=1, random_bytes=os.urandom)


def by_hand(base: Vector, buffer: np.ndarray, arguments: dict[str, float]) -> Vector:
    """Logistic regression's gradient in closed form; `buffer` is the momentum, changed in place."""
    data = patients()
    inputs = np.concatenate([data.features, np.ones((data.size, 1))], axis=1).astype(np.float64)
    theta = base.astype(np.float64)
    for _ in range(int(arguments["local_steps"])):
        predicted = 1.0 / (1.0 + np.exp(-inputs @ theta))
        gradient = inputs.T @ (predicted - data.labels) / data.size
        gradient += arguments.get("weight_decay", 0.0) * theta
        buffer *= arguments["momentum"]
        buffer += gradient
        theta = theta - arguments["learning_rate"] * buffer
    return theta.astype(np.float32)


def test_rounds_are_gradient_descent_with_momentum_kept_between_them() -> None:
    arguments = {**LOGISTIC, "weight_decay": 0.01}
    local, buffer = trainer(arguments), np.zeros(4)
    expected = found = ZERO
    for round_ in range(3):
        expected = by_hand(expected, buffer, arguments)
        work = local.train(found, round_, {})
        found = work.vector
        assert found == pytest.approx(expected, abs=1e-5)
        assert work.steps == 10


def boxed(limit_s: float, tick_s: float) -> Trainer:
    """A trainer whose clock goes on by `tick_s` whenever somebody looks at it."""
    ticks = itertools.count()
    chosen = manifest(TERMS, arguments={**LOGISTIC, "local_steps": 20}, work_limit_s=limit_s)
    return Trainer(
        chosen,
        patients(),
        denominator=1,
        random_bytes=os.urandom,
        clock=lambda: next(ticks) * tick_s,
    )


@pytest.mark.parametrize(("tick_s", "made"), [(0.1, 20), (1.0, 5), (7.0, 1)])
def test_the_time_for_local_work_ends_the_steps_but_not_before_the_first(
    tick_s: float, made: int
) -> None:
    work = boxed(5.0, tick_s).train(ZERO, 0, {})
    assert (work.steps, work.planned) == (made, 20)
    expected = by_hand(ZERO, np.zeros(4), {**LOGISTIC, "local_steps": made})
    assert work.vector == pytest.approx(expected, abs=1e-5)
    assert boxed(0.0, tick_s).train(ZERO, 0, {}).steps == 20


def test_momentum_can_be_forgotten_each_round() -> None:
    local = trainer({**LOGISTIC, "momentum_reset": True})
    for round_ in range(2):
        found = local.train(ZERO, round_, {}).vector
        assert found == pytest.approx(by_hand(ZERO, np.zeros(4), LOGISTIC), abs=1e-5)


def test_scoring_between_rounds_changes_nothing_of_the_next() -> None:
    with_scores, without = trainer(LOGISTIC), trainer(LOGISTIC)
    first = with_scores.train(ZERO, 0, {}).vector
    with_scores.score(np.ones(4, dtype=np.float32), patients())
    without.train(ZERO, 0, {})
    second = with_scores.train(first, 1, {}).vector
    assert np.array_equal(second, without.train(first, 1, {}).vector)


def test_the_loss_is_the_mean_over_the_training_patients_afterwards() -> None:
    local, data = trainer(LOGISTIC), patients()
    work = local.train(ZERO, 0, {})
    assert work.loss == pytest.approx(local.score(work.vector, data).loss, rel=1e-5)
    assert work.loss < np.log(2.0)


def test_batches_follow_seed_site_and_round() -> None:
    arguments = {**LOGISTIC, "batch_size": 16, "momentum_reset": True}

    def model(seed: int, round_: int, data: Prepared) -> Vector:
        return trainer(arguments, data, seed=seed).train(ZERO, round_, {}).vector

    base = model(7, 0, patients())
    assert np.array_equal(base, model(7, 0, patients()))
    same_rows = patients()
    elsewhere = Prepared(
        same_rows.features, same_rows.labels, same_rows.columns, patients(seed=9).patients, ()
    )
    for other in (model(8, 0, patients()), model(7, 1, patients()), model(7, 0, elsewhere)):
        assert not np.array_equal(base, other)
        assert other == pytest.approx(base, abs=0.5)


def test_an_epoch_of_batches_sees_every_patient_once() -> None:
    arguments = {**LOGISTIC, "batch_size": 20, "local_steps": 2, "momentum": 0.0}
    full = {**LOGISTIC, "local_steps": 1, "momentum": 0.0}
    tiny = {"learning_rate": 1e-3}
    halves = trainer({**arguments, **tiny}).train(ZERO, 0, {}).vector
    whole = trainer({**full, "learning_rate": 2e-3}).train(ZERO, 0, {}).vector
    assert halves == pytest.approx(whole, abs=1e-6)  # two half steps, to first order


def test_the_mlp_learns() -> None:
    chosen = manifest(TERMS, plan="tabular-mlp", arguments=MLP)
    data = patients(200)
    local = Trainer(chosen, data, denominator=1, random_bytes=os.urandom)
    model = np.random.default_rng(1).normal(0, 0.3, local.schema.parameters).astype(np.float32)
    for round_ in range(5):
        model = local.train(model, round_, {}).vector
    score = local.score(model, data)
    assert score.auc is not None
    assert score.auc > 0.97


def test_steering_changes_one_round() -> None:
    ranges = {"learning_rate": [0.01, 2.0]}
    local = trainer({**LOGISTIC, "momentum_reset": True}, ranges=ranges)
    plain = local.train(ZERO, 0, {}).vector
    steered = local.train(ZERO, 0, {"learning_rate": 0.1}).vector
    expected = by_hand(ZERO, np.zeros(4), {**LOGISTIC, "learning_rate": 0.1})
    assert steered == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(local.train(ZERO, 0, {}).vector, plain)
    with pytest.raises(PlanRefused, match="approved are"):
        local.train(ZERO, 0, {"learning_rate": 3.0})


def test_numbers_that_explode_are_not_handed_on_and_leave_no_momentum() -> None:
    data = patients()
    local = trainer({**LOGISTIC, "learning_rate": 100.0, "momentum": 0.0})
    start = np.full(4, 3e38, dtype=np.float32)
    with pytest.raises(Diverged, match="round 0"):
        trainer({**LOGISTIC, "weight_decay": 1.0, "learning_rate": 100.0}).train(start, 0, {})
    assert np.isfinite(local.train(ZERO, 1, {}).vector).all()
    assert data.size == 40


def test_a_base_of_another_length_is_refused() -> None:
    with pytest.raises(ModelRefused, match="expected 4 parameters"):
        trainer(LOGISTIC).train(np.zeros(5, dtype=np.float32), 0, {})


def test_a_manifest_with_another_length_is_refused() -> None:
    with pytest.raises(ModelRefused, match="has 4 parameters, the manifest says 5"):
        trainer(LOGISTIC, parameters=5)
