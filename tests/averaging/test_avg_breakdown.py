"""What a graph bears, in numbers and in sentences that people can check."""

import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.averaging import breakdown as module
from p2pfl.averaging.errors import GraphError
from p2pfl.averaging.topology import (
    Breakdown,
    Claim,
    all_mixing_weights_u,
    breakdown,
    capped_shares_u,
    neighbours,
    uniform_shares_u,
)


def sites(n: int) -> list[bytes]:
    return sorted(hashlib.sha256(i.to_bytes(2, "big")).digest() for i in range(n))


def of_uniform(kind: str, n: int, f: int, degree: int = 6) -> Breakdown:
    graph = neighbours(kind, sites(n), degree=degree)
    return breakdown(graph, all_mixing_weights_u(graph, uniform_shares_u(sites(n))), f)


def test_four_sites_on_a_complete_graph_are_at_the_limit():
    found = of_uniform("complete", 4, 1)
    assert found.claim is Claim.LIMIT
    assert found.mu2 == pytest.approx(0.75, abs=1e-5)
    assert found.byzantine_weight == pytest.approx(0.25)
    assert "4 sites tolerate no Byzantine site with proof" in found.sentence
    assert "at the limit" in found.sentence


@pytest.mark.parametrize(
    ("kind", "n", "f", "claim"),
    [
        ("complete", 3, 1, Claim.NONE),
        ("complete", 5, 1, Claim.LIMIT),
        ("complete", 6, 1, Claim.YES),
        ("complete", 12, 2, Claim.YES),
        ("complete", 12, 5, Claim.NONE),
        ("complete", 12, 3, Claim.LIMIT),
        ("ring", 8, 1, Claim.NONE),
        ("complete", 1, 0, Claim.NONE),
        ("complete", 4, 0, Claim.NONE),
    ],
)
def test_claims_follow_the_published_bounds(kind, n, f, claim):
    assert of_uniform(kind, n, f).claim is claim


def test_sentences_say_what_is_missing():
    assert "only 2 neighbours, and outvoting 1 takes 3" in of_uniform("ring", 8, 1).sentence
    assert "nothing is promised against one" in of_uniform("complete", 4, 0).sentence
    assert "with proof, under cs_plus" in of_uniform("complete", 6, 1).sentence
    assert "tolerate 2 Byzantine sites" in of_uniform("complete", 12, 2).sentence


def test_one_big_hospital_can_be_too_much_and_a_lower_cap_helps():
    members = sites(4)
    buckets = dict(zip(members, (200, 190, 130, 80), strict=True))
    graph = neighbours("complete", members)
    claims = [
        breakdown(graph, all_mixing_weights_u(graph, capped_shares_u(buckets, cap)), 1)
        for cap in (0.5, 0.3)
    ]
    assert [found.claim for found in claims] == [Claim.NONE, Claim.LIMIT]
    assert "nothing is promised (2b ≥ μ2" in claims[0].sentence


def test_graph_that_falls_apart_without_one_site_has_no_eigenvalue_left():
    a, b, c = sites(3)
    graph = neighbours("custom", [a, b, c], edges=[(a, b), (b, c)])
    found = breakdown(graph, all_mixing_weights_u(graph, uniform_shares_u([a, b, c])), 1)
    assert found.mu2 == pytest.approx(0.0, abs=1e-9)
    assert found.claim is Claim.NONE


@pytest.mark.parametrize("f", [-1, 4])
def test_number_of_byzantine_sites_must_leave_an_honest_one(f):
    with pytest.raises(GraphError, match="Byzantine sites: expected 0…3 of 4"):
        of_uniform("complete", 4, f)


@given(
    patients=st.lists(st.integers(1, 500), min_size=8, max_size=8),
    kind=st.sampled_from(["complete", "torus", "exponential"]),
    f=st.integers(1, 3),
)
def test_bound_for_large_graphs_is_below_the_exact_eigenvalue(patients, kind, f):
    members = sites(8)
    shares = capped_shares_u(dict(zip(members, patients, strict=True)), 0.5)
    graph = neighbours(kind, members)
    weights = all_mixing_weights_u(graph, shares)
    exact = breakdown(graph, weights, f).mu2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHOICES_MAX", 0)
        assert breakdown(graph, weights, f).mu2 <= exact + 1e-9


@given(patients=st.lists(st.integers(1, 500), min_size=6, max_size=6))
def test_eigenvalue_is_that_of_the_honest_mixing_itself(patients):
    """Oracle: eigenvalues of the unsymmetric Laplacian of each honest group."""
    members = sites(6)
    shares = capped_shares_u(dict(zip(members, patients, strict=True)), 0.5)
    graph = neighbours("exponential", members)
    weights = all_mixing_weights_u(graph, shares)
    smallest = np.inf
    for honest in combinations(members, 5):
        laplacian = np.zeros((5, 5))
        for i, j in combinations(range(5), 2):
            for a, b in ((i, j), (j, i)):
                weight = weights[honest[a]].get(honest[b], 0) / 1e6
                laplacian[a, b] -= weight
                laplacian[a, a] += weight
        smallest = min(smallest, np.sort(np.linalg.eigvals(laplacian).real)[1])
    assert breakdown(graph, weights, 1).mu2 == pytest.approx(smallest, abs=1e-3)


def test_two_hundred_sites_are_judged_without_trying_every_choice():
    found = of_uniform("random-regular", 200, 3, degree=20)
    assert 0.0 <= found.mu2 < 1.0
