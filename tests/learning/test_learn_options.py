"""Options for sites with different patients, in the training process itself."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learn_manifests import LOGISTIC, MLP, PRIVATE, manifest, table

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.at_home import used_here
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector

PLAIN = {"learning_rate": 0.2, "local_steps": 5, "momentum": 0.0}
TERMS = table(3)
ZERO = np.zeros(4, dtype=np.float32)


def patients(seed: int, n: int = 60) -> Prepared:
    """Sites differ: another direction separates the labels at each of them."""
    random = np.random.default_rng(seed)
    features = random.uniform(-1, 1, (n, 3)).astype(np.float32)
    labels = (features @ random.normal(size=3) > 0.3 * seed).astype(np.float32)
    keys = tuple(hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(n))
    return Prepared(features, labels, ("c0", "c1", "c2"), keys, ())


def trainer(chosen: Manifest, seed: int = 0, **more: object) -> Trainer:
    data = patients(seed)
    return Trainer(chosen, data, denominator=60, random_bytes=os.urandom, **more)  # type: ignore[arg-type]


def study(arguments: dict[str, object], **changes: object) -> Manifest:
    return manifest(TERMS, arguments=arguments, **changes)


def gradient(data: Prepared, theta: Vector) -> Vector:
    """Logistic regression's, in closed form."""
    inputs = np.concatenate([data.features, np.ones((data.size, 1))], axis=1).astype(np.float64)
    predicted = 1.0 / (1.0 + np.exp(-inputs @ theta.astype(np.float64)))
    return np.asarray(inputs.T @ (predicted - data.labels) / data.size)


def test_the_proximal_term_pulls_each_step_towards_the_base() -> None:
    local, mu = trainer(study({**PLAIN, "proximal": 0.5})), 0.5
    base = np.full(4, 0.3, dtype=np.float32)
    expected = base.astype(np.float64)
    for _ in range(5):
        expected = expected - 0.2 * (gradient(patients(0), expected) + mu * (expected - base))
    assert local.train(base, 0, {}).vector == pytest.approx(expected, abs=1e-5)


def test_quasi_global_momentum_starts_each_round_in_the_direction_of_all() -> None:
    local = trainer(study({**PLAIN, "momentum": 0.9, "correction": "quasi-global"}))
    local.train(ZERO, 0, {})
    mixed = np.array([0.4, -0.2, 0.1, 0.05], dtype=np.float32)
    momentum = (1 - 0.9) * (ZERO - mixed) / (5 * 0.2)
    expected = mixed.astype(np.float64)
    for _ in range(5):
        momentum = 0.9 * momentum + gradient(patients(0), expected)
        expected = expected - 0.2 * momentum
    assert local.train(mixed, 1, {}).vector == pytest.approx(expected, abs=1e-5)


def by_scaffold(rounds: int) -> list[Vector]:
    """SCAFFOLD as it is published (option II), all sites in each round, for three sites."""
    model, shared = np.zeros(4), np.zeros(4)
    own = [np.zeros(4) for _ in range(3)]
    trained: list[Vector] = []
    for _ in range(rounds):
        trained = []
        for site in range(3):
            local = model.copy()
            for _ in range(5):
                local = local - 0.2 * (gradient(patients(site), local) + shared - own[site])
            own[site] = own[site] - shared + (model - local) / (5 * 0.2)
            trained.append(local)
        model, shared = np.mean(trained, axis=0), np.mean(own, axis=0)
    return trained


