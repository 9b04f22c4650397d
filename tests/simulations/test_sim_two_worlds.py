"""The graph of two worlds: what a rule holds there, and where nothing is promised."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl.averaging import topology
from simulations import adversaries as known
from simulations.adversaries_adaptive import RuleInUse
from simulations.adversaries_two_worlds import averaged, laplacian_of, outcomes, two_worlds


def test_the_graph_is_that_of_the_paper() -> None:
    linked = two_worlds()
    assert np.array_equal(linked, linked.T)
    assert set(linked.sum(axis=1)) == {20.0}
    eigenvalues = np.linalg.eigvalsh(laplacian_of(linked))
    assert eigenvalues[0] == pytest.approx(0.0, abs=1e-9)
    assert eigenvalues[1] == pytest.approx(16.0)


def test_without_attackers_sites_agree_on_their_mean() -> None:
    assert averaged(RuleInUse("gossip"), None, 0, 25, 0)[0] < 1e-6


def test_four_attackers_per_site_break_gossip_and_hardly_move_cs_plus() -> None:
    share = (("byzantine", 4 / 24),)
    plan = lambda push: known.spectral(push, 10.0)  # noqa: E731 - one line says it all
    assert averaged(RuleInUse("gossip"), plan, 4, 3, 0)[0] > 1.0
    assert averaged(RuleInUse("cs_plus", share), plan, 4, 12, 0)[0] < 0.05


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("f", "limit"), [(4, 1e-3), (6, 0.05)])
def test_cs_plus_holds_its_published_error_under_every_attack_on_agreement(
    f: int, limit: float
) -> None:
    found = outcomes("cs_plus", f, 200, "agreement")
    assert len(found) == 3
    assert max(outcome.error for outcome in found) <= limit


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("f", "limit"), [(4, 1e-3), (6, 0.05)])
def test_sites_agree_on_one_value_when_all_are_shifted(f: int, limit: float) -> None:
    """Where to, no rule can prevent: the attackers stay among the honest values."""
    found = outcomes("cs_plus", f, 200, "shift")
    assert max(outcome.spread for outcome in found) <= limit


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_sites_agree_under_searching_attackers_while_the_proof_holds() -> None:
    """4b < μ2 with three attackers; from four on, a search can keep the two worlds apart."""
    found = outcomes("cs_plus", 3, 200, "search")
    assert max(outcome.spread for outcome in found) <= 1e-3


def test_eight_attackers_per_site_are_warned_of() -> None:
    """Each honest site has eight links across, and the attackers as many of theirs next to it."""
    linked = two_worlds()
    hostile = 8
    n = len(linked) + hostile
    sites = [bytes([at]) for at in range(n)]
    pairs = [(i, j) for i in range(26) for j in range(i) if linked[i, j]]
    pairs += [(i, j) for i in range(26) for j in range(26, n)]
    edges = [(sites[i], sites[j]) for i, j in pairs]
    graph = topology.neighbours("custom", sites, edges=edges)
    weights = topology.all_mixing_weights_u(graph, topology.uniform_shares_u(sites))
    found = topology.breakdown(graph, weights, hostile)
    assert found.claim is topology.Claim.NONE
    assert "nothing is promised" in found.sentence
