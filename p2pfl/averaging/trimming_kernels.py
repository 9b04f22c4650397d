"""The kernel of rules that look at each coordinate alone; see `kernels` for what holds for all.

Sorting is a network of minima and maxima over whole blocks: no branch on data.
"""

from typing import Any

import numpy as np

from p2pfl.averaging.blocks import (
    add_sums,
    block_start,
    narrow_rows,
    prefetch,
    rounded_up,
    wide_rows,
)
from p2pfl.averaging.column_lanes import (
    count_between,
    mean_of_rows,
    order_list,
    order_rows,
    read_block,
)
from p2pfl.averaging.compiling import compiled, inlined
from p2pfl.averaging.layout import BLOCK, LANES


@inlined
def _read_block(
    members: Any, start: Any, width: Any, parts: Any, spare: Any, values: Any, lanes: Any
) -> None:  # pragma: no cover
    """values: the block of every member; lanes: parts of ‖own‖², then of ‖x_j − own‖²."""
    own, origin = parts[0], np.uintp(parts.ctypes.data)
    own[:] = 0.0
    target, to_lanes = np.uintp(values.ctypes.data), np.uintp(lanes.ctypes.data)
    for j in range(members.shape[0]):
        prefetch(members, j, start + BLOCK)
        address = block_start(members, j, start, width, spare)
        row, lane_row = np.uintp(4 * BLOCK * j), np.uintp(8 * LANES * j)
        read_block(address, target + row, origin, to_lanes + lane_row)
        if j == 0:
            for k in range(BLOCK):
                own[k] = np.float64(values[0, k])


@inlined
def _mix_block(mixing: Any, values: Any, differences: Any, mixed: Any) -> None:  # pragma: no cover
    """mixed[i] = own + Σ_{j ≥ 1} mixing[i, j] (x_j − own), summed in the order of the members.

    differences: float64[≥ N + 4, BLOCK]: room for x_j − own, then rows of zeros, then the sum.
    """
    n, own, total = values.shape[0], values[0], differences[-1]
    for j in range(n):
        row, z = values[j], differences[j]
        for k in range(BLOCK):
            z[k] = np.float64(row[k]) - np.float64(own[k])
    for i in range(n):
        total[:] = 0.0
        for j in range(1, n, 3):
            a, b, c = differences[j], differences[j + 1], differences[j + 2]
            for_a, for_b, for_c = mixing[i, j], mixing[i, j + 1], mixing[i, j + 2]
            for k in range(BLOCK):
                total[k] = ((total[k] + for_a * a[k]) + for_b * b[k]) + for_c * c[k]
        row = mixed[i]
        for k in range(BLOCK):
            row[k] = np.float32(np.float64(own[k]) + total[k]) + np.float32(0.0)