def test_control_variates_are_scaffold_without_its_second_message() -> None:
    chosen = study({**PLAIN, "correction": "control"})
    sites = [trainer(chosen, site) for site in range(3)]
    base = ZERO
    for round_ in range(4):
        trained = [site.train(base, round_, {}).vector for site in sites]
        base = np.mean(trained, axis=0).astype(np.float32)
    for found, expected in zip(trained, by_scaffold(4), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("correction", ["quasi-global", "control"])
def test_a_site_that_missed_a_round_does_not_take_it_for_a_step(correction: str) -> None:
    usual = {**PLAIN, "momentum": 0.9 if correction == "quasi-global" else 0.0}
    arguments = {**usual, "correction": correction}
    plain = trainer(study(usual)).train(np.full(4, 5.0, dtype=np.float32), 7, {}).vector
    local = trainer(study(arguments))
    if correction == "quasi-global":
        local.train(ZERO, 0, {})  # its own momentum ends with the round
    assert local.train(np.full(4, 5.0, dtype=np.float32), 7, {}).vector == pytest.approx(
        plain, abs=1e-6
    )


@pytest.mark.parametrize("strength", [50.0, 1e6])
def test_consolidation_holds_on_to_what_matters_and_lets_go_of_the_rest(strength: float) -> None:
    data = patients(0)
    features = data.features.copy()
    features[:, 2] = 0.0  # a column that says nothing: its weight may go anywhere
    silent = replace(data, features=features)
    chosen = study({**PLAIN, "local_steps": 200, "consolidation": strength})
    start = np.array([1.0, 1.0, 1.0, 0.0], dtype=np.float32)
    local = Trainer(chosen, silent, denominator=1, random_bytes=os.urandom, initial=lambda: start)
    held = local.train(start, 0, {}).vector
    free = trainer(study({**PLAIN, "local_steps": 200})).train(start, 0, {}).vector
    assert np.abs(held - start)[:2].max() < 0.2 * np.abs(free - start)[:2].max()
    importance = local._local.corrections._importance
    assert importance is not None
    assert float(importance[2]) == 0.0
    assert float(importance[0]) > 0.0


@pytest.mark.parametrize(
    ("choice", "kept"), [("norm", slice(0, 6)), ("threshold", slice(-1, None))]
)
def test_layers_at_home_never_leave_and_come_back_after_a_restart(
    choice: str, kept: slice, tmp_path: Path
) -> None:
    chosen = study({**PLAIN, "at_home": choice, "input_norm": True})
    base, path = initial_model(chosen), tmp_path / "home.safetensors"
    local = trainer(chosen, home_layers=path)
    first = local.train(base, 0, {})
    assert np.array_equal(first.vector[kept], base[kept]), "nothing of them leaves"
    at_home = local.at_home(first.vector)
    assert not np.array_equal(at_home[kept], base[kept]), "they were trained"
    again = trainer(chosen, home_layers=path)
    assert np.array_equal(again.at_home(first.vector), at_home)
    assert np.array_equal(used_here(first.vector, chosen, path), at_home)
    assert np.array_equal(used_here(first.vector, chosen, tmp_path / "none"), first.vector)
    elsewhere = trainer(chosen, 1).train(base, 0, {}).vector
    assert np.array_equal(elsewhere[kept], base[kept])


def test_private_training_covers_the_layers_at_home() -> None:
    chosen = study({**LOGISTIC, "at_home": "norm", "input_norm": True}, privacy=PRIVATE)
    base = initial_model(chosen)
    work = trainer(chosen).train(base, 0, {})
    assert work.steps == 1
    assert np.array_equal(work.vector[:6], base[:6])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({**LOGISTIC, "correction": "control"}, "momentum = 0"),
        ({**PLAIN, "correction": "quasi-global"}, "momentum above 0"),
        ({**LOGISTIC, "optimiser": "adam", "correction": "quasi-global"}, 'optimiser = "sgd"'),
        ({**LOGISTIC, "at_home": "norm"}, "no such layer"),
        ({**LOGISTIC, "at_home": "head"}, "no other layer"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(PlanRefused, match=words):
        trainer(study(arguments))


def test_consolidation_is_refused_under_privacy() -> None:
    with pytest.raises(PrivacyRefused, match="Fisher"):
        trainer(study({**LOGISTIC, "consolidation": 1.0}, privacy=PRIVATE))


def test_a_head_at_home_leaves_the_rest_shared() -> None:
    chosen = manifest(TERMS, plan="tabular-mlp", arguments={**MLP, "at_home": "head"})
    base = initial_model(chosen)
    local = trainer(chosen)
    sent = local.train(base, 0, {}).vector
    head = 64 * 2 + 2
    assert np.array_equal(sent[-head:], base[-head:])
    assert not np.array_equal(sent[:-head], base[:-head])
    torch.manual_seed(0)  # nothing here may depend on torch's own generator
    assert np.array_equal(trainer(chosen).train(base, 0, {}).vector, sent)
