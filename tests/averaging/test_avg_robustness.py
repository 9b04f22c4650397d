"""What attackers can and cannot do to each rule: sanity, not a proof."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.averaging import RULES, Verdict, average

ROBUST = sorted(set(RULES) - {"gossip", "nnm+gossip", "mean", "nnm+mean"})
Matrix = npt.NDArray[np.float32]


def honest_models(seed: int, members: int = 10, d: int = 50) -> Matrix:
    return np.random.default_rng(seed).standard_normal((members, d)).astype(np.float32)


def run(rule: str, models: Matrix, weights: Matrix | None = None) -> Matrix:
    if weights is None:
        weights = np.full(len(models) - 1, 1 / len(models), dtype=np.float32)
    return average(rule, models[0], models[1:], weights).value


def offset_from_honest_mean(value: Matrix, honest: Matrix) -> float:
    """In units of the honest models' own spread."""
    spread = float(np.linalg.norm(honest - honest.mean(axis=0), axis=1).max())
    return float(np.linalg.norm(value - honest.mean(axis=0))) / spread


@given(seed=st.integers(0, 500), radius=st.sampled_from([1e2, 1e6, 1e18, 1e38]))
@settings(max_examples=20)
@pytest.mark.parametrize("rule", ROBUST)
def test_two_attackers_of_twelve_move_the_result_boundedly_at_any_radius(rule, seed, radius):
    honest = honest_models(seed)
    direction = honest_models(seed + 1000, 1)[0]
    direction /= np.abs(direction).max()
    attackers = np.stack([np.float32(radius) * direction] * 2)
    value = run(rule, np.concatenate([honest, attackers]))
    assert offset_from_honest_mean(value, honest) <= 1.2


@given(seed=st.integers(0, 500), radius=st.sampled_from([1e3, 1e9, 1e30]))
@settings(max_examples=20)
@pytest.mark.parametrize("rule", ROBUST)
def test_one_attacker_of_four_hospitals_is_bounded_under_patient_weights(rule, seed, radius):
    honest = honest_models(seed, members=3)
    for attacker_weight in (0.13, 0.35):
        weights = np.array([0.3, 0.2, attacker_weight], dtype=np.float32)
        attacker = np.full((1, honest.shape[1]), radius, dtype=np.float32)
        value = run(rule, np.concatenate([honest, attacker]), weights)
        assert offset_from_honest_mean(value, honest) <= 2.5


def test_plain_gossip_is_broken_by_one_attacker():
    models = np.concatenate([honest_models(1), np.full((1, 50), 1e6, dtype=np.float32)])
    assert offset_from_honest_mean(run("gossip", models), models[:10]) > 1e3


@pytest.mark.parametrize("radius", [10.0, 1e10])
def test_many_sites_with_little_weight_do_not_move_gm_clip(radius):
    """Seven of ten sites are hostile but hold a fifth of the weight."""
    honest = honest_models(3, members=3)
    hostile = np.full((7, 50), radius, dtype=np.float32)
    weights = np.array([0.27, 0.27] + [0.2 / 7] * 7, dtype=np.float32)
    value = run("gm_clip", np.concatenate([honest, hostile]), weights)
    assert offset_from_honest_mean(value, honest) <= 1.5


def test_far_neighbour_is_dropped_by_redescending_and_clipped_by_cs_plus():
    own = np.zeros(2, dtype=np.float32)
    neighbours = np.array([[1, 0], [0, 1], [0, 100]], dtype=np.float32)
    weights = np.full(3, 0.25, dtype=np.float32)
    clipped = average("cs_plus", own, neighbours, weights).evidence
    dropped = average("cs_redescending", own, neighbours, weights).evidence
    assert [e.verdict for e in clipped] == [Verdict.KEPT, Verdict.KEPT, Verdict.CLIPPED]
    assert [e.verdict for e in dropped] == [Verdict.KEPT, Verdict.KEPT, Verdict.DROPPED]
    assert clipped[2].distance == pytest.approx(100.0)
    assert clipped[2].factor == pytest.approx(0.01)


def test_share_of_zero_defends_against_nobody():
    models = np.concatenate([honest_models(1), np.full((1, 50), 1e6, dtype=np.float32)])
    weights = np.full(10, 1 / 11, dtype=np.float32)
    plain = average("gossip", models[0], models[1:], weights).value
    for rule in ("cs_plus", "cs_redescending", "trimmed_mean"):
        value = average(rule, models[0], models[1:], weights, byzantine=0.0).value
        assert value == pytest.approx(plain, rel=1e-5)


def test_trimming_evidence_is_the_share_of_coordinates_kept():
    own = np.array([1, 1, 1, 1], dtype=np.float32)
    neighbours = np.array([[2, 2, 2, 9], [3, 3, 3, 3], [9, 9, 9, 2]], dtype=np.float32)
    weights = np.full(3, 0.25, dtype=np.float32)
    evidence = average("trimmed_mean", own, neighbours, weights).evidence
    assert [e.factor for e in evidence] == [0.75, 1.0, 0.25]


@pytest.mark.parametrize("rule", ["gm_clip", "geometric_median"])
def test_majority_on_one_point_holds_the_centre_there(rule):
    models = np.array([[1, 1], [1, 1], [1, 1], [5, 7]], dtype=np.float32)
    assert run(rule, models) == pytest.approx(np.ones(2), abs=1e-6)


def test_sites_with_the_same_models_agree_after_one_gm_clip():
    models = honest_models(7, members=5)
    shares = np.array([0.3, 0.3, 0.2, 0.1, 0.1], dtype=np.float32)
    new = [
        average(
            "gm_clip", models[i], np.delete(models, i, axis=0), np.delete(shares, i, axis=0)
        ).value
        for i in range(5)
    ]
    assert np.ptp(np.array(new), axis=0).max() < 1e-5


@pytest.mark.parametrize("members", [4, 6, 7, 12, 14])
@pytest.mark.parametrize("rule", ["gm_clip", "geometric_median"])
def test_sites_that_hold_the_same_models_find_the_same_average(rule, members):
    """Weights are whole millionths and the own one holds the rest: that breaks no tie."""
    weights = np.full(members - 1, (1_000_000 // members) / 1e6, dtype=np.float32)
    for seed in range(5):
        models = honest_models(seed, members)
        found = [run(rule, np.roll(models, -site, axis=0), weights) for site in range(members)]
        apart = max(float(np.linalg.norm(one - found[0])) for one in found)
        assert apart <= 1e-4 * float(np.linalg.norm(models[0] - models[1]))
