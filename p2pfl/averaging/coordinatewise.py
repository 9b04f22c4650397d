"""Rules that look at each coordinate alone: sort the members' values, drop the ends.

Sorting is a network of minima and maxima over whole chunks, so it needs no sort per coordinate and
no branch on data.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.inputs import Inputs, Vector, Wide, chunks
from p2pfl.averaging.quantiles import WEIGHT_TOLERANCE


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Result of trimming every coordinate.

    value: float32[d]. kept_share: float64[m], of each neighbour's coordinates, those inside the
    kept range.
    """

    value: Vector
    kept_share: Wide


def trim_coordinates(inputs: Inputs, member_weights: Wide, trim: int) -> Trimmed:
    """Average each coordinate after dropping its `trim` lowest and highest values.

    member_weights: float64[N], own first, used among the values that are left. Members whose equal
    values straddle the edge of the kept range share what is kept there, so the result does not
    depend on the order of the neighbours. Requires 2·trim < N.
    """
    members = (inputs.own, *inputs.rows)
    equal = bool(np.ptp(member_weights) <= WEIGHT_TOLERANCE)
    value = np.empty(inputs.own.size, dtype=np.float32)
    kept = np.zeros(len(inputs.rows), dtype=np.int64)
    for part in chunks(inputs.own.size):
        # Adding zero turns −0 into 0: minimum and maximum may swap the two zeros.
        block = np.stack([member[part] + np.float32(0.0) for member in members])
        ordered = _sorted_rows(block)
        low, high = ordered[trim], ordered[len(members) - 1 - trim]
        if equal:
            middle = ordered[trim : len(members) - trim]
            value[part] = _plain_mean(middle)
        else:
            value[part] = _weighted_mean(block, member_weights, low, high, trim)
        kept += np.count_nonzero((block[1:] >= low) & (block[1:] <= high), axis=1)
    return Trimmed(value, kept / inputs.own.size)


def _plain_mean(rows: list[Vector]) -> Wide:
    total = rows[0].astype(np.float64)
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total


def _weighted_mean(block: Vector, weights: Wide, low: Vector, high: Vector, trim: int) -> Wide:
    """Weighted mean of what is left between low and high. All float[width]; block [N, width]."""
    width = low.size
    total, mass = np.zeros(width), np.zeros(width)
    edges = {"low": _Edge.empty(width), "high": _Edge.empty(width)}
    for row, weight in zip(block, weights.tolist(), strict=True):
        inside = (row > low) & (row < high)
        total += np.where(inside, weight * row.astype(np.float64), 0.0)
        mass += np.where(inside, weight, 0.0)
        edges["low"].add(row == low, row <= low, weight)
        edges["high"].add(row == high, row >= high, weight)
    for edge, bound in ((edges["low"], low), (edges["high"], high)):
        share = edge.kept_mass(trim)
        total += share * bound
        mass += share
    # Where both bounds are equal, both edges hold the same members; the mean is that value.
    mean: Wide = np.where(low == high, low, total / mass)
    return mean


@dataclass(frozen=True, slots=True)
class _Edge:
    """Members whose value equals a bound: their mass, their number, and how many reach it."""

    mass: Wide
    tied: npt.NDArray[np.int64]
    reaching: npt.NDArray[np.int64]

    @staticmethod
    def empty(width: int) -> "_Edge":
        return _Edge(
            np.zeros(width), np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.int64)
        )

    def add(
        self, equals: npt.NDArray[np.bool_], reaches: npt.NDArray[np.bool_], weight: float
    ) -> None:
        np.add(self.mass, np.where(equals, weight, 0.0), out=self.mass)
        np.add(self.tied, equals, out=self.tied)
        np.add(self.reaching, reaches, out=self.reaching)

    def kept_mass(self, trim: int) -> Wide:
        """Mass of the tied members, scaled to the number of them that survives trimming."""
        kept: Wide = self.mass * ((self.reaching - trim) / self.tied)
        return kept


def _sorted_rows(block: Vector) -> list[Vector]:
    """Rows of the block, sorted at each coordinate."""
    rows = list(block.copy())
    spare = np.empty_like(rows[0])
    for low, high in _sorting_network(len(rows)):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


@lru_cache(maxsize=64)
def _sorting_network(n: int) -> tuple[tuple[int, int], ...]:
    """Comparators that sort any n values.

    Source: Batcher 1968, odd-even merge sort, in the form for any n of Knuth, The Art of Computer
    Programming 3, 5.2.2, algorithm M.
    """
    comparators = []
    if n < 2:
        return ()
    top = 1 << ((n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while distance > 0:
            comparators += [(i, i + distance) for i in range(n - distance) if i & p == r]
            distance, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(comparators)
