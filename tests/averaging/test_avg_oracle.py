"""The rules against an outside oracle (byzfl) and against their formulas, written out naively."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.averaging import RULES, Verdict, average

Matrix = npt.NDArray[np.float32]

# Rules that choose whole models; equally good ones are taken in the order they were given.
CHOOSING = sorted(r for r in RULES if "nn" in r or "krum" in r)
# Means of the same nearest models tie often.
CHOOSING_ONCE = sorted(set(CHOOSING) - {"nnm+krum", "nnm+multi_krum", "nnm+nna"})
NOT_CHOOSING = sorted(set(RULES) - set(CHOOSING))

# Quarters make ties and duplicates common; large and tiny values come from the scale.
_ENTRIES = st.integers(-8, 8).map(lambda value: value / 4)


@st.composite
def models(draw: st.DrawFn, members_min: int = 2, members_max: int = 9) -> Matrix:
    """float32[N, d]: own model first; ties, duplicates and zero vectors are likely."""
    n, d = draw(st.integers(members_min, members_max)), draw(st.integers(1, 6))
    rows = [draw(st.lists(_ENTRIES, min_size=d, max_size=d)) for _ in range(n)]
    if draw(st.booleans()):
        rows[-1] = rows[0]
    if draw(st.booleans()):
        rows[-1] = [0.0] * d
    return np.array(rows, dtype=np.float32) * np.float32(draw(st.sampled_from([1e-3, 1.0, 1e4])))


def uniform(members: int) -> Matrix:
    return np.full(members - 1, 1.0 / members, dtype=np.float32)


@st.composite
def weighted(draw: st.DrawFn, members: int) -> Matrix:
    parts = [draw(st.integers(1, 9)) for _ in range(members)]
    return np.array(parts[1:], dtype=np.float32) / np.float32(sum(parts))


def close(actual: Matrix, expected: Matrix, models: Matrix, tolerance: float = 1e-5) -> bool:
    scale = max(1e-6, float(np.abs(models).max()))
    return bool(np.all(np.abs(actual.astype(np.float64) - expected) <= tolerance * scale))


@given(models=models(members_min=3), data=st.data())
def test_trimmed_mean_agrees_with_the_oracle(byzfl, models, data):
    f = data.draw(st.integers(1, (len(models) - 1) // 2))
    # The share that makes f whole sites of the neighbours.
    share = min(0.49, f / (len(models) - 1))
    expected_f = min(max(1, int(share * (len(models) - 1) + 1e-6)), (len(models) - 1) // 2)
    ours = average("trimmed_mean", models[0], models[1:], uniform(len(models)), byzantine=share)
    assert close(ours.value, byzfl.TrMean(expected_f)(models), models)


@given(models=models())
def test_median_agrees_with_the_oracle(byzfl, models):
    ours = average("median", models[0], models[1:], uniform(len(models)))
    assert close(ours.value, byzfl.Median()(models), models)


@given(models=models())
def test_gossip_with_equal_weights_is_the_oracles_mean(byzfl, models):
    ours = average("gossip", models[0], models[1:], uniform(len(models)))
    assert close(ours.value, byzfl.Average()(models), models)


@given(seed=st.integers(0, 10_000), n=st.integers(3, 12))
@settings(max_examples=30)
def test_geometric_median_agrees_with_the_converged_oracle(byzfl, seed, n):
    models = np.random.default_rng(seed).standard_normal((n, 40)).astype(np.float32)
    oracle = byzfl.GeometricMedian(nu=1e-9, T=300)(models.astype(np.float64))
    converged = average("geometric_median", models[0], models[1:], uniform(n), steps=64)
    default = average("geometric_median", models[0], models[1:], uniform(n))
    assert close(converged.value, oracle, models)
    # Eight steps may still be on their way where the sum of distances is flat (three members: up
    # to .009 off), so what they are held to is the sum itself, which is what is minimised.
    wide = models.astype(np.float64)
    least, reached = (
        float(np.linalg.norm(wide - point, axis=1).sum()) for point in (oracle, default.value)
    )
    assert reached <= least * (1 + 1e-4)


@given(models=models())
def test_geometric_median_is_no_worse_than_any_member_or_the_mean(models):
    wide = models.astype(np.float64)

    def total(point: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(wide - point, axis=1).sum())

    ours = average("geometric_median", models[0], models[1:], uniform(len(models)), steps=64)
    best = min(*(total(row) for row in wide), total(wide.mean(axis=0)))
    # Where the best point is a member, Weiszfeld's steps approach it slowly.
    assert total(ours.value.astype(np.float64)) <= best * 1.02 + 1e-5 * np.abs(wide).max()


def naive_clip(models: Matrix, weights: Matrix, centre: Matrix, factors: Matrix) -> Matrix:
    everyone = np.concatenate(([1.0 - float(weights.astype(np.float64).sum())], weights))
    return centre + ((everyone * factors)[:, None] * (models - centre)).sum(axis=0)


@given(models=models(), data=st.data())
def test_gm_clip_is_its_formula_around_the_geometric_median(models, data):
    weights = data.draw(weighted(len(models)))
    wide = models.astype(np.float64)
    found = average("geometric_median", models[0], models[1:], weights, steps=8)
    centre = found.value.astype(np.float64)
    ours = average("gm_clip", models[0], models[1:], weights)
    r = np.linalg.norm(wide - centre, axis=1)
    everyone = np.concatenate(([1.0 - float(weights.astype(np.float64).sum())], weights))
    order = np.argsort(r, kind="stable")
    running = np.cumsum(everyone[order])
    low, high = (np.argmax(running >= 0.5 - 1e-6), np.argmax(running > 0.5 + 1e-6))
    tau = (r[order][low] + r[order][high]) / 2
    factors = np.where(r > tau, tau / np.where(r > 0, r, 1.0), 1.0)
    assert close(ours.value, naive_clip(wide, weights, centre, factors), models, tolerance=1e-4)


@given(models=models(), quantile=st.sampled_from([0.1, 0.2, 0.35]))
def test_a_lower_quantile_clips_gm_clip_at_the_distance_that_holds_so_much_weight(models, quantile):
    weights = uniform(len(models))
    found = average("gm_clip", models[0], models[1:], weights, quantile=quantile)
    plain = average("gm_clip", models[0], models[1:], weights)
    assert all(
        a.factor <= b.factor + 1e-9 for a, b in zip(found.evidence, plain.evidence, strict=True)
    )
    distances = [e.distance for e in found.evidence]
    kept = [e.distance for e in found.evidence if e.factor == 1.0]
    assert len(kept) >= int(quantile * len(models)) - 1
    assert not kept or max(kept) <= min([d for d in distances if d not in kept], default=np.inf)


@given(models=models(), data=st.data(), share=st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.49]))
@pytest.mark.parametrize("rule", ["cs_plus", "cs_redescending"])
def test_clipped_sums_are_their_formula(rule, models, data, share):
    weights = data.draw(weighted(len(models)))
    wide = models.astype(np.float64)
    distance = np.linalg.norm(wide[1:] - wide[0], axis=1)
    by_distance = sorted(zip(distance.tolist(), weights.tolist(), strict=True), reverse=True)
    removed, kept = 0.0, list(by_distance)
    while len(kept) > 1 and removed + kept[0][1] <= (2 * share + 1e-6) * float(weights.sum()):
        removed += kept.pop(0)[1]
    if share > 0 and len(by_distance) > 1 and len(kept) == len(by_distance):
        kept.pop(0)
    tau = kept[0][0]
    factors = np.where(distance > tau, tau / np.where(distance > 0, distance, 1.0), 1.0)
    if rule == "cs_redescending":
        factors = np.where(distance > 3 * tau, 0.0, factors)
    ours = average(rule, models[0], models[1:], weights, byzantine=share)
    expected = naive_clip(wide, weights, wide[0], np.concatenate(([1.0], factors)))
    assert close(ours.value, expected, models)
    assert [e.factor for e in ours.evidence] == pytest.approx(factors.tolist(), abs=1e-6)


@given(models=models(members_min=3), data=st.data())
def test_trimmed_mean_weighs_what_is_left_and_shares_ties(models, data):
    """Oracle: the mean over all orders in which tied members could have been trimmed."""
    weights = data.draw(weighted(len(models)))
    m = len(models) - 1
    ours = average("trimmed_mean", models[0], models[1:], weights, byzantine=0.49)
    trim = min(max(1, int(0.49 * m + 1e-6)), m // 2)
    everyone = np.concatenate(([1.0 - float(weights.astype(np.float64).sum())], weights))
    for k in range(models.shape[1]):
        values = models[:, k].astype(np.float64)
        ordered = np.sort(values)
        low, high = ordered[trim], ordered[len(values) - 1 - trim]
        mass = np.where((values > low) & (values < high), everyone, 0.0)
        for bound, beyond in ((low, values < low), (high, values > high)):
            tied = values == bound
            cut = trim - int(beyond.sum())
            mass = np.where(tied, everyone * (tied.sum() - cut) / tied.sum(), mass)
        expected = low if low == high else float((mass * values).sum() / mass.sum())
        assert abs(float(ours.value[k]) - expected) <= 1e-5 * max(1e-6, np.abs(models).max())


def order_matters_little(rule, models, data):
    weights = data.draw(weighted(len(models)))
    order = np.array(data.draw(st.permutations(range(len(models) - 1))))
    straight = average(rule, models[0], models[1:], weights)
    shuffled = average(rule, models[0], models[1:][order], weights[order])
    assert close(shuffled.value, straight.value, models)
    expected = [straight.evidence[i].factor for i in order]
    assert [e.factor for e in shuffled.evidence] == pytest.approx(expected, abs=1e-4)


@given(models=models(), data=st.data(), rule=st.sampled_from(NOT_CHOOSING))
def test_order_of_neighbours_does_not_matter(models, data, rule):
    order_matters_little(rule, models, data)


@given(
    seed=st.integers(0, 9999),
    n=st.integers(4, 9),
    data=st.data(),
    rule=st.sampled_from(CHOOSING_ONCE),
)
def test_order_of_neighbours_matters_to_choosing_rules_in_ties_alone(seed, n, data, rule):
    models = np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)
    order_matters_little(rule, models, data)


@given(models=models(), data=st.data(), rule=st.sampled_from(NOT_CHOOSING))
def test_moving_all_models_moves_the_result(models, data, rule):
    weights = data.draw(weighted(len(models)))
    # A power of two near the models' size, so that moving loses no bits.
    shift = np.float32(2.0 ** round(np.log2(max(1e-3, float(np.abs(models).max())))))
    still = average(rule, models[0], models[1:], weights)
    moved = average(rule, models[0] + shift, models[1:] + shift, weights)
    assert close(moved.value - shift, still.value, models, tolerance=1e-4)


@given(models=models(), rule=st.sampled_from(sorted(RULES)))
def test_result_stays_between_the_models(models, rule):
    value = average(rule, models[0], models[1:], uniform(len(models))).value
    slack = 1e-5 * np.abs(models).max()
    assert np.all(value >= models.min(axis=0) - slack)
    assert np.all(value <= models.max(axis=0) + slack)


@given(models=models(members_max=6), data=st.data())
def test_gossip_over_a_whole_complete_graph_preserves_the_weighted_average(models, data):
    parts = np.array([data.draw(st.integers(1, 9)) for _ in models], dtype=np.float64)
    shares = (parts / parts.sum()).astype(np.float32)
    new = [
        average(
            "gossip", models[i], np.delete(models, i, axis=0), np.delete(shares, i, axis=0)
        ).value
        for i in range(len(models))
    ]
    before = (shares[:, None] * models.astype(np.float64)).sum(axis=0)
    after = (shares[:, None] * np.array(new, dtype=np.float64)).sum(axis=0)
    assert close(after, before, models)


@given(models=models(members_min=3, members_max=3), rule=st.sampled_from(["cs_plus", "gm_clip"]))
def test_identical_models_stay_as_they_are(models, rule):
    same = np.repeat(models[:1], 3, axis=0)
    averaged = average(rule, same[0], same[1:], uniform(3))
    assert np.array_equal(averaged.value, same[0])
    assert all(e.verdict is Verdict.KEPT and e.distance == 0.0 for e in averaged.evidence)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_one_neighbour_pulls_to_the_weighted_middle_or_less(rule):
    own, other = np.zeros(3, dtype=np.float32), np.ones((1, 3), dtype=np.float32)
    value = average(rule, own, other, np.array([0.5], dtype=np.float32)).value
    # krum chooses between two models, and then keeps the own one.
    expected = 0.0 if rule == "krum" else 0.5
    assert value == pytest.approx(np.full(3, expected), abs=1e-6)
