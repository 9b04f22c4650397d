"""Plans and their arguments: what a manifest may ask for, and what may be steered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learn_manifests import LOGISTIC, MLP, table

from p2pfl.learning.errors import ModelRefused, PlanRefused
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.arguments import Arguments, checked, steered
from p2pfl.learning.vector import unflatten

WRITTEN = {"tabular-logistic": LOGISTIC, "tabular-mlp": MLP}
TABULAR = sorted(WRITTEN)


@pytest.mark.parametrize("name", TABULAR)
def test_a_plan_s_schema_is_its_torch_module_s(name: str) -> None:
    plan = plan_named(name)
    arguments = plan.arguments(WRITTEN[name])
    model = FlatModel(plan.module(table(30), arguments), plan.schema(table(30), arguments))
    vector = plan.initial(table(30), arguments, 7)
    model.load(vector)
    assert np.array_equal(model.vector(), vector)
    for tensor_name, values in unflatten(vector, plan.schema(table(30), arguments)).items():
        assert np.array_equal(model.module.get_parameter(tensor_name).detach().numpy(), values)


def test_the_benchmark_model_has_the_size_everybody_quotes() -> None:
    plan = plan_named("tabular-mlp")
    assert plan.schema(table(30), plan.arguments(MLP)).parameters == 30 * 64 + 64 + 64 * 2 + 2


def test_an_initial_model_follows_from_its_seed() -> None:
    plan = plan_named("tabular-mlp")
    arguments = plan.arguments(MLP)
    first, same, other = (plan.initial(table(30), arguments, seed) for seed in (7, 7, 8))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert np.abs(first).max() <= np.sqrt(6.0 / 30.0)


@pytest.mark.parametrize("outputs", [1, 2])
def test_both_outputs_of_the_mlp_predict_one_log_odds_per_patient(outputs: int) -> None:
    plan = plan_named("tabular-mlp")
    arguments = plan.arguments({**MLP, "outputs": outputs})
    logits = plan.module(table(3), arguments)(torch.ones(5, 3))
    assert plan.log_odds(logits).shape == (5,)
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
    signed = torch.where(labels > 0.5, plan.log_odds(logits), -plan.log_odds(logits))
    expected = torch.nn.functional.softplus(-signed).sum()
    assert torch.allclose(plan.loss_sum(logits, labels, arguments), expected)


def test_a_module_with_other_tensors_is_refused() -> None:
    plan = plan_named("tabular-logistic")
    with pytest.raises(ModelRefused, match="are not the plan's"):
        FlatModel(torch.nn.Linear(4, 1), plan.schema(table(3), Arguments()))


def test_an_unknown_plan_names_the_nearest() -> None:
    with pytest.raises(PlanRefused, match='did you mean "tabular-mlp"'):
        plan_named("tabular-mpl")
    with pytest.raises(PlanRefused, match="no plan"):
        plan_named("zzz")


def test_the_mlp_s_size_has_to_be_written() -> None:
    with pytest.raises(PlanRefused, match='"hidden"'):
        plan_named("tabular-mlp").arguments({"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"learning_rat": 1.0}, 'did you mean "learning_rate"'),
        ({"zzz": 1.0}, 'no argument "zzz"$'),
        ({"learning_rate": "fast"}, "is text"),
        ({"learning_rate": 0.0}, "expected 1e-06 to 100"),
        ({"learning_rate": float("nan")}, "expected 1e-06 to 100"),
        ({"local_steps": 1.5}, "expected a whole number"),
        ({"local_steps": 0}, "expected 1 to 10000"),
    ],
)
def test_a_wrong_argument_is_refused(written: dict[str, float | str], problem: str) -> None:
    with pytest.raises(PlanRefused, match=problem):
        checked(written)


def test_arguments_get_their_own_types() -> None:
    found = checked({"learning_rate": 1, "local_steps": 3.0, "momentum_reset": 1})
    assert found == Arguments(learning_rate=1.0, local_steps=3, momentum_reset=True)
    assert isinstance(found.learning_rate, float)
    assert isinstance(found.local_steps, int)
    assert found.momentum_reset is True


def test_steering_stays_inside_the_approved_range() -> None:
    ranges = {"learning_rate": (0.01, 2.0)}
    assert steered(Arguments(), {"learning_rate": 2.0}, ranges).learning_rate == 2.0
    with pytest.raises(PlanRefused, match=r"approved are 0\.01 to 2"):
        steered(Arguments(), {"learning_rate": 2.1}, ranges)
    with pytest.raises(PlanRefused, match="has no approved range"):
        steered(Arguments(), {"momentum": 0.5}, ranges)
    with pytest.raises(PlanRefused, match="cannot be steered"):
        steered(Arguments(), {"hidden": 8}, {"hidden": (1.0, 64.0)})
