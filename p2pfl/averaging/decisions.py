"""What each rule decides, once distances are known: how much of every member enters the result.

Small matrices only; `passes` has read the models. A decision is a weighted mean of the members,
so that a rule after nearest-neighbour mixing is the same function on mixed inner products.
Shared arguments: weights: float64[N], the mixing weights, own first, sum 1. distances: float64[m],
‖x_j − own‖. gram: float64[N, N], inner products, own first. The published sources, and what the
parameters mean, are in `rules`.
"""

from dataclasses import dataclass

import numpy as np

from p2pfl.averaging.geometric import distances_to, geometric_median_of
from p2pfl.averaging.inputs import Wide
from p2pfl.averaging.quantiles import WEIGHT_TOLERANCE, weighted_median, weighted_quantile
from p2pfl.averaging.selection import (
    back_to_members,
    krum_scores,
    mixing_matrix,
    nearest,
    pairwise_squares,
)

# cs_redescending ignores a neighbour that is farther away than this many clipping radii.
REDESCENDING_REACH = 3.0


@dataclass(frozen=True, slots=True)
class Decision:
    """coefficients: float64[N], sum 1. distances, factors: float64[m], evidence per neighbour."""

    coefficients: Wide
    distances: Wide
    factors: Wide


def count_of(byzantine: float, m: int) -> int:
    """f, the neighbours that may be hostile: ⌊byzantine·m⌋, 1 at least if any, ⌊m/2⌋ at most.

    >>> [count_of(0.2, m) for m in (1, 2, 3, 10, 11)]
    [0, 1, 1, 2, 2]
    """
    f = int(byzantine * m + WEIGHT_TOLERANCE)
    return min(max(1, f) if byzantine > 0.0 else f, m // 2)


# -- around the own model --------------------------------------------------------------------------


def gossip(distances: Wide, weights: Wide) -> Decision:
    """Everything as it is."""
    return _around_own(distances, weights, np.ones(distances.size))


def cs_plus(distances: Wide, weights: Wide, *, byzantine: float) -> Decision:
    """Clip to the quantile radius."""
    radius = _quantile_radius(distances, weights[1:], byzantine)
    return _around_own(distances, weights, _shrink_to(radius, distances))


def cs_redescending(distances: Wide, weights: Wide, *, byzantine: float) -> Decision:
    """Clip to the quantile radius; nothing beyond three radii."""
    radius = _quantile_radius(distances, weights[1:], byzantine)
    factors = _shrink_to(radius, distances)
    within_reach = distances <= REDESCENDING_REACH * radius
    return _around_own(distances, weights, np.where(within_reach, factors, 0.0))


def clipped_gossip(distances: Wide, weights: Wide, *, byzantine: float, radius: float) -> Decision:
    """Clip to a given radius, or to the one that the nearest neighbours suggest."""
    used = radius if radius > 0.0 else _variance_radius(distances, weights[1:], byzantine)
    return _around_own(distances, weights, _shrink_to(used, distances))


def nna(distances: Wide, weights: Wide, *, byzantine: float) -> Decision:
    """Mean of the N − f members nearest to the own model."""
    to_own = np.concatenate(([0.0], distances))
    f = count_of(byzantine, distances.size)
    chosen = nearest(to_own, to_own.size - f, float(to_own.max()))
    return _mean_of(chosen, weights, distances)


def _around_own(distances: Wide, weights: Wide, factors: Wide) -> Decision:
    coefficients = weights.copy()
    coefficients[1:] *= factors
    coefficients[0] = 1.0 - np.add.reduce(coefficients[1:])
    return Decision(coefficients, distances, factors)


# -- around a centre of all ------------------------------------------------------------------------


def gm_clip(gram: Wide, weights: Wide, *, steps: int, quantile: float) -> Decision:
    """Clip everyone around the geometric median, at a weighted quantile of the distances."""
    centre = geometric_median_of(gram, weights, steps)
    if quantile == 0.5:  # the middle between two, where there are two
        radius = float(weighted_median(centre.distances, weights))
    else:
        radius = weighted_quantile(centre.distances, weights, quantile)
    factors = _shrink_to(radius, centre.distances)
    clipped = weights * factors
    # c + Σ g_j (x_j − c) = (1 − Σ g) c + Σ g_j x_j, and c is itself a mean of the members.
    coefficients = (1.0 - np.add.reduce(clipped)) * centre.coefficients + clipped
    return Decision(coefficients, centre.distances[1:], factors[1:])


def geometric_median(gram: Wide, weights: Wide, *, steps: int) -> Decision:
    """The geometric median itself."""
    centre = geometric_median_of(gram, weights, steps)
    factors = np.minimum(1.0, centre.coefficients / weights)
    return Decision(centre.coefficients, centre.distances[1:], factors[1:])


def centered_clipping(
    gram: Wide, weights: Wide, *, byzantine: float, radius: float, steps: int
) -> Decision:
    """Move from the own model by the mean of the clipped differences, several times."""
    coefficients = np.zeros(weights.size)
    coefficients[0] = 1.0
    distances = factors = np.zeros(weights.size)
    for _ in range(steps):
        distances = distances_to(gram, coefficients)
        used = radius
        if radius == 0.0:
            used = _quantile_radius(distances[1:], weights[1:], byzantine)
        factors = _shrink_to(used, distances)
        clipped = weights * factors
        coefficients = (1.0 - np.add.reduce(clipped)) * coefficients + clipped
    return Decision(coefficients, distances[1:], factors[1:])


# -- choosing members ------------------------------------------------------------------------------


def krum(gram: Wide, weights: Wide, *, byzantine: float) -> Decision:
    """The one member with the nearest neighbours."""
    squares = pairwise_squares(gram)
    scores = krum_scores(squares, count_of(byzantine, weights.size - 1))
    chosen = nearest(scores, 1, float(squares.max()))
    return _mean_of(chosen, np.ones(weights.size), np.sqrt(squares[0, 1:]))


def multi_krum(gram: Wide, weights: Wide, *, byzantine: float) -> Decision:
    """Mean of the N − f members with the nearest neighbours."""
    squares = pairwise_squares(gram)
    f = count_of(byzantine, weights.size - 1)
    chosen = nearest(krum_scores(squares, f), weights.size - f, float(squares.max()))
    return _mean_of(chosen, weights, np.sqrt(squares[0, 1:]))


def mixing_of(gram: Wide, weights: Wide, byzantine: float) -> Wide:
    """Nearest-neighbour mixing, for whichever rule comes after it. float64[N, N]."""
    f = count_of(byzantine, weights.size - 1)
    return mixing_matrix(pairwise_squares(gram), weights, f)


def in_terms_of_members(decision: Decision, mixing: Wide, gram: Wide, weights: Wide) -> Decision:
    """A decision on mixed members as one on the members; distances are from the own model."""
    coefficients = back_to_members(mixing, decision.coefficients)
    ratio = coefficients[1:] / weights[1:]
    # Rounding alone is no clipping.
    factors = np.where(ratio > 1.0 - 1e-9, 1.0, np.maximum(ratio, 0.0))
    return Decision(coefficients, np.sqrt(pairwise_squares(gram)[0, 1:]), factors)


def _mean_of(chosen: np.typing.NDArray[np.bool_], weights: Wide, distances: Wide) -> Decision:
    kept = np.where(chosen, weights, 0.0)
    return Decision(kept / np.add.reduce(kept), distances, chosen[1:].astype(np.float64))


# -- radii -----------------------------------------------------------------------------------------


def _quantile_radius(distances: Wide, weights: Wide, byzantine: float) -> float:
    """The largest distance left after removing the farthest 2·byzantine of the weight."""
    if distances.size == 0:
        return 0.0
    radius = weighted_quantile(distances, weights, 1.0 - 2.0 * byzantine)
    if byzantine > 0.0 and distances.size > 1:
        radius = min(radius, sorted(distances.tolist())[-2])
    return radius


def _variance_radius(distances: Wide, weights: Wide, byzantine: float) -> float:
    """√(Σ w_j ‖z_j‖² / b) over the nearest neighbours that hold 1 − byzantine of the weight."""
    total = float(np.add.reduce(weights))
    if byzantine == 0.0 or distances.size == 0:
        return float(distances.max(initial=0.0))
    order = np.argsort(distances, kind="stable")
    within = np.cumsum(weights[order]) <= (1.0 - byzantine + WEIGHT_TOLERANCE) * total
    within[0] = True
    near = order[within]
    spread = float(np.add.reduce(weights[near] * distances[near] ** 2))
    return float(np.sqrt(spread / (byzantine * total)))


def _shrink_to(radius: float, distances: Wide) -> Wide:
    """min(1, radius/distance), and 1 at distance 0."""
    clipped = distances > radius
    factors: Wide = np.where(clipped, radius / np.where(clipped, distances, 1.0), 1.0)
    return factors
