"""Loops over all coordinates of all models, compiled by numba; `passes` alone may call them.

Heavy to import (numba, about a second): imported when a large average first needs it. `reference`
says the same in NumPy, and defines every bit of it.

Models come as addresses (see `packed.place_of`), so that each may be a memory map of its own;
`members[0]` is the own model. Everything here trusts its arguments: `passes` has checked them.
An address keeps nothing alive: whoever asks for one before a loop names the buffer in the loop.

`pragma: no cover`: compiled code runs outside of what a coverage tool can see; the tests hold each
kernel to the reference, bit for bit.
"""

from typing import Any

import numpy as np
from numba import carray

from p2pfl.averaging.blocks import (
    add_sums,
    block_start,
    narrow_rows,
    prefetch,
    rounded_up,
    wide_rows,
)
from p2pfl.averaging.compiling import compiled
from p2pfl.averaging.lanes import (
    add_tile_products,
    pointer,
    square_block,
    subtract_block,
)
from p2pfl.averaging.layout import BLOCK, LANES
from p2pfl.averaging.trimming_kernels import trim

__all__ = ["add_distances", "add_products", "combine", "trim"]


@compiled("void(uintp[:,::1], int64, int64, int64, int64, float64[:,::1])")
def add_distances(
    members: Any, d: Any, length: Any, first: Any, last: Any, partial: Any
) -> None:  # pragma: no cover
    """partial[s, j] = ‖x_j − own‖² over segment s; partial[s, 0] = ‖own‖².

    length: coordinates per segment; segments first…last−1 are done here.
    """
    n, spare = members.shape[0], narrow_rows(1)[0]
    none, own = wide_rows(1)[0], wide_rows(1)[0]
    lanes, sums = np.zeros((rounded_up(n), LANES)), np.zeros(rounded_up(n))
    row = np.uintp(8 * LANES)
    for segment in range(first, last):
        # Asked for in here: numba gives a buffer back after the last line that names it.
        to_none, to_own = np.uintp(none.ctypes.data), np.uintp(own.ctypes.data)
        base = np.uintp(lanes.ctypes.data)
        end = min(d, (segment + 1) * length)
        sums[:] = 0.0
        for start in range(segment * length, end, BLOCK):
            width = min(BLOCK, end - start)
            address = block_start(members, 0, start, width, spare)
            square_block(address, to_none, base)
            subtract_block(address, to_none, to_own)
            for j in range(1, n):
                prefetch(members, j, start + BLOCK)
                address = block_start(members, j, start, width, spare)
                square_block(address, to_own, base + row * np.uintp(j))
            add_sums(lanes, sums)
        partial[segment] += sums[:n]


@compiled("void(uintp[:,::1], int64, int64, int64, int64, float64[:,:,::1])")
def add_products(
    members: Any, d: Any, length: Any, first: Any, last: Any, partial: Any
) -> None:  # pragma: no cover
    """partial[s, i, j] = ⟨x_{i+1} − own, x_{j+1} − own⟩ over segment s, for i ≤ j.

    partial: float64[segments, even, even], even ≥ neighbours; below the diagonal it is not filled.
    """
    even = partial.shape[1]
    wide = rounded_up(even)
    differences, sums = wide_rows(wide), np.zeros((wide, wide))
    own, none = wide_rows(1)[0], wide_rows(1)[0]
    spare = narrow_rows(1)[0]
    row = np.uintp(8 * BLOCK)
    for segment in range(first, last):
        # As above: the buffers have to live until the last segment is done.
        base, products = np.uintp(differences.ctypes.data), np.uintp(sums.ctypes.data)
        end = min(d, (segment + 1) * length)
        sums[:] = 0.0
        for start in range(segment * length, end, BLOCK):
            width = min(BLOCK, end - start)
            address = block_start(members, 0, start, width, spare)
            subtract_block(address, np.uintp(none.ctypes.data), np.uintp(own.ctypes.data))
            for j in range(1, members.shape[0]):
                prefetch(members, j, start + BLOCK)
                address = block_start(members, j, start, width, spare)
                target = base + row * np.uintp(j - 1)
                subtract_block(address, np.uintp(own.ctypes.data), target)
            for i in range(0, even, 2):
                for j in range(i - i % 4, even, 4):
                    add_tile_products(
                        base + row * np.uintp(i),
                        base + row * np.uintp(j),
                        products + np.uintp(8 * (wide * i + j)),
                        wide,
                    )
        partial[segment] += sums[:even, :even]


@compiled("void(uintp[:,::1], float64[::1], int64, int64, int64, int64, float32[::1])")
def combine(
    members: Any, coefficients: Any, d: Any, length: Any, first: Any, last: Any, value: Any
) -> None:  # pragma: no cover
    """value = own + Σ_{j ≥ 1} coefficients[j] (x_j − own), summed in the order of the members."""
    total, own, spare = wide_rows(1)[0], wide_rows(1)[0], narrow_rows(1)[0]
    end = min(d, last * length)
    for start in range(first * length, end, BLOCK):
        width = min(BLOCK, end - start)
        model = carray(pointer(block_start(members, 0, start, width, spare)), width)
        for k in range(width):
            own[k] = np.float64(model[k])
            total[k] = 0.0
        for j in range(1, members.shape[0]):
            prefetch(members, j, start + BLOCK)
            model = carray(pointer(block_start(members, j, start, width, spare)), width)
            coefficient = coefficients[j]
            for k in range(width):
                total[k] += coefficient * (np.float64(model[k]) - own[k])
        target = value[start : start + width]
        for k in range(width):
            target[k] = np.float32(own[k] + total[k])
