"""How many Byzantine sites a graph with its weights can bear, in numbers and in a plain sentence.

Source: Gaucher et al., ICML 2025, arXiv:2410.10418: with b the Byzantine weight next to an honest
site and μ2 the second-smallest eigenvalue of the honest sites' Laplacian, clipped gossip is proven
to work when 4b < μ2, and no rule can work on every graph with 2b ≥ μ2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from math import comb

import numpy as np

from p2pfl.averaging.errors import GraphError
from p2pfl.averaging.inputs import Wide

# Up to so many choices of Byzantine sites are tried one by one; beyond, μ2 is bounded from below.
_CHOICES_MAX = 512
# Weights are rounded down to micro-units; sums of them agree only to about this.
_TOLERANCE = 1e-5

Weights = Mapping[bytes, Mapping[bytes, int]]
"""Site → neighbour → mixing weight in micro-units, every site of the study."""


class Claim(StrEnum):
    """What may be said about robustness against the declared number of Byzantine sites."""

    NONE = "none"
    LIMIT = "limit"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """mu2: of the worst choice of honest sites. byzantine_weight: b, the most that `f` hostile
    sites can hold next to one honest site. sentence: for people."""

    mu2: float
    byzantine_weight: float
    claim: Claim
    sentence: str


def breakdown(graph: Mapping[bytes, tuple[bytes, ...]], weights: Weights, f: int) -> Breakdown:
    """What this graph bears when any `f` of its sites may be Byzantine.

    weights: from `all_mixing_weights_u`. f: 0…n−1.
    Raises: GraphError.
    """
    n = len(graph)
    if not 0 <= f < n:
        raise GraphError(f"Byzantine sites: expected 0…{n - 1} of {n}, got {f}")
    mu2 = _honest_mu2(_weight_matrix(sorted(graph), weights), f)
    b = max(_largest(weights[site].values(), f) for site in graph) / 1e6
    fewest = min(len(around) for around in graph.values())
    return _judged(n, f, fewest, mu2, b)


def spectral_gap(weights: Weights) -> float:
    """1 − the second-largest |eigenvalue| of the mixing matrix: how fast differences disappear.

    In a round of plain mixing without training they shrink to 1 − gap of what they were, or less.
    0: they may never disappear; 1: gone after one round. weights: from `all_mixing_weights_u`.
    """
    directed = _weight_matrix(sorted(weights), weights)
    # π_i w_ij = π_j w_ji: the matrix has the eigenvalues of a symmetric one, as in `_mu2`.
    mixing = np.sqrt(directed * directed.T) + np.diag(1.0 - directed.sum(axis=1))
    sizes = np.sort(np.abs(np.linalg.eigvalsh(mixing)))
    return max(0.0, 1.0 - float(sizes[-2])) if len(sizes) > 1 else 1.0


def _judged(n: int, f: int, fewest: int, mu2: float, b: float) -> Breakdown:
    who = "1 Byzantine site" if f == 1 else f"{f} Byzantine sites"
    figures = f"b = {b:.2f}, μ2 = {mu2:.2f}"
    if f == 0:
        claim = Claim.NONE
        sentence = f"{n} sites, none declared Byzantine: nothing is promised against one."
    elif fewest - 2 * f < 1:
        claim = Claim.NONE
        sentence = (
            f"{n} sites do not tolerate {who}: one of them has only {fewest} neighbours, and "
            f"outvoting {f} takes {2 * f + 1}."
        )
    elif 2 * b >= mu2 - _TOLERANCE:
        claim = Claim.NONE
        sentence = f"{n} sites do not tolerate {who}: nothing is promised (2b ≥ μ2; {figures})."
    elif 4 * b >= mu2 - _TOLERANCE:
        claim = Claim.LIMIT
        sentence = (
            f"{n} sites tolerate no Byzantine site with proof: with {f} they are at the limit, "
            f"where a rule may withstand but need not (4b ≥ μ2; {figures})."
        )
    else:
        claim = Claim.YES
        sentence = f"{n} sites tolerate {who} with proof, under cs_plus (4b < μ2; {figures})."
    return Breakdown(mu2, b, claim, sentence)


def _weight_matrix(sites: list[bytes], weights: Weights) -> Wide:
    """float64[n, n]: row i holds the weights that site i gives to its neighbours."""
    place = {site: i for i, site in enumerate(sites)}
    directed = np.zeros((len(sites), len(sites)))
    for site, around in weights.items():
        for neighbour, weight_u in around.items():
            directed[place[site], place[neighbour]] = weight_u / 1e6
    return directed


def _honest_mu2(directed: Wide, f: int) -> float:
    n = len(directed)
    if comb(n, f) > _CHOICES_MAX:
        # Taking a site away lowers μ2 by at most the largest weight that others give to it.
        return max(0.0, _mu2(directed) - _largest(directed.max(axis=0).tolist(), f))
    keeps = combinations(range(n), n - f)
    return min(_mu2(directed[np.ix_(kept, kept)]) for kept in keeps)


def _mu2(directed: Wide) -> float:
    """Second-smallest eigenvalue of the Laplacian; 0 for a single site or a graph in parts.

    Weights by patients are not symmetric, but π_i w_ij = π_j w_ji: scaling rows and columns by √π
    turns w_ij into √(w_ij w_ji) and keeps the eigenvalues.
    """
    if len(directed) < 2:
        return 0.0
    laplacian = np.diag(directed.sum(axis=1)) - np.sqrt(directed * directed.T)
    return max(0.0, float(np.linalg.eigvalsh(laplacian)[1]))


def _largest(values: Iterable[float], count: int) -> float:
    return float(sum(sorted(values, reverse=True)[:count]))