@inlined
def _order_block(values: Any, network: Any, stride: Any, ordered: Any) -> None:  # pragma: no cover
    n, row = values.shape[0], np.uintp(4 * BLOCK)
    base, target = np.uintp(values.ctypes.data), np.uintp(ordered.ctypes.data)
    for i in range(min(n, stride)):
        skipped = row * np.uintp(i)
        order_list(base + skipped, target + skipped, stride, (n - i + stride - 1) // stride)
    order_rows(target, np.uintp(network.ctypes.data), network.shape[0])


@inlined
def _add_kept(
    row: Any, weight: Any, low: Any, high: Any, total: Any, mass: Any, count: Any
) -> None:  # pragma: no cover
    for k in range(BLOCK):
        x = row[k]
        kept = (x >= low[k]) & (x <= high[k])
        total[k] += weight * np.float64(x) if kept else 0.0
        mass[k] += weight if kept else 0.0
        count[k] += np.float32(1.0) if kept else np.float32(0.0)


@inlined
def _mean_with_ties(
    values: Any, weights: Any, k: Any, low: Any, high: Any, cut: Any
) -> Any:  # pragma: no cover
    """Weighted mean of coordinate k; members that equal a bound share what is kept there."""
    if low == high:
        return np.float64(low)
    tied, reaching = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for j in range(values.shape[0]):
        x = values[j, k]
        tied[0] += x == low
        tied[1] += x == high
        reaching[0] += x <= low
        reaching[1] += x >= high
    shares = (reaching - cut) / tied
    total, mass = 0.0, 0.0
    for j in range(values.shape[0]):
        x, weight = values[j, k], 0.0
        if low < x < high:
            weight = weights[j]
        elif x == low:
            weight = weights[j] * shares[0]
        elif x == high:
            weight = weights[j] * shares[1]
        total += weight * np.float64(x)
        mass += weight
    return total / mass


@inlined
def _weighted_mean(
    values: Any, weights: Any, ordered: Any, cut: Any, parts: Any, count: Any
) -> None:  # pragma: no cover
    """parts[0] = weighted mean between the bounds. parts: float64[2, BLOCK], count: float32."""
    n = values.shape[0]
    low, high = ordered[cut], ordered[n - 1 - cut]
    total, mass = parts[0], parts[1]
    total[:], mass[:], count[:] = 0.0, 0.0, 0.0
    for j in range(n):
        _add_kept(values[j], weights[j], low, high, total, mass, count)
    for k in range(BLOCK):
        total[k] /= mass[k]
    expected = np.float32(n - 2 * cut)
    for k in range(BLOCK):
        if count[k] != expected:
            total[k] = _mean_with_ties(values, weights, k, low[k], high[k], cut)


@inlined
def _count_kept(
    values: Any, ordered: Any, cut: Any, width: Any, kept: Any
) -> None:  # pragma: no cover
    n = values.shape[0]
    low, high = ordered[cut], ordered[n - 1 - cut]
    low[width:] = np.nan  # what was filled up does not count: no number is above this
    for j in range(n):
        kept[j] += count_between(
            np.uintp(values[j].ctypes.data), np.uintp(low.ctypes.data), np.uintp(high.ctypes.data)
        )


@compiled(
    "void(uintp[:,::1], float64[::1], float64[:,::1], int64[:,::1], int64, int64, int64,"
    " int64, int64, int64, float64[:,::1], int64[:,::1], float32[::1])"
)
def trim(
    members: Any,
    weights: Any,
    mixing: Any,
    network: Any,
    stride: Any,
    cut: Any,
    d: Any,
    length: Any,
    first: Any,
    last: Any,
    partial: Any,
    kept: Any,
    value: Any,
) -> None:  # pragma: no cover
    """value = mean of each coordinate without its `cut` lowest and highest values.

    weights: float64[N], or empty: all alike. mixing: float64[N, N + 2] (two columns of zeros at
    the end), applied to the members first, or empty. network, stride: as of `sorting`.
    partial: as for add_distances (before mixing).
    kept[s, j]: coordinates of member j (after mixing) inside the kept range.
    """
    n = members.shape[0]
    values, ordered, mixed = narrow_rows(n), narrow_rows(n), narrow_rows(n)
    spare, mean, count = narrow_rows(1)[0], narrow_rows(1)[0], narrow_rows(1)[0]
    differences, parts = wide_rows(n + 4), wide_rows(2)
    lanes, sums = np.zeros((rounded_up(n), LANES)), np.zeros(rounded_up(n))
    for segment in range(first, last):
        end = min(d, (segment + 1) * length)
        sums[:] = 0.0
        for start in range(segment * length, end, BLOCK):
            width = min(BLOCK, end - start)
            _read_block(members, start, width, parts, spare, values, lanes)
            add_sums(lanes, sums)
            if mixing.shape[0]:
                _mix_block(mixing, values, differences, mixed)
                used = mixed
            else:
                used = values
            _order_block(used, network, stride, ordered)
            if weights.size:
                _weighted_mean(used, weights, ordered, cut, parts, count)
                value[start : start + width] = parts[0, :width]
            else:
                rows = np.uintp(ordered[cut].ctypes.data)
                mean_of_rows(rows, n - 2 * cut, np.uintp(mean.ctypes.data))
                value[start : start + width] = mean[:width]
            _count_kept(used, ordered, cut, width, kept[segment])
        partial[segment] += sums[:n]
