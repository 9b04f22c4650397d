"""The plan `tabular-vae`: it learns to make its inputs again, and privacy holds for it."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from learn_manifests import PRIVATE, manifest, table

from p2pfl.core.manifest_terms import NO_PRIVACY, Manifest
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.vae_module import Vae, VaeParts, parts_of, vae_loss_sum
from p2pfl.learning.training import Trainer

TERMS = dataclasses.replace(table(6), target=None)
ARGUMENTS = {
    "learning_rate": 0.01,
    "local_steps": 60,
    "hidden": 16,
    "latent": 2,
    "beta": 0.05,
    "batch_size": 32,
}


def patients(n: int = 160) -> Prepared:
    """Six columns that two numbers make."""
    generator = np.random.default_rng(5)
    hidden = generator.uniform(-1.0, 1.0, (n, 2))
    features = np.tanh(hidden @ generator.normal(size=(2, 6))).astype(np.float32)
    return Prepared(
        features=features,
        labels=np.zeros(n, dtype=np.float32),
        columns=tuple(f"c{i}" for i in range(6)),
        patients=tuple(bytes([i % 256, i // 256]) * 16 for i in range(n)),
        notes=(),
    )


def study(arguments: dict[str, object], **changes: object) -> Manifest:
    return manifest(TERMS, plan="tabular-vae", arguments=arguments, **changes)


@pytest.mark.parametrize("loss", ["gaussian", "bernoulli"])
def test_a_few_rounds_explain_most_of_the_variance(loss: str) -> None:
    chosen = study({**ARGUMENTS, "loss": loss}, rounds=5)
    trainer = Trainer(chosen, patients(), denominator=1, random_bytes=os.urandom)
    start = initial_model(chosen)
    model = start
    for round_ in range(5):
        model = trainer.train(model, round_, {}).vector
    before, after = trainer.score(start, patients()), trainer.score(model, patients())
    assert after.accuracy > max(0.7, before.accuracy)
    assert after.loss < before.loss
    assert after.auc is None
    assert after.measures["explained"] == after.accuracy


def test_the_same_seed_draws_the_same_latents() -> None:
    chosen = study(ARGUMENTS)
    start = initial_model(chosen)
    found = [
        Trainer(chosen, patients(), denominator=1, random_bytes=os.urandom).train(start, 0, {})
        for _ in range(2)
    ]
    assert np.array_equal(found[0].vector, found[1].vector)


def test_the_loss_is_the_evidence_bound() -> None:
    """Against torch's own normal distributions."""
    generator = torch.Generator().manual_seed(1)
    parts = VaeParts(*(torch.randn(4, size, generator=generator) for size in (6, 6, 2, 2)))
    latent = torch.distributions.Normal(parts.mean, torch.exp(0.5 * parts.log_variance))
    prior = torch.distributions.Normal(0.0, 1.0)
    divergence = torch.distributions.kl_divergence(latent, prior).sum()
    off = -torch.distributions.Normal(parts.made, 1.0).log_prob(parts.inputs).sum()
    constant = parts.inputs.numel() * 0.5 * np.log(2.0 * np.pi)
    found = vae_loss_sum(parts, beta=3.0, kind="gaussian")
    assert float(found) == pytest.approx(float(off - constant + 3.0 * divergence), rel=1e-5)


def test_the_module_without_training_uses_the_mean() -> None:
    module = Vae(6, 4, 2).eval()
    columns = torch.rand(3, 6)
    parts = parts_of(module(columns), 2)
    assert torch.equal(parts.inputs, columns)
    assert parts.mean.shape == (3, 2)
    assert torch.equal(module(columns), module(columns))


def test_privacy_trains_it_patient_by_patient() -> None:
    chosen = study(ARGUMENTS, privacy={**PRIVATE, "noise_multiplier": 0.5})
    trainer = Trainer(chosen, patients(), denominator=160, random_bytes=os.urandom)
    start = initial_model(chosen)
    assert not np.array_equal(trainer.train(start, 0, {}).vector, start)


def test_a_target_or_another_plan_s_argument_is_refused() -> None:
    plan = plan_named("tabular-vae")
    with pytest.raises(PlanRefused, match='target = "none"'):
        plan.check(table(6), plan.arguments({}), NO_PRIVACY)
    with pytest.raises(PlanRefused, match='did you mean "latent"'):
        plan.arguments({"latents": 3})
    with pytest.raises(PlanRefused, match="predicts nothing"):
        plan.log_odds(torch.zeros(1, 1))
