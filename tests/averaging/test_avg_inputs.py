"""Every input that no rule may see is refused by name; what is allowed is read without copies."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from p2pfl.averaging import RULES, average, quantiles, registry, resolve_parameters, rules, topology
from p2pfl.averaging.errors import (
    AveragingError,
    NotFinite,
    NoWeightForSelf,
    ParameterOutOfRange,
    UnknownParameter,
    UnknownRule,
    WeightOutOfRange,
    WrongShape,
    WrongType,
)
from p2pfl.averaging.inputs import CHUNK_COORDINATES

OWN = np.zeros(3, dtype=np.float32)
TWO = np.ones((2, 3), dtype=np.float32)
THIRDS = np.full(2, 1 / 3, dtype=np.float32)
every_rule = pytest.mark.parametrize("rule", sorted(RULES))


@every_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHUNK_COORDINATES + 5])
def test_neighbour_with_one_bad_value_is_refused_and_named(rule, bad, place):
    models = np.zeros((3, CHUNK_COORDINATES + 10), dtype=np.float32)
    models[2, place] = bad
    with pytest.raises(NotFinite) as refusal:
        average(rule, models[0], models[1:], THIRDS)
    assert refusal.value.neighbour == 1
    assert "neighbour 1" in str(refusal.value)


def test_own_model_with_nan_is_refused():
    with pytest.raises(NotFinite, match="own model") as refusal:
        average("gossip", np.full(3, np.nan, dtype=np.float32), TWO, THIRDS)
    assert refusal.value.neighbour is None


@pytest.mark.parametrize(
    ("own", "neighbours", "weights"),
    [
        (OWN.astype(np.float64), TWO, THIRDS),
        (OWN, TWO.astype(np.float16), THIRDS),
        (OWN, TWO, THIRDS.astype(np.float64)),
        (OWN, [TWO[0], TWO[1].astype(np.int32)], THIRDS),
        (OWN, [[1.0, 1.0, 1.0], TWO[1]], THIRDS),
        ([0.0, 0.0, 0.0], TWO, THIRDS),
    ],
)
def test_everything_but_float32_arrays_is_refused(own, neighbours, weights):
    with pytest.raises(WrongType, match="float32"):
        average("gossip", own, neighbours, weights)


@pytest.mark.parametrize(
    ("own", "neighbours", "weights"),
    [
        (OWN[:0], TWO[:, :0], THIRDS),
        (TWO, TWO, THIRDS),
        (OWN, TWO[:, :2], THIRDS),
        (OWN, TWO[0], THIRDS),
        (OWN, [TWO[0], TWO[1, :2]], THIRDS),
        (OWN, [TWO], THIRDS[:1]),
        (OWN, TWO, THIRDS[:1]),
        (OWN, TWO, np.stack([THIRDS])),
        (OWN, np.zeros((0, 2), dtype=np.float32), THIRDS[:0]),
    ],
)
def test_wrong_shapes_are_refused(own, neighbours, weights):
    with pytest.raises(WrongShape, match="expected shape"):
        average("gossip", own, neighbours, weights)


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.0, np.nan, np.inf])
def test_weight_outside_its_range_is_refused(weight):
    with pytest.raises(WeightOutOfRange) as refusal:
        average("gossip", OWN, TWO, np.array([0.2, weight], dtype=np.float32))
    assert refusal.value.neighbour == 1


def test_neighbours_may_not_take_all_of_the_weight():
    with pytest.raises(NoWeightForSelf, match="less than 1"):
        average("gossip", OWN, TWO, np.array([0.5, 0.5], dtype=np.float32))


def test_unknown_rule_names_the_known_ones():
    with pytest.raises(UnknownRule, match="gm_clip"):
        average("krum", OWN, TWO, THIRDS)


def test_unknown_parameter_names_the_known_ones():
    with pytest.raises(UnknownParameter, match="steps"):
        average("gm_clip", OWN, TWO, THIRDS, byzantine=0.2)
    with pytest.raises(UnknownParameter, match="none"):
        average("median", OWN, TWO, THIRDS, steps=3)


@pytest.mark.parametrize("value", [-0.1, 0.5, float("nan"), "0.2", True, None])
def test_byzantine_share_outside_its_range_is_refused(value):
    with pytest.raises(ParameterOutOfRange, match=r"0\.49"):
        resolve_parameters("cs_plus", {"byzantine": value})


@pytest.mark.parametrize("value", [0, 65, 2.0, False])
def test_steps_must_be_a_whole_number_in_range(value):
    with pytest.raises(ParameterOutOfRange, match="whole number"):
        resolve_parameters("gm_clip", {"steps": value})


def test_declared_share_reaches_only_the_rules_that_need_one():
    assert resolve_parameters("trimmed_mean", {}, byzantine=0.1) == {"byzantine": 0.1}
    own_choice = resolve_parameters("cs_plus", {"byzantine": 0.3}, byzantine=0.1)
    assert own_choice == {"byzantine": 0.3}
    assert resolve_parameters("gm_clip", {}, byzantine=0.1) == {"steps": 8}
    assert resolve_parameters("gossip", {}) == {}


def test_registered_names_ranges_and_flags_fit_together():
    for name, rule in RULES.items():
        assert rule.name == name
        takes_share = any(p.name == "byzantine" for p in rule.parameters)
        assert takes_share is rule.needs_byzantine_share
        assert all(p.minimum <= p.default <= p.maximum for p in rule.parameters)


def test_all_refusals_share_one_base():
    with pytest.raises(AveragingError):
        average("gossip", OWN, TWO, THIRDS[:1])


@every_rule
def test_without_neighbours_the_own_model_returns(rule):
    own = np.array([1.5, -2.0, 3e38], dtype=np.float32)
    alone = average(rule, own, np.zeros((0, 3), dtype=np.float32), THIRDS[:0])
    assert np.array_equal(alone.value, own)
    assert alone.evidence == ()
    assert not np.shares_memory(alone.value, own)


@every_rule
def test_inputs_are_left_as_they_were(rule):
    models = np.random.default_rng(0).standard_normal((5, 100)).astype(np.float32)
    before = models.copy()
    average(rule, models[0], models[1:], np.full(4, 0.2, dtype=np.float32))
    assert np.array_equal(models, before)


@every_rule
def test_extreme_values_do_not_overflow(rule):
    largest = np.finfo(np.float32).max
    models = np.array([[largest], [-largest], [largest], [0]], dtype=np.float32)
    averaged = average(rule, models[0], models[1:], np.full(3, 0.25, dtype=np.float32))
    assert np.isfinite(averaged.value).all()
    assert all(np.isfinite(e.distance) for e in averaged.evidence)


@every_rule
def test_memory_maps_and_separate_vectors_give_the_bits_of_one_matrix(rule, tmp_path: Path):
    models = np.random.default_rng(5).standard_normal((5, 9000)).astype(np.float32)
    weights = np.array([0.1, 0.2, 0.2, 0.15], dtype=np.float32)
    models.tofile(tmp_path / "models")
    mapped = np.memmap(tmp_path / "models", dtype=np.float32, mode="r", shape=models.shape)
    plain = average(rule, models[0], models[1:], weights)
    one_by_one = [mapped[i] for i in range(1, 5)]
    for neighbours in (mapped[1:], one_by_one, tuple(one_by_one)):
        same = average(rule, mapped[0], neighbours, weights)
        assert same.value.tobytes() == plain.value.tobytes()
        assert same.evidence == plain.evidence
        assert type(same.value) is np.ndarray


@pytest.mark.parametrize("module", [quantiles, registry, rules, topology])
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
