"""The averaging rules: each makes a new own model from the own and the neighbours' models.

Shared by all of them: own is float32[d]; neighbours float32[m, d] (or m vectors float32[d], memory
maps welcome); weights float32[m], the mixing weights, each in (0, 1), sum below 1; the own weight
is what is left to 1. Without neighbours every rule returns the own model. Each refuses bad inputs
with the errors of `check_inputs`. Same inputs, same bits, whatever the number of threads.
They must not know sites, rounds or where models come from.
"""

import numpy as np

from p2pfl.averaging.chunked import combine, gram_matrix, squared_distances
from p2pfl.averaging.coordinatewise import trim_coordinates
from p2pfl.averaging.evidence import Averaged, evidence_of
from p2pfl.averaging.geometric import geometric_median_of
from p2pfl.averaging.inputs import Inputs, Neighbours, Vector, Wide, check_inputs
from p2pfl.averaging.quantiles import WEIGHT_TOLERANCE, weighted_median, weighted_quantile

# cs_redescending ignores a neighbour that is farther away than this many clipping radii.
REDESCENDING_REACH = 3.0


def gossip(own: Vector, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Weighted mean of the own and all neighbours' models: the baseline without any defence.

    x + Σ w_j z_j with z_j = x_j − x. One attacker can put the result anywhere.

    >>> one = np.ones(2, dtype=np.float32)
    >>> gossip(one, np.stack([3 * one]), np.array([0.5], dtype=np.float32)).value
    array([2., 2.], dtype=float32)
    """
    inputs = check_inputs(own, neighbours, weights)
    return _clipped_around_own(inputs, _distances(inputs), np.ones(len(inputs.rows)))


def cs_plus(own: Vector, neighbours: Neighbours, weights: Vector, *, byzantine: float) -> Averaged:
    """Clip each neighbour's difference to the largest one left after removing the top 2b weight.

    byzantine: declared share of the neighbours' weight that may be hostile, 0…0.49; b is that
    share, so the clipping radius τ is the (1 − 2·byzantine) weighted quantile of the distances.
    A positive share removes at least the farthest of several neighbours.
    Source: Gaucher et al., ICML 2025, arXiv:2410.10418, CS+; τ from a declared share, because one
    estimated from this round's distances would be the attacker's to choose.
    """
    inputs = check_inputs(own, neighbours, weights)
    distances = _distances(inputs)
    radius = _clipping_radius(distances, inputs.weights, byzantine)
    return _clipped_around_own(inputs, distances, _shrink_to(radius, distances))


def cs_redescending(
    own: Vector, neighbours: Neighbours, weights: Vector, *, byzantine: float
) -> Averaged:
    """cs_plus that ignores what lies beyond three clipping radii; for sparse graphs.

    byzantine: as for cs_plus. Factor 1 up to τ, τ/‖z‖ up to 3τ, 0 beyond.
    """
    inputs = check_inputs(own, neighbours, weights)
    distances = _distances(inputs)
    radius = _clipping_radius(distances, inputs.weights, byzantine)
    factors = _shrink_to(radius, distances)
    within_reach = distances <= REDESCENDING_REACH * radius
    return _clipped_around_own(inputs, distances, np.where(within_reach, factors, 0.0))


def gm_clip(own: Vector, neighbours: Neighbours, weights: Vector, *, steps: int) -> Averaged:
    """Clip all models around the neighbourhood's geometric median, at the median distance.

    c = weighted geometric median of own and neighbours (`steps` smoothed Weiszfeld steps);
    r_j = ‖x_j − c‖; τ = weighted median of r (own included);
    x ← c + Σ_j w_j min(1, τ/r_j) (x_j − c), own included. No number of attackers is needed.

    τ is the weighted median, not the plain one: centre and radius then fail together, and only
    when half of the mixing weight is hostile. A plain median could be moved by many admitted
    sites that hold little weight.
    """
    inputs = check_inputs(own, neighbours, weights)
    member_weights = inputs.member_weights
    centre = geometric_median_of(gram_matrix(inputs), member_weights, steps)
    radius = float(weighted_median(centre.distances, member_weights))
    factors = _shrink_to(radius, centre.distances)
    clipped = member_weights * factors
    # c + Σ g_j (x_j − c) = (1 − Σ g) c + Σ g_j x_j, and c is itself a mean of the members.
    coefficients = (1.0 - np.add.reduce(clipped)) * centre.coefficients + clipped
    return Averaged(
        combine(inputs, coefficients[1:]), evidence_of(centre.distances[1:], factors[1:])
    )


def geometric_median(
    own: Vector, neighbours: Neighbours, weights: Vector, *, steps: int
) -> Averaged:
    """The point with the least weighted sum of distances to own and neighbours' models.

    steps: smoothed Weiszfeld steps. A neighbour's factor is its coefficient in the result over
    its mixing weight, at most 1. Source: Pillutla et al. 2022 (RFA).
    """
    inputs = check_inputs(own, neighbours, weights)
    member_weights = inputs.member_weights
    centre = geometric_median_of(gram_matrix(inputs), member_weights, steps)
    factors = np.minimum(1.0, centre.coefficients / member_weights)
    return Averaged(
        combine(inputs, centre.coefficients[1:]), evidence_of(centre.distances[1:], factors[1:])
    )


def trimmed_mean(
    own: Vector, neighbours: Neighbours, weights: Vector, *, byzantine: float
) -> Averaged:
    """Average each coordinate after dropping its f lowest and f highest values.

    f = ⌊byzantine·m⌋, at least 1 if byzantine is positive, at most ⌊m/2⌋. f counts sites, whatever
    their weight, so one big site cannot stay in by its size; the mixing weights count among the
    values that are left. A neighbour's factor is the share of its coordinates that were kept.
    Source: Yin et al. 2018, trimmed mean.
    """
    inputs = check_inputs(own, neighbours, weights)
    m = len(inputs.rows)
    trim = int(byzantine * m + WEIGHT_TOLERANCE)
    if byzantine > 0.0:
        trim = max(1, trim)
    return _trimmed(inputs, inputs.member_weights, min(trim, m // 2))


def median(own: Vector, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Plain median of each coordinate; every site heard counts once, weights do not matter.

    Unweighted on purpose: a site's weight comes from what it says of itself. With an even number
    of models it is the mean of the two middle ones. Source: Yin et al. 2018, median.
    """
    inputs = check_inputs(own, neighbours, weights)
    return _trimmed(inputs, np.ones(inputs.members), (inputs.members - 1) // 2)


def _distances(inputs: Inputs) -> Wide:
    distances: Wide = np.sqrt(squared_distances(inputs))
    return distances


def _clipping_radius(distances: Wide, weights: Wide, byzantine: float) -> float:
    if distances.size == 0:
        return 0.0
    radius = weighted_quantile(distances, weights, 1.0 - 2.0 * byzantine)
    if byzantine > 0.0 and distances.size > 1:
        radius = min(radius, float(np.sort(distances)[-2]))
    return radius


def _shrink_to(radius: float, distances: Wide) -> Wide:
    """min(1, radius/distance), and 1 at distance 0."""
    clipped = distances > radius
    factors: Wide = np.where(clipped, radius / np.where(clipped, distances, 1.0), 1.0)
    return factors


def _clipped_around_own(inputs: Inputs, distances: Wide, factors: Wide) -> Averaged:
    return Averaged(combine(inputs, inputs.weights * factors), evidence_of(distances, factors))


def _trimmed(inputs: Inputs, member_weights: Wide, trim: int) -> Averaged:
    trimmed = trim_coordinates(inputs, member_weights, trim)
    return Averaged(trimmed.value, evidence_of(_distances(inputs), trimmed.kept_share))
