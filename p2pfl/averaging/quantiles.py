"""Weighted quantiles of a few distances."""

from itertools import accumulate
from operator import itemgetter

import numpy as np

from p2pfl.averaging.inputs import Wide

# Weights are whole micro-units, and the own one holds what rounding left of the others: sums of N
# of them that are closer than N micro-units are the same sum. Otherwise sites that hold the same
# models would break ties each in its own favour, and never agree.
WEIGHT_TOLERANCE = 1e-6


def weighted_quantile(values: Wide, weights: Wide, share: float) -> float:
    """Smallest value such that it and the smaller ones hold `share` of the weight.

    values, weights: float64[m], m ≥ 1, weights above 0. share: 0…1.

    >>> weighted_quantile(np.array([5.0, 1.0, 3.0]), np.array([0.2, 0.2, 0.2]), 0.6)
    3.0
    """
    # A few values are sorted and added up sooner by Python; the sums are the same to the bit.
    pairs = sorted(zip(values.tolist(), weights.tolist(), strict=True), key=itemgetter(0))
    running = list(accumulate(weight for _, weight in pairs))
    needed = (share - WEIGHT_TOLERANCE * len(pairs)) * running[-1]
    return float(next(v for (v, _), held in zip(pairs, running, strict=True) if held >= needed))


def weighted_median(values: Wide, weights: Wide) -> Wide:
    """Value in the middle of the weight, along the last axis; at a tie the mean of both sides.

    values: float64[..., N]; weights: float64[N], above 0. With equal weights it is the median.

    >>> float(weighted_median(np.array([1.0, 9.0, 2.0, 4.0]), np.full(4, 0.25)))
    3.0
    """
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    running = np.cumsum(weights[order], axis=-1)
    half = 0.5 * running[..., -1:]
    tolerance = WEIGHT_TOLERANCE * weights.size * running[..., -1:]
    lower = np.argmax(running >= half - tolerance, axis=-1)
    upper = np.argmax(running > half + tolerance, axis=-1)
    below = np.take_along_axis(ordered, lower[..., np.newaxis], axis=-1)
    above = np.take_along_axis(ordered, upper[..., np.newaxis], axis=-1)
    middle: Wide = (0.5 * (below + above))[..., 0]
    return middle
