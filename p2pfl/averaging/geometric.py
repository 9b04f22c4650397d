"""Geometric median of a few long vectors, found on coefficients.

Every point that Weiszfeld's steps visit is a weighted mean of the members, so the N×N matrix of
inner products is all they need: the cost of a step does not depend on the number of coordinates.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.inputs import Wide
from p2pfl.averaging.quantiles import weighted_median

# Smoothing as a part of the typical distance between members: small enough not to move the
# result, large enough to keep the weight of a member that the centre lands on finite.
SMOOTHING = 1e-6
# Stands for the smoothing where at least half of the weight sits on one point.
SMALLEST = 1e-150


@dataclass(frozen=True, slots=True)
class Centre:
    """c = Σ coefficients[j] x_j.

    coefficients: float64[N], above 0, sum 1. distances: float64[N], ‖x_j − c‖.
    """

    coefficients: Wide
    distances: Wide


def geometric_median_of(gram: Wide, weights: Wide, steps: int) -> Centre:
    """Weighted geometric median by smoothed Weiszfeld steps.

    gram: float64[N, N], inner products around any origin. weights: float64[N], above 0, sum 1.

    The start decides what a far attacker can do in a bounded number of steps. From the mean, each
    step only shrinks his pull by about b/(1−b), so a far enough radius would win; here every
    member starts with its weight over its (weighted) median distance to all members. With less
    than half of the weight, an attacker at radius R starts with a coefficient of order 1/R, so
    the centre stays near the honest members at any R. It treats all members alike, so sites that
    hold the same models find the same centre.
    Source: Weiszfeld 1937; Pillutla et al. 2022 (RFA) for the smoothing.
    """
    typical = weighted_median(_pairwise_distances(gram), weights)
    scale = float(weighted_median(typical, weights))
    smoothing = max(SMOOTHING * scale, SMALLEST)
    coefficients = _normalised(weights / np.maximum(typical, smoothing))
    for _ in range(steps):
        distances = distances_to(gram, coefficients)
        coefficients = _normalised(weights / np.maximum(distances, smoothing))
    return Centre(coefficients, distances_to(gram, coefficients))


def _normalised(values: Wide) -> Wide:
    scaled: Wide = values / np.add.reduce(values)
    return scaled


def _pairwise_distances(gram: Wide) -> Wide:
    squares = np.diagonal(gram)
    return _root(squares[:, np.newaxis] + squares[np.newaxis, :] - 2.0 * gram)


def distances_to(gram: Wide, coefficients: Wide) -> Wide:
    """‖x_j − c‖ of every member, c = Σ coefficients[j] x_j with coefficients that sum to 1."""
    # Products and sums instead of @: a matrix product's bits may depend on the BLAS.
    towards = np.add.reduce(gram * coefficients, axis=1)
    square_of_centre = np.add.reduce(towards * coefficients)
    return _root(np.diagonal(gram) - 2.0 * towards + square_of_centre)


def _root(squares: npt.NDArray[np.float64]) -> Wide:
    # Rounding can leave a square of zero slightly below it.
    root: Wide = np.sqrt(np.maximum(squares, 0.0))
    return root
