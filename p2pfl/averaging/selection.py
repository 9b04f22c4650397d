"""Choosing members by their distances to each other: which are near, which are central.

Works on the N×N matrix of inner products, own model first. Ties go to the member that comes first:
the own model, then the neighbours in the order they were given.
"""

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.inputs import Wide

Chosen = npt.NDArray[np.bool_]

# Squares of distances that differ by less than this part of the largest are the same: they come
# from inner products, which leave that much rounding.
_TIE = 1e-13


def pairwise_squares(gram: Wide) -> Wide:
    """‖x_i − x_j‖² from inner products around any origin. float64[N, N], zero on the diagonal."""
    squares = np.diagonal(gram)
    between = squares[:, np.newaxis] + squares[np.newaxis, :] - 2.0 * gram
    # Rounding can leave a square of zero slightly below it.
    positive: Wide = np.maximum(between, 0.0)
    return positive


def nearest(values: Wide, count: int, scale: float) -> Chosen:
    """The `count` members with the smallest values. scale: of what the values came from.

    values: float64[N]; 1 ≤ count ≤ N.

    >>> nearest(np.array([2.0, 1.0, 2.0, 9.0]), 2, 9.0).tolist()
    [True, True, False, False]
    """
    edge = float(np.sort(values)[count - 1])
    slack = _TIE * scale
    chosen = values < edge - slack
    tied = np.flatnonzero(~chosen & (values <= edge + slack))
    chosen[tied[: count - np.count_nonzero(chosen)]] = True
    return chosen


def krum_scores(squares: Wide, f: int) -> Wide:
    """Mean square of the distances to the N − f − 1 nearest other members. float64[N].

    Source: Blanchard et al. 2017 sum the N − f − 2 nearest; one more, as byzfl takes, leaves
    something to compare with three members.
    """
    n = len(squares)
    ordered = np.sort(squares, axis=1)
    return _means(ordered[:, 1 : n - f])


def mixing_matrix(squares: Wide, weights: Wide, f: int) -> Wide:
    """M with y_i = Σ_j M_ij x_j: each member becomes the mean of its N − f nearest members.

    weights: float64[N], used among the nearest. Returns float64[N, N], rows sum to 1.
    Source: Allouah et al. 2023, nearest-neighbour mixing.
    """
    n, scale = len(squares), float(squares.max(initial=0.0))
    kept = np.stack([nearest(row, n - f, scale) for row in squares])
    shares = np.where(kept, weights, 0.0)
    mixing: Wide = shares / np.add.reduce(shares, axis=1)[:, np.newaxis]
    return mixing


def mixed_products(gram: Wide, mixing: Wide) -> Wide:
    """M G Mᵀ, without a BLAS, whose order of sums is not ours to fix."""
    left = np.stack([np.add.reduce(row[:, np.newaxis] * gram, axis=0) for row in mixing])
    both = np.stack([np.add.reduce(row[:, np.newaxis] * left.T, axis=0) for row in mixing])
    # Symmetric to the bit, as the distances that come from it have to be.
    symmetric: Wide = 0.5 * (both + both.T)
    return symmetric


def back_to_members(mixing: Wide, coefficients: Wide) -> Wide:
    """Mᵀ c: what a mean of mixed members is in terms of the members."""
    back: Wide = np.add.reduce(mixing * coefficients[:, np.newaxis], axis=0)
    return back


def _means(rows: Wide) -> Wide:
    means: Wide = np.add.reduce(rows, axis=1) / rows.shape[1]
    return means
