"""Every input that no rule may see is refused by name; what is allowed is read without copies."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from p2pfl.averaging import (
    RULES,
    Verdict,
    average,
    decisions,
    layout,
    quantiles,
    registry,
    resolve_parameters,
    rules,
    selection,
    sorting,
    topology,
)
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
from p2pfl.averaging.layout import BLOCK

OWN = np.zeros(3, dtype=np.float32)
TWO = np.ones((2, 3), dtype=np.float32)
THIRDS = np.full(2, 1 / 3, dtype=np.float32)
every_rule = pytest.mark.parametrize("rule", sorted(RULES))


def without_row(rule, models, weights, row):
    kept = [at for at in range(len(models) - 1) if at != row]
    return average(rule, models[0], models[1:][kept], weights[kept])


@every_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 33 * BLOCK + 5])
def test_neighbour_with_one_bad_value_is_refused_and_the_result_is_the_one_without_it(
    rule, bad, place
):
    models = np.random.default_rng(3).standard_normal((5, 33 * BLOCK + 10)).astype(np.float32)
    models[2, place] = bad
    weights = np.array([0.1, 0.2, 0.25, 0.15], dtype=np.float32)
    averaged = average(rule, models[0], models[1:], weights)
    expected = without_row(rule, models, weights, 1)
    assert averaged.value.tobytes() == expected.value.tobytes()
    assert [e.verdict is Verdict.REFUSED for e in averaged.evidence] == [False, True, False, False]
    assert averaged.evidence[1].factor == 0.0
    assert [averaged.evidence[at] for at in (0, 2, 3)] == list(expected.evidence)


@every_rule
def test_neighbour_of_another_shape_is_refused_and_the_result_is_the_one_without_it(rule):
    models = np.random.default_rng(4).standard_normal((4, 50)).astype(np.float32)
    weights = np.array([0.1, 0.2, 0.25], dtype=np.float32)
    given = [models[1], models[2, :49], models[3]]
    averaged = average(rule, models[0], given, weights)
    assert averaged.value.tobytes() == without_row(rule, models, weights, 1).value.tobytes()
    assert averaged.evidence[1].verdict is Verdict.REFUSED


def test_several_bad_neighbours_are_all_refused():
    models = np.ones((5, 9), dtype=np.float32)
    models[2:, 4] = np.nan
    given = [*models[1:], models[0, :3]]
    averaged = average("gm_clip", models[0], given, np.full(5, 0.1, dtype=np.float32))
    verdicts = [e.verdict for e in averaged.evidence]
    assert verdicts == [Verdict.KEPT] + [Verdict.REFUSED] * 4
    everyone = average("median", models[0], models[2:], np.full(3, 0.1, dtype=np.float32))
    assert np.array_equal(everyone.value, models[0])


@every_rule
@pytest.mark.parametrize("m", [0, 2])
def test_own_model_with_nan_is_refused(rule, m):
    own = np.full(3, np.nan, dtype=np.float32)
    with pytest.raises(NotFinite, match="own model"):
        average(rule, own, TWO[:m], THIRDS[:m])


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
        average("meen", OWN, TWO, THIRDS)


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
    assert "byzantine" not in resolve_parameters("gm_clip", {}, byzantine=0.1)
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


@pytest.mark.parametrize(
    "module", [decisions, layout, quantiles, registry, rules, selection, sorting, topology]
)
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
