"""A researcher's text as a plan: what it has to have, and what its mistakes are told as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learn_manifests import manifest, table
from learn_texts import PLAIN, STEP

from p2pfl.core.manifest_code import CodeTerms, text_digest
from p2pfl.core.manifest_terms import NO_PRIVACY, PrivacyTerms
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import LearningError, PlanRefused, PrivacyRefused
from p2pfl.learning.plans.arguments import steered
from p2pfl.learning.plans.code import code_plan
from p2pfl.learning.rehearsal import left_out

TERMS = table(4)
PRIVATE = PrivacyTerms("gaussian", 3.0, "1e-3", 2.0, "patient", "full", 1.0, 9.1, 1)
POISSON = PrivacyTerms("gaussian", 3.0, "1e-3", 2.0, "patient", "poisson", 0.1, 9.1, 1)


def patients(n: int = 30) -> Prepared:
    features = np.random.Generator(np.random.PCG64(3)).uniform(-1, 1, (n, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    keys = tuple(bytes([row]) * 32 for row in range(n))
    return Prepared(features, labels, ("a", "b", "c", "d"), keys, ())


def test_a_text_gives_a_model_that_starts_alike_everywhere() -> None:
    plan = code_plan(PLAIN)
    arguments = plan.arguments({"hidden": 5})
    schema = plan.schema(TERMS, arguments)
    assert [one.name for one in schema.tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert schema.parameters == 5 * 4 + 5 + 5 + 1
    first, again = (plan.initial(TERMS, arguments, 7) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, plan.initial(TERMS, arguments, 8))


def test_each_patient_has_a_loss_of_its_own() -> None:
    plan = code_plan(PLAIN)
    arguments = plan.arguments({})
    outputs, target = torch.randn(6, 1), torch.tensor([0.0, 1, 0, 1, 0, 1])
    losses = plan.losses(outputs, target, arguments)
    assert losses.shape == (6,)
    assert torch.allclose(plan.loss_sum(outputs, target, arguments), losses.sum())


def test_own_arguments_may_be_steered_where_the_text_says_so() -> None:
    plan = code_plan(PLAIN)
    base = plan.arguments({})
    ranges = {"weight": (0.5, 4.0), "learning_rate": (0.1, 1.0)}
    plan.check_ranges(ranges)
    outputs, target = torch.zeros(1, 1), torch.ones(1)
    before = float(plan.loss_sum(outputs, target, base))
    now = steered(base, {"weight": 3, "learning_rate": 0.2}, ranges)
    assert (now.own["weight"], now.learning_rate) == (3.0, 0.2)
    assert float(plan.loss_sum(outputs, target, now)) == pytest.approx(3 * before)
    with pytest.raises(PlanRefused, match=r"approved are 0\.5 to 4"):
        steered(base, {"weight": 5.0}, ranges)
    with pytest.raises(PlanRefused, match='"hidden" has a range, but'):
        plan.check_ranges({"hidden": (1, 9)})


def test_a_score_has_what_the_text_measures() -> None:
    plan = code_plan(PLAIN)
    arguments = plan.arguments({})
    found = plan.score(plan.module(TERMS, arguments), patients(), arguments)
    assert found.n == 30
    assert found.auc is not None
    assert found.measures == {"right": pytest.approx(found.accuracy, abs=1e-4)}
    assert found.measures["right"] == round(found.measures["right"], 4)


def test_a_transform_comes_before_the_model() -> None:
    plan, plain = code_plan(STEP), code_plan(PLAIN)
    arguments = plan.arguments({})
    torch.manual_seed(1)
    with_transform = plan.module(TERMS, arguments)
    torch.manual_seed(1)
    without = plain.module(TERMS, arguments)
    columns = torch.randn(3, 4)
    assert torch.allclose(with_transform(columns), without(columns * 0.5))


def test_a_training_step_of_its_own_goes_without_clipping_patients() -> None:
    plan = code_plan(STEP)
    arguments = plan.arguments({})
    plan.check(TERMS, arguments, NO_PRIVACY)
    with pytest.raises(PrivacyRefused, match='protect whole updates with unit = "site"'):
        plan.check(TERMS, arguments, PRIVATE)
    module, columns, target = plan.module(TERMS, arguments), torch.randn(3, 4), torch.ones(3)
    doubled = plan.step_loss(module, (columns,), target, arguments)
    assert doubled is not None
    outputs = module(columns)
    assert torch.allclose(doubled, 2 * plan.loss_sum(outputs, target, arguments) / 3)


def changed(old: str, new: str) -> str:
    assert PLAIN.count(old) == 1, f"{old!r} is not exactly once in the text"
    return PLAIN.replace(old, new)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("class Plan\n    pass\n", r"plan\.py line 1: expected ':'"),
        ("x = 1\ny = (\n", r"plan\.py line 2: '\(' was never closed"),
        ("(" * 300 + ")" * 300 + "\n", r"plan\.py line 1: too many nested parentheses"),
        ("x = " + "-" * 20_000 + "1\n", r"plan\.py: nested too deeply"),
        ("x = 1\n1 / 0\n", r"plan\.py line 2: cannot be loaded: ZeroDivisionError"),
        ("import nothing_of_the_kind\n", r"plan\.py line 1: cannot be loaded: ModuleNotFound"),
        ("plan = 3\n", "there is no class named Plan"),
        ("Plan = 3\n", "there is no class named Plan"),
        (changed("def model", "def modell"), r"plan\.py line 11: class Plan has no method model"),
        (changed('"hidden": 8, ', '"hidden": [8], '), '"hidden" is list, expected a number'),
        (changed('"hidden": 8', '"hidden": 8, "momentum": 1'), "one that every plan has"),
        (
            changed('steerable = ["weight"]', 'steerable = ["size"]'),
            "steerable is a list of names of arguments",
        ),
        (changed("(0.0, 1.0)}", "(1.0, 0.0)}"), "needs low below high"),
        (changed("(0.0, 1.0)}", "3}"), r"has no \(low, high\)"),
        (changed("def metrics", "def mettrics"), "go together"),
        (changed("steerable", "def __init__(self):\n        1 / 0\n    steerable"), "line 9"),
    ],
)
def test_what_is_wrong_with_a_text_is_told_with_its_line(text: str, what: str) -> None:
    with pytest.raises(PlanRefused, match=what):
        code_plan(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (changed("return nn.Seq", "return [].append or nn.Seq"), "no torch.nn.Module"),
        (changed("nn.ReLU()", "nn.BatchNorm1d(8)"), r'line 11: the layer "1" is a batch norm'),
        (changed("return nn.Seq", "return nn.ReLU() or nn.Seq"), "no parameters to train"),
        (changed("return nn.Seq", "return nn.Linear(4, 1).double() or nn.Seq"), r"torch\.float64"),
        (changed("return weight", "return target.sum() if self else weight"), r"line 18: loss ret"),
        (changed("return weight", "return target.long() if self else weight"), "expected floats"),
        (changed('{"right": ((', '{"right": 2 + (('), '"right" is not within 0 to 1'),
        (changed('return {"right"', 'return {"wrong"'), "exactly what measures declares"),
        (changed('{"right": ((', '{"right": float("nan") * (('), '"right" is not within'),
        (changed("return outputs[:, 0]\n", "return outputs\n"), r"log_odds has to return float"),
    ],
)
def test_what_is_wrong_with_what_it_gives_is_told_with_its_line(text: str, what: str) -> None:
    plan = code_plan(text)
    arguments = plan.arguments({})

    def use() -> None:
        plan.score(plan.module(TERMS, arguments), patients(), arguments)

    with pytest.raises(LearningError, match=what):
        use()


def test_a_rehearsal_says_that_gradients_outside_take_longer_than_its_times() -> None:
    outside = CodeTerms(PLAIN, text_digest(PLAIN), {}, "outside")
    asked = replace(manifest(table(2)), code=outside, privacy=POISSON)
    (note,) = left_out(asked, 200)
    assert "about 20 a step" in note
    assert left_out(replace(asked, code=replace(outside, gradients="inside")), 200) == []
    assert left_out(replace(asked, code=None), 200) == []
