"""What privacy noise hides, and how fast a graph mixes."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from p2pfl.averaging import spread_of, topology
from p2pfl.averaging.hiding import (
    noise_distance,
    noise_share,
    noise_share_words,
    update_deviation,
)


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 1), (0.0, 10), (0.9, 10), (0.5, 3)])
def test_noise_of_an_update_is_what_noisy_steps_with_momentum_leave(
    momentum: float, steps: int
) -> None:
    rng = np.random.default_rng(5)
    moved, velocity = np.zeros(200_000), np.zeros(200_000)
    for _ in range(steps):
        velocity = momentum * velocity + 3.0 * rng.standard_normal(200_000)
        moved -= 0.1 * velocity
    assert update_deviation(3.0, 0.1, momentum, steps) == pytest.approx(moved.std(), rel=0.02)


def test_two_honest_updates_lie_as_far_apart_as_their_noise_says() -> None:
    one, two = (np.random.default_rng(at).normal(0, 0.3, 40_000) for at in (1, 2))
    apart = float(np.linalg.norm(one - two))
    assert noise_distance(0.3, 40_000) == pytest.approx(apart, rel=0.02)
    assert noise_share(0.3, 40_000, apart) == pytest.approx(1.0, abs=0.02)
    assert noise_share(0.3, 40_000, 10 * apart) == pytest.approx(0.1, rel=0.02)
    assert noise_share(0.3, 40_000, 0.0) == 1.0


@pytest.mark.parametrize(
    ("share", "part"), [(1.0, "crude attacks only"), (0.5, "can hide in it"), (0.1, "hardly hides")]
)
def test_the_meaning_of_r_is_said(share: float, part: str) -> None:
    assert part in noise_share_words(share)


def gap(kind: str, n: int, **options: int) -> float:
    sites = [bytes([at]) * 32 for at in range(n)]
    graph = topology.neighbours(kind, sites, **options)
    shares = topology.uniform_shares_u(sites)
    return topology.spectral_gap(topology.all_mixing_weights_u(graph, shares))


def test_spectral_gaps_are_those_of_textbooks() -> None:
    assert gap("complete", 8) == pytest.approx(1.0, abs=1e-5)
    # A ring with weights of a third: eigenvalues (1 + 2 cos(2πk/n)) / 3.
    assert gap("ring", 12) == pytest.approx(1 - (1 + 2 * np.cos(2 * np.pi / 12)) / 3, abs=1e-5)
    assert gap("ring", 12) < gap("torus", 12) < gap("random-regular", 12, degree=6)
    assert gap("complete", 1) == 1.0


def test_a_gap_says_how_fast_differences_shrink_also_with_unequal_shares() -> None:
    sites = [bytes([at]) * 32 for at in range(6)]
    graph = topology.neighbours("ring", sites)
    shares = topology.capped_shares_u(dict(zip(sites, (10, 20, 30, 40, 50, 60), strict=True)), 0.5)
    weights = topology.all_mixing_weights_u(graph, shares)
    mixing = np.array([[weights[i].get(j, 0) / 1e6 for j in sites] for i in sites])
    mixing += np.diag(1 - mixing.sum(axis=1))
    pi = np.array([shares[site] for site in sites]) / sum(shares.values())
    values = np.random.default_rng(0).standard_normal(6)
    apart = [sqrt(float(pi @ (values - pi @ values) ** 2))]
    for _ in range(30):
        values = mixing @ values
        apart.append(sqrt(float(pi @ (values - pi @ values) ** 2)))
    shrunk = [after / before for before, after in pairwise(apart)]
    gap = topology.spectral_gap(weights)
    assert max(shrunk) <= 1 - gap + 1e-4
    assert shrunk[-1] == pytest.approx(1 - gap, abs=1e-3)


def test_spread_is_the_largest_and_the_median_distance_without_the_refused() -> None:
    own = np.array([3.0, 4.0], dtype=np.float32)
    moved = [own + np.float32(shift) for shift in ([1, 0], [2, 0], [10, 0])]
    broken = np.array([np.nan, 0], dtype=np.float32)
    spread = spread_of(own, [*moved, broken])
    assert (spread.largest, spread.median) == (2.0, 2.0)
    assert spread_of(0 * own, moved).largest == pytest.approx(np.linalg.norm(moved[2]))
    assert spread_of(own, []).median == 0.0
