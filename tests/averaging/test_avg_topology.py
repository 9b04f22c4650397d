"""Graphs, shares and mixing weights: the same at every site, and what gossip's theory asks for."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.averaging import topology
from p2pfl.averaging.errors import GraphError, ShareCapTooLow, UnknownSite, UnknownTopology
from p2pfl.averaging.topology import (
    MICRO,
    TOPOLOGIES,
    all_mixing_weights_u,
    capped_shares_u,
    mixing_weights_u,
    neighbours,
    uniform_shares_u,
)

VECTOR = {
    0: [3, 4, 7],
    1: [3, 5, 6],
    2: [3, 4, 5],
    3: [0, 1, 2],
    4: [0, 2, 6],
    5: [1, 2, 7],
    6: [1, 4, 7],
    7: [0, 5, 6],
}


def sites(n: int) -> list[bytes]:
    return [hashlib.sha256(bytes([i // 256, i % 256])).digest() for i in range(n)]


def ring_edges(members: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(members[i], members[i - 1]) for i in range(len(members))]


def build(kind: str, members: list[bytes]) -> dict[bytes, tuple[bytes, ...]]:
    return neighbours(kind, members, degree=4, seed=3, edges=ring_edges(members))


@given(n=st.sampled_from([6, 8, 9, 12, 15, 16, 20]), kind=st.sampled_from(TOPOLOGIES))
def test_every_graph_is_symmetric_sorted_and_without_loops(n, kind):
    graph = build(kind, sites(n))
    assert sorted(graph) == list(graph) == sorted(sites(n))
    for site, around in graph.items():
        assert list(around) == sorted(set(around))
        assert site not in around
        assert all(site in graph[other] for other in around)


@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_order_in_which_sites_are_listed_does_not_matter(kind):
    members = sites(12)
    edges = ring_edges(members)
    straight = neighbours(kind, members, degree=4, seed=1, edges=edges)
    assert neighbours(kind, members[::-1], degree=4, seed=1, edges=edges[::-1]) == straight


def test_degrees_are_those_of_the_named_graph():
    def degrees(kind: str, n: int) -> set[int]:
        return {len(around) for around in build(kind, sites(n)).values()}

    assert degrees("complete", 7) == {6}
    assert degrees("ring", 7) == {2}
    assert degrees("torus", 12) == {4}
    assert degrees("exponential", 16) == {7}
    assert degrees("random-regular", 12) == {4}
    assert degrees("custom", 7) == {2}
    assert degrees("ring", 2) == {1}
    assert degrees("complete", 1) == degrees("ring", 1) == {0}


@given(n=st.integers(4, 40), degree=st.integers(2, 7), seed=st.integers(0, 99))
def test_random_graphs_are_regular(n, degree, seed):
    if degree >= n or n * degree % 2:
        with pytest.raises(GraphError, match="random-regular"):
            neighbours("random-regular", sites(n), degree=degree, seed=seed)
        return
    graph = neighbours("random-regular", sites(n), degree=degree, seed=seed)
    assert {len(around) for around in graph.values()} == {degree}


def test_random_graph_is_drawn_anew_for_each_seed_and_epoch():
    def draw(seed: int, epoch: int) -> dict[bytes, tuple[bytes, ...]]:
        return neighbours("random-regular", sites(20), degree=6, seed=seed, epoch=epoch)

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(2, 0)
    assert draw(1, 0) != draw(1, 1)


def test_random_graph_is_the_published_one():
    """A vector for other implementations of the protocol."""
    members = [bytes([i]) for i in range(8)]
    graph = neighbours("random-regular", members, degree=3, seed=7, epoch=2)
    assert {site[0]: [other[0] for other in around] for site, around in graph.items()} == VECTOR


def test_draws_are_uniform_enough():
    """Every pair of ten sites is linked about as often as any other."""
    members = sites(10)
    counts = dict.fromkeys(members[1:], 0)
    for seed in range(300):
        graph = neighbours("random-regular", members, degree=4, seed=seed)
        for other in graph[members[0]]:
            counts[other] += 1
    assert all(90 <= count <= 180 for count in counts.values())


def test_bounded_draws_skip_numbers_that_would_favour_small_results():
    assert topology._below(10, iter([2**64 - 1, 2**64 - 6, 27])) == 7


def test_search_for_a_connected_graph_ends_with_a_refusal(monkeypatch):
    monkeypatch.setattr(topology, "_DRAW_ATTEMPTS_MAX", 0)
    with pytest.raises(GraphError, match="no connected graph"):
        neighbours("random-regular", sites(8), degree=3)


def test_unknown_topology_names_the_known_ones():
    with pytest.raises(UnknownTopology, match="random-regular"):
        neighbours("star", sites(4))


@pytest.mark.parametrize("members", [[], [b"a", b"a"]])
def test_graph_needs_sites_and_no_duplicates(members):
    with pytest.raises(GraphError, match="duplicates"):
        neighbours("ring", members)


def test_torus_of_a_prime_number_of_sites_is_refused():
    with pytest.raises(GraphError, match="rows × columns"):
        neighbours("torus", sites(7))


def test_custom_graph_is_checked():
    a, b, c, d = sorted(sites(4))
    with pytest.raises(GraphError, match="several parts"):
        neighbours("custom", [a, b, c, d], edges=[(a, b), (c, d)])
    with pytest.raises(GraphError, match="itself"):
        neighbours("custom", [a, b], edges=[(a, a), (a, b)])
    with pytest.raises(UnknownSite, match=d.hex()[:12]):
        neighbours("custom", [a, b, c], edges=[(a, b), (b, d)])


@given(
    patients=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    extra=st.floats(0.0, 1.0),
)
def test_shares_are_proportional_below_the_cap_and_sum_to_one(patients, extra):
    buckets = dict(zip(sites(len(patients)), patients, strict=True))
    cap = min(1.0, 1 / len(patients) + extra)
    shares = capped_shares_u(buckets, cap)
    assert abs(sum(shares.values()) - MICRO) <= 2 * len(patients)
    assert all(1 <= share <= round(cap * MICRO) for share in shares.values())
    below = [site for site in shares if shares[site] < round(cap * MICRO) - 1]
    for one in below:
        for other in below:
            # Equal up to the rounding of both shares.
            left = Fraction(shares[one] * buckets[other])
            assert abs(left - shares[other] * buckets[one]) <= buckets[one] + buckets[other]


def test_excess_of_a_capped_site_goes_to_the_others_and_may_cap_them_too():
    a, b, c, d = sites(4)
    shares = capped_shares_u({a: 1000, b: 500, c: 30, d: 10}, 0.4)
    assert shares == {a: 400_000, b: 400_000, c: 150_000, d: 50_000}


@pytest.mark.parametrize(("cap", "n"), [(0.2, 4), (1.01, 4), (0.5, 0), (-1.0, 2)])
def test_cap_that_cannot_hold_all_weight_is_refused(cap, n):
    with pytest.raises(ShareCapTooLow, match="share cap"):
        capped_shares_u(dict.fromkeys(sites(n), 10), cap)


def test_cap_of_a_third_lets_three_sites_hold_everything():
    for cap in (1 / 3, 0.333333):
        shares = capped_shares_u(dict(zip(sites(3), (900, 5, 5), strict=True)), cap)
        assert set(shares.values()) <= {333_332, 333_333, 333_334}


def test_site_without_patients_is_refused():
    with pytest.raises(GraphError, match="patients"):
        capped_shares_u({sites(1)[0]: 0}, 1.0)


@given(n=st.integers(4, 14), kind=st.sampled_from(["complete", "ring", "exponential"]))
def test_equal_shares_give_metropolis_hastings_weights(n, kind):
    graph = neighbours(kind, sites(n))
    weights = all_mixing_weights_u(graph, uniform_shares_u(sites(n)))
    for site, around in weights.items():
        for other, weight in around.items():
            expected = MICRO / (1 + max(len(graph[site]), len(graph[other])))
            assert abs(weight - expected) <= 1


def test_complete_graph_gives_each_site_its_share():
    members = sites(4)
    shares = capped_shares_u(dict(zip(members, (303, 294, 123, 200), strict=True)), 0.5)
    graph = neighbours("complete", members)
    for own in members:
        weights = mixing_weights_u(graph, shares, own, members)
        assert all(abs(weights[site] - shares[site]) <= 2 for site in weights)


@given(
    patients=st.lists(st.integers(1, 999), min_size=9, max_size=9),
    kind=st.sampled_from(["complete", "ring", "torus", "exponential"]),
)
def test_repeated_mixing_reaches_the_average_weighted_by_shares(patients, kind):
    members = sites(9)
    shares = capped_shares_u(dict(zip(members, patients, strict=True)), 0.5)
    graph = neighbours(kind, members)
    weights = all_mixing_weights_u(graph, shares)
    place = {site: i for i, site in enumerate(members)}
    mixing = np.zeros((9, 9))
    for site, around in weights.items():
        for other, weight in around.items():
            mixing[place[site], place[other]] = weight / MICRO
        mixing[place[site], place[site]] = 1.0 - mixing[place[site]].sum()
    assert np.all(np.diagonal(mixing) > 0)
    flow = np.array([shares[site] for site in members])[:, None] * mixing
    assert np.abs(flow - flow.T).max() <= 1.0  # detailed balance, up to rounding down


def test_silent_neighbours_leave_their_weight_with_the_own_model():
    members = sites(5)
    graph, shares = neighbours("complete", members), uniform_shares_u(members)
    everyone = mixing_weights_u(graph, shares, members[0], members)
    heard = mixing_weights_u(graph, shares, members[0], [*members[:3], b"stranger"])
    assert heard == {site: everyone[site] for site in heard}
    assert set(heard) == set(members[1:3])


def test_weights_of_an_unknown_site_or_share_are_refused():
    members = sites(3)
    graph = neighbours("complete", members)
    with pytest.raises(UnknownSite):
        mixing_weights_u(graph, uniform_shares_u(members), b"stranger", members)
    with pytest.raises(GraphError, match="share of site"):
        mixing_weights_u(graph, uniform_shares_u(members[:2]), members[0], members)
