"""Attacks do what their papers say, and the adaptive ones find what fixed ones miss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from p2pfl.averaging import Verdict, average
from simulations import adversaries as known
from simulations import adversaries_adaptive as adaptive
from simulations.adversaries import Attack, Scene
from simulations.adversaries_adaptive import RuleInUse, line_search
from simulations.digits_attacks import ADAPTIVE, ATTACKS, FIXED, Facts

D = 30
Wide = npt.NDArray[np.float64]


def scene(seed: int = 0, attackers: int = 2, honest: int = 9) -> Scene:
    rng = np.random.default_rng(seed)
    models = (1.0 + rng.standard_normal((honest + 1, D))).astype(np.float32)
    weight = 1.0 / (honest + 1 + attackers)
    weights = np.full(honest, weight), np.full(attackers, weight)
    return Scene(models[0], models[1:], *weights, rng)


def facts(rule: str = "gm_clip") -> Facts:
    rng = np.random.default_rng(9)
    before, ascent, momentum = rng.standard_normal((3, D))
    flipped, old = rng.standard_normal((2, D)).astype(np.float32)
    return Facts(RuleInUse(rule), before, ascent, momentum, flipped, old)


def mean_and_deviation(of: Scene) -> tuple[Wide, Wide]:
    return of.everyone.mean(axis=0), of.everyone.std(axis=0)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_sends_one_float32_model_per_attacker(name: str) -> None:
    sent = ATTACKS[name](facts())(scene(attackers=3))
    assert sent.shape == (3, D)
    assert sent.dtype == np.float32
    assert np.isfinite(sent).all() or name == "not-a-number"


def test_crude_attacks_are_what_their_names_say() -> None:
    seen = scene()
    mean, deviation = mean_and_deviation(seen)
    assert known.sign_flip_own(seen.target)(seen)[1] == pytest.approx(-seen.target)
    assert known.sign_flip_mean(seen)[0] == pytest.approx(-4 * mean, rel=1e-5)
    assert known.inner_product(0.5)(seen)[0] == pytest.approx(-0.5 * mean, rel=1e-5)
    assert known.alie(1.5)(seen)[0] == pytest.approx(mean - 1.5 * deviation, rel=1e-4, abs=1e-5)
    assert np.array_equal(known.mimic(3)(seen)[0], seen.honest[3])
    assert np.array_equal(known.stale_replay(seen.honest[1])(seen)[0], seen.honest[1])
    assert known.gaussian(7.0)(seen).std() == pytest.approx(7.0, rel=0.3)
    assert np.isinf(known.not_finite(float("inf"))(seen)[:, -1]).all()
    assert known.wrong_shape(seen).shape == (2, D - 1)


def test_alies_quantile_is_that_of_the_paper() -> None:
    # n = 50, f = 24 gives s = 2 and z = Φ⁻¹(24/26) = 1.43.
    seen = scene(attackers=24, honest=25)
    mean, deviation = mean_and_deviation(seen)
    z = (mean - known.alie_quantile(seen)[0]) / deviation
    assert z == pytest.approx(np.full(D, 1.426), abs=1e-2)


def test_min_max_and_min_sum_go_to_their_limit_and_not_beyond() -> None:
    seen = scene()
    between = seen.everyone[:, None] - seen.everyone[None]
    farthest, most = (between**2).sum(axis=2).max(), (between**2).sum(axis=2).sum(axis=1).max()
    squares = ((known.min_max(seen)[0] - seen.everyone) ** 2).sum(axis=1)
    assert squares.max() == pytest.approx(farthest, rel=1e-4)
    squares = ((known.min_sum(seen)[0] - seen.everyone) ** 2).sum(axis=1)
    assert squares.sum() == pytest.approx(most, rel=1e-4)


def test_dissensus_turns_plain_mixing_around() -> None:
    seen = scene()
    mixed = RuleInUse("gossip").result(seen, np.repeat(seen.target[None], 2, axis=0))
    attacked = RuleInUse("gossip").result(seen, known.dissensus(1.5)(seen))
    step, turned = mixed - seen.target, attacked - seen.target
    assert turned == pytest.approx(-0.5 * step, abs=1e-5)


def test_spectral_attack_pushes_the_halves_of_a_graph_apart() -> None:
    line = np.diag([1.0, 2.0, 2.0, 1.0]) - np.diag(np.ones(3), 1) - np.diag(np.ones(3), -1)
    models = np.array([[2.0], [1.0], [-1.0], [-2.0]], dtype=np.float32)
    pushes = known.fiedler_pushes(models, line)
    assert np.array_equal(np.sign(pushes[:, 0]), [1, 1, -1, -1])
    seen = scene(honest=3)
    sent = known.spectral(np.full(D, 0.5), 2.0)(seen)
    assert sent[0] == pytest.approx(seen.target + 1.0, abs=1e-6)


@pytest.mark.parametrize("rule", ["gm_clip", "cs_plus", "trimmed_mean", "nna"])
def test_a_line_search_moves_the_target_at_least_as_far_as_any_fixed_strength(rule: str) -> None:
    seen, used = scene(3), RuleInUse(rule)
    towards = np.ones(D) / np.sqrt(D)

    def gain(attack: Attack) -> float:
        return float(used.result(seen, attack(seen)) @ towards)

    def fixed(strength: float) -> Attack:
        sent = (seen.everyone.mean(axis=0) + strength * towards).astype(np.float32)
        return lambda _: np.repeat(sent[None], 2, axis=0)

    found = gain(line_search(lambda _: towards, used))
    assert found > gain(fixed(0.0))
    assert all(found >= gain(fixed(s)) - 0.05 for s in (1.0, 5.0, 20.0, 1e4))


def test_a_line_search_without_a_direction_sends_the_targets_own_model() -> None:
    seen = scene()
    sent = line_search(lambda _: np.zeros(D), RuleInUse("gm_clip"))(seen)
    assert np.array_equal(sent[1], seen.target)


def test_directions_point_where_they_say() -> None:
    seen = scene()
    mean, _ = mean_and_deviation(seen)
    assert adaptive.against_own_model(seen) == pytest.approx(-seen.target)
    assert adaptive.against_consensus(seen) @ (mean - seen.target) < 0
    up = adaptive.loss_ascent(lambda model: 2 * model)
    assert up(seen) == pytest.approx(2 * mean)
    moved, grown = adaptive.loss_ascent_with_momentum(lambda model: model, np.ones(D), 0.5)
    assert moved(seen) == pytest.approx(0.5 + mean)
    assert grown(seen) == pytest.approx(moved(seen))
    back = adaptive.undo_progress(np.zeros(D, dtype=np.float32))
    assert back(seen) == pytest.approx(-mean)


def test_equivocation_tells_everyone_something_else_and_consistency_the_same() -> None:
    scenes = [scene(seed) for seed in range(3)]
    told = known.equivocate(known.dissensus(), scenes)
    assert len({sent.tobytes() for sent in told}) == 3
    same = known.same_for_all(known.dissensus(), scenes)
    assert len({sent.tobytes() for sent in same}) == 1
    assert same[0][0] == pytest.approx(np.mean([sent[0] for sent in told], axis=0), abs=1e-5)


def test_a_sybils_weight_follows_its_admitted_identities() -> None:
    shares = {b"a": 0.25, b"b": 0.25, b"c": 0.25, b"x": 0.25}
    grown = known.admit_sybils(shares, b"x", [b"x2", b"x3"])
    assert sum(grown.values()) == pytest.approx(1.0)
    assert sum(grown[name] for name in (b"x", b"x2", b"x3")) == pytest.approx(0.5)
    seen = scene(attackers=2)
    many = known.with_sybils(seen, 5)
    assert many.attackers == 10
    before = seen.honest_weights.sum() + seen.byzantine_weights.sum()
    assert many.honest_weights.sum() + many.byzantine_weights.sum() == pytest.approx(before)
    share = many.byzantine_weights.sum() / before
    assert share == pytest.approx(10 / 19)


def test_what_is_no_model_is_refused_and_changes_nothing() -> None:
    seen, used = scene(), RuleInUse("gm_clip")
    honest = replace(seen, byzantine_weights=np.empty(0))
    alone = used.result(honest, np.empty((0, D), dtype=np.float32))
    assert np.array_equal(used.result(seen, known.not_finite(float("nan"))(seen)), alone)
    short = [*seen.honest, *known.wrong_shape(seen)]
    weights = np.concatenate((seen.honest_weights, seen.byzantine_weights)).astype(np.float32)
    averaged = average("gm_clip", seen.target, short, weights)
    assert np.array_equal(averaged.value, alone)
    assert [e.verdict for e in averaged.evidence[-2:]] == [Verdict.REFUSED] * 2


def test_adaptive_and_fixed_attacks_have_names_of_their_own() -> None:
    assert not set(FIXED) & set(ADAPTIVE)
    assert set(ATTACKS) == set(FIXED) | set(ADAPTIVE)
