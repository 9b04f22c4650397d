"""Where blocks lie: in a model, in a copy filled up with zeros where it ends, in a buffer."""

from typing import Any

import numpy as np
from numba import carray

from p2pfl.averaging.compiling import inlined
from p2pfl.averaging.lanes import (
    add_lane_totals,
    pointer,
    pointer_to_halves,
    pointer_to_whole,
    prefetch_block,
)
from p2pfl.averaging.layout import BLOCK, LANES, LINE


@inlined
def block_start(
    members: Any, j: Any, start: Any, width: Any, spare: Any
) -> Any:  # pragma: no cover
    """Address of a full block of member j: in the model itself, or in `spare`, decoded and filled
    up with zeros.

    members: as `packed.place_of` says. start, width: of the block. spare: float32[BLOCK].
    """
    size = members[j, 1]
    address = members[j, 0] + np.uintp(start) * size
    if size == 4 and width == BLOCK:
        return address
    if size == 4:
        spare[:width] = carray(pointer(address), width)
    elif size == 2:
        bits, halves = spare.view(np.uint32), carray(pointer_to_halves(address), width)
        for k in range(width):
            bits[k] = np.uint32(halves[k]) << np.uint32(16)
    else:
        whole = carray(pointer_to_whole(address), width)
        row = start // np.int64(members[j, 3])
        scale = carray(pointer(members[j, 2]), row + 1)[row]
        for k in range(width):
            spare[k] = scale * np.float32(whole[k])
    spare[width:] = np.float32(0.0)
    return np.uintp(spare.ctypes.data)


@inlined
def prefetch(members: Any, j: Any, start: Any) -> None:  # pragma: no cover
    """Ask for member j's block that begins at a coordinate."""
    prefetch_block(members[j, 0] + np.uintp(start) * members[j, 1])


@inlined
def narrow_rows(rows: Any) -> Any:  # pragma: no cover
    """float32[rows, BLOCK], not filled; begins where a line of the cache begins.

    Otherwise every access to a wide vector may touch two lines: half the speed, by chance.
    """
    room = np.empty(rows * BLOCK + LINE // 4, np.float32)
    skipped = (-np.int64(room.ctypes.data) % LINE) // 4
    return room[skipped : skipped + rows * BLOCK].reshape((rows, BLOCK))


@inlined
def wide_rows(rows: Any) -> Any:  # pragma: no cover
    """float64[rows, BLOCK], zeros; as above."""
    room = np.zeros(rows * BLOCK + LINE // 8)
    skipped = (-np.int64(room.ctypes.data) % LINE) // 8
    return room[skipped : skipped + rows * BLOCK].reshape((rows, BLOCK))


@inlined
def add_sums(lanes: Any, sums: Any) -> None:  # pragma: no cover
    """sums[j] += what the lanes of member j have. lanes: float64[R, LANES], sums: float64[R]."""
    base, target = np.uintp(lanes.ctypes.data), np.uintp(sums.ctypes.data)
    for j in range(0, sums.size, LANES):
        add_lane_totals(base + np.uintp(8 * LANES * j), target + np.uintp(8 * j))


@inlined
def rounded_up(members: Any) -> Any:  # pragma: no cover
    """The next multiple of LANES."""
    return (members + LANES - 1) // LANES * LANES
