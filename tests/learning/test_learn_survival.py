"""The plan `tabular-cox`: its losses, what it learns, and where privacy forbids it."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from learn_manifests import PRIVATE, manifest, table

from p2pfl.core.manifest_terms import DataTerms, Manifest, NumberColumn, SurvivalTarget
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.survival_loss import partial_loss_sum, piecewise_loss_sum
from p2pfl.learning.survival_scoring import concordance
from p2pfl.learning.training import Trainer

TERMS = DataTerms(
    "tabular",
    2,
    0.34,
    SurvivalTarget("months", "died"),
    tuple(NumberColumn(f"c{i}", -1.0, 1.0, 0.0, ()) for i in range(3)),
)
TRUE = np.array([1.5, -1.0, 0.0])
HORIZON = 3.0
PIECEWISE = {"loss": "piecewise", "horizon": HORIZON, "learning_rate": 0.5, "local_steps": 60}


def cohort(n: int = 400) -> Prepared:
    """Exponential times with known coefficients; a third is lost to follow-up."""
    generator = np.random.default_rng(3)
    features = generator.uniform(-1.0, 1.0, (n, 3)).astype(np.float32)
    times = generator.exponential(1.0, n) / np.exp(features @ TRUE)
    lost = generator.exponential(2.0, n)
    return Prepared(
        features=features,
        labels=(times <= lost).astype(np.float32),
        columns=("c0", "c1", "c2"),
        patients=tuple(bytes([i % 256, i // 256]) * 16 for i in range(n)),
        notes=(),
        times=np.maximum(np.minimum(times, lost), 1e-3).astype(np.float32),
    )


def study(arguments: dict[str, object], **changes: object) -> Manifest:
    return manifest(TERMS, plan="tabular-cox", arguments=arguments, **changes)


def coefficients(arguments: dict[str, object]) -> np.ndarray:
    chosen, patients = study(arguments, rounds=3), cohort()
    trainer = Trainer(chosen, patients, denominator=1, random_bytes=os.urandom)
    model = initial_model(chosen)
    for round_ in range(3):
        model = trainer.train(model, round_, {}).vector
    assert trainer.score(model, patients).accuracy > 0.7
    return model[:3]


def newton(on: Prepared) -> np.ndarray:
    """Cox's coefficients by Newton's method; no two times are equal here."""
    assert on.times is not None
    order = np.argsort(-on.times)
    x, events = on.features[order].astype(np.float64), on.labels[order]
    beta = np.zeros(3)
    for _ in range(12):
        risk = np.exp(x @ beta)
        total = np.cumsum(risk)
        mean = np.cumsum(risk[:, None] * x, axis=0) / total[:, None]
        square = np.cumsum(risk[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)
        spread = square / total[:, None, None] - mean[:, :, None] * mean[:, None, :]
        gradient = (events[:, None] * (x - mean)).sum(axis=0)
        beta += np.linalg.solve((events[:, None, None] * spread).sum(axis=0), gradient)
    return beta


def test_the_partial_likelihood_is_breslow_s_with_ties() -> None:
    risk = torch.tensor([0.3, -0.2, 0.9, 0.1, 0.5])
    times, events = [2.0, 1.0, 2.0, 3.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0]
    expected = 0.0
    for i in range(5):
        if events[i]:
            at_risk = [float(risk[j]) for j in range(5) if times[j] >= times[i]]
            expected += float(np.log(np.exp(at_risk).sum())) - float(risk[i])
    found = partial_loss_sum(risk, torch.tensor(times), torch.tensor(events))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_piecewise_likelihood_is_that_of_constant_hazards() -> None:
    """Two parts of 1.5: hazards 0.2 and 0.4 per part."""
    outputs = torch.tensor([[0.5, np.log(0.2), np.log(0.4)]] * 3)
    target = torch.tensor([[0.75, 1.0], [2.25, 0.0], [9.0, 1.0]])
    each = np.exp(0.5)
    expected = [
        each * 0.2 * 0.5 - (0.5 + np.log(0.2)),
        each * (0.2 + 0.4 * 0.5),
        each * (0.2 + 0.4),  # still there at the end of the horizon
    ]
    assert float(piecewise_loss_sum(outputs, target, HORIZON)) == pytest.approx(sum(expected))


def test_both_losses_find_the_coefficients() -> None:
    partial = coefficients({"learning_rate": 0.5, "local_steps": 60})
    piecewise = coefficients(PIECEWISE)
    assert partial == pytest.approx(newton(cohort()), abs=0.01)
    assert partial == pytest.approx(TRUE, abs=0.3)
    assert piecewise == pytest.approx(partial, abs=0.15)


def test_concordance_counts_only_pairs_that_can_be_compared() -> None:
    risk, times = np.array([1.0, 2.0, 3.0, 3.0]), np.array([4.0, 3.0, 2.0, 2.0])
    assert concordance(risk, times, np.array([1.0, 1.0, 1.0, 0.0])) == 1.0
    assert concordance(-risk, times, np.array([1.0, 1.0, 1.0, 0.0])) == 0.0
    assert concordance(risk * 0, times, np.array([0.0, 1.0, 0.0, 0.0])) == 0.5
    assert concordance(risk, times, np.zeros(4)) is None


def test_privacy_refuses_the_loss_that_ties_patients_and_takes_the_other() -> None:
    with pytest.raises(PrivacyRefused, match=r'"partial" ties.*use loss = "piecewise"'):
        initial_model(study({"learning_rate": 0.5}, privacy=PRIVATE))
    chosen = study(PIECEWISE, privacy={**PRIVATE, "noise_multiplier": 0.5})
    trainer = Trainer(chosen, cohort(), denominator=400, random_bytes=os.urandom)
    moved = trainer.train(initial_model(chosen), 0, {}).vector
    assert moved.shape == (3 + 10,)
    assert moved[0] > 0.0 > moved[1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"loss": "piecewise"}, "needs a horizon"),
        ({"horizon": 5.0}, 'means nothing with loss = "partial"'),
        ({"loss": "piecewize"}, 'did you mean "piecewise"'),
        ({"hidden": 3}, 'no argument "hidden"'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(PlanRefused, match=problem):
        plan_named("tabular-cox").arguments(arguments)  # type: ignore[arg-type]


def test_a_yes_or_no_is_no_survival() -> None:
    plan = plan_named("tabular-cox")
    arguments = plan.arguments({})
    chosen = study({"learning_rate": 0.5})
    with pytest.raises(PlanRefused, match="time and event"):
        plan.check(table(3), arguments, chosen.privacy)
    with pytest.raises(PlanRefused, match="no single probability"):
        plan.log_odds(torch.zeros(1, 1))
