"""The passes over all coordinates in NumPy: what every bit of a result is.

`kernels` does the same in compiled code; the tests hold the two to each other bit for bit. Small
averages run here, because a process that never meets a big one then never loads a compiler.
Elementwise operations and explicit loops only: no BLAS and no pairwise summation, whose order is
not ours to fix. Members are the models themselves, the own one first.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.inputs import Vector, Wide
from p2pfl.averaging.layout import BLOCK, CHAINS, LANES
from p2pfl.averaging.packed import Model

Members = Sequence[Model]
Counts = npt.NDArray[np.int64]

# Blocks that are worked on together; has no influence on any bit.
_TOGETHER = 32 * BLOCK


def add_distances(
    members: Members, d: int, length: int, first: int, last: int, partial: Wide
) -> None:
    """partial[s, j] = ‖x_j − own‖² over segment s; partial[s, 0] = ‖own‖².

    length: coordinates per segment; segments first…last−1 are done here.
    """
    for segment, part in _parts(d, length, first, last):
        rows = _padded(members, part)
        rows[1:] -= rows[0]
        _add_squares(rows, partial[segment])


def add_products(
    members: Members, d: int, length: int, first: int, last: int, partial: Wide
) -> None:
    """partial[s, i, j] = ⟨x_{i+1} − own, x_{j+1} − own⟩ over segment s, for i ≤ j.

    partial: float64[segments, even, even], even ≥ neighbours; below the diagonal it is not filled.
    """
    for segment, part in _parts(d, length, first, last):
        rows = _padded(members, part)
        differences = rows[1:] - rows[0]
        for i, row in enumerate(differences):
            products = (differences[i:] * row).reshape(len(differences) - i, -1, BLOCK)
            lanes = products.reshape(*products.shape[:2], -1, LANES)
            _add_blocks(_summed(lanes, axis=2), partial[segment, i, i : len(differences)])


def combine(
    members: Members,
    coefficients: Wide,
    d: int,
    length: int,
    first: int,
    last: int,
    value: Vector,
) -> None:
    """value = own + Σ_{j ≥ 1} coefficients[j] (x_j − own), summed in the order of the members."""
    for _, part in _parts(d, length, first, last):
        own = members[0][part].astype(np.float64)
        total = np.zeros(own.size)
        for coefficient, member in zip(coefficients[1:].tolist(), members[1:], strict=True):
            total += coefficient * (member[part].astype(np.float64) - own)
        value[part] = own + total


def trim(
    members: Members,
    weights: Wide,
    mixing: Wide,
    network: Counts,
    stride: int,
    cut: int,
    d: int,
    length: int,
    first: int,
    last: int,
    partial: Wide,
    kept: Counts,
    value: Vector,
) -> None:
    """value = mean of each coordinate without its `cut` lowest and highest values.

    weights: float64[N], or empty: all alike. mixing: float64[N, N + 2] (two columns of zeros at
    the end), applied to the members first, or empty. network, stride: as of `sorting`.
    partial: as for add_distances (before mixing).
    kept[s, j]: coordinates of member j (after mixing) inside the kept range.
    """
    for segment, part in _parts(d, length, first, last):
        wide = _padded(members, part)
        differences = wide[1:] - wide[0]
        _add_squares(np.concatenate((wide[:1], differences)), partial[segment])
        width = part.stop - part.start
        # Adding zero turns −0 into 0: minimum and maximum may swap the two zeros.
        values = wide[:, :width].astype(np.float32) + np.float32(0.0)
        if mixing.size:
            values = _mixed(mixing, wide[0, :width], differences[:, :width])
        ordered = _sorted_rows(values, network, stride)
        low, high = ordered[cut], ordered[len(values) - 1 - cut]
        inside = (values >= low) & (values <= high)
        if weights.size:
            value[part] = _weighted_mean(values, weights, inside, low, high, cut)
        else:
            value[part] = _plain_mean(ordered[cut : len(values) - cut])
        kept[segment] += np.count_nonzero(inside, axis=1)


def _parts(d: int, length: int, first: int, last: int) -> Iterator[tuple[int, slice]]:
    for segment in range(first, last):
        end = min(d, (segment + 1) * length)
        for start in range(segment * length, end, _TOGETHER):
            yield segment, slice(start, min(start + _TOGETHER, end))


def _padded(members: Members, part: slice) -> Wide:
    """float64[N, whole blocks], zeros at the end."""
    width = part.stop - part.start
    rows = np.zeros((len(members), -(-width // BLOCK) * BLOCK))
    for row, member in zip(rows, members, strict=True):
        row[:width] = member[part]
    return rows


def _add_squares(rows: Wide, target: Wide) -> None:
    squares = (rows * rows).reshape(len(rows), -1, BLOCK // (CHAINS * LANES), CHAINS, LANES)
    chains = _summed(squares, axis=2)
    low = chains[:, :, 0] + chains[:, :, 1]
    _add_blocks(low + (chains[:, :, 2] + chains[:, :, 3]), target)


def _add_blocks(lanes: Wide, target: Wide) -> None:
    """target[j] += the sum of each block in turn. lanes: float64[rows, blocks, LANES]."""
    blocks = _summed(lanes, axis=2)
    for block in range(blocks.shape[1]):
        target += blocks[:, block]


def _summed(values: Wide, axis: int) -> Wide:
    """Sum along an axis, from the first to the last."""
    moved = np.moveaxis(values, axis, 0)
    total: Wide = moved[0].copy()
    for row in moved[1:]:
        total += row
    return total


def _mixed(mixing: Wide, own: Wide, differences: Wide) -> Vector:
    """float32[N, width]: own + Σ_{j ≥ 1} mixing[i, j] (x_j − own)."""
    n = len(differences) + 1
    values = np.empty((n, own.size), dtype=np.float32)
    for i in range(n):
        total = np.zeros(own.size)
        for share, difference in zip(mixing[i, 1:n].tolist(), differences, strict=True):
            total += share * difference
        values[i] = (own + total).astype(np.float32) + np.float32(0.0)
    return values


def _sorted_rows(values: Vector, network: Counts, stride: int) -> list[Vector]:
    dealt = values.copy()
    for i in range(stride):
        dealt[i::stride].sort(axis=0)
    rows = list(dealt)
    spare = np.empty_like(rows[0])
    for low, high in network.tolist():
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


def _plain_mean(rows: Sequence[Vector]) -> Wide:
    total = rows[0].astype(np.float64)
    for row in rows[1:]:
        total += row
    total /= float(len(rows))
    return total


def _weighted_mean(
    values: Vector,
    weights: Wide,
    inside: npt.NDArray[np.bool_],
    low: Vector,
    high: Vector,
    cut: int,
) -> Wide:
    total, mass = np.zeros(low.size), np.zeros(low.size)
    for weight, row, kept in zip(weights.tolist(), values, inside, strict=True):
        total += np.where(kept, weight * row.astype(np.float64), 0.0)
        mass += np.where(kept, weight, 0.0)
    with np.errstate(invalid="ignore"):  # NaN in, NaN out: the caller has seen it in the distances
        total /= mass
    tied = np.count_nonzero(inside, axis=0) != len(values) - 2 * cut
    if tied.any():
        total[tied] = _mean_with_ties(values[:, tied], weights, low[tied], high[tied], cut)
    return total


def _mean_with_ties(values: Vector, weights: Wide, low: Vector, high: Vector, cut: int) -> Wide:
    """Members that equal a bound share what is kept there."""
    shares = []
    for equal, reaching in (
        (values == low, values <= low),
        (values == high, values >= high),
    ):
        counts = (np.count_nonzero(reaching, axis=0) - cut, np.count_nonzero(equal, axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            shares.append(counts[0] / counts[1])
    total, mass = np.zeros(low.size), np.zeros(low.size)
    for weight, row in zip(weights.tolist(), values, strict=True):
        at_bound = np.where(row == low, shares[0], np.where(row == high, shares[1], 0.0))
        share = np.where((row > low) & (row < high), 1.0, at_bound)
        total += (weight * share) * row.astype(np.float64)
        mass += weight * share
    with np.errstate(divide="ignore", invalid="ignore"):
        total /= mass
    mean: Wide = np.where(low == high, low, total)
    return mean
