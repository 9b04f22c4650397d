"""Sorting networks: which rows to compare, in which order, whatever their values are."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

LIST = 16
"""Rows that are put in order while they are in registers."""


@lru_cache(maxsize=64)
def network_for(n: int, cut: int) -> npt.NDArray[np.int64]:
    """Comparators that bring the order statistics cut…n−1−cut of n values to their rows.

    Each puts the smaller of two rows first. The rows i, i + stride, i + 2·stride, … are in order
    before, for every i < stride = stride_for(n). Those that only serve the ends are left out.
    Returns int64[comparators, 2], not to be written.

    >>> network_for(17, 8).tolist()[-2:]
    [[7, 10], [7, 8]]
    """
    needed = set(range(cut, n - cut))
    used = []
    for low, high in reversed(sorting_network(n, below=stride_for(n))):
        if low in needed or high in needed:
            needed |= {low, high}
            used.append((low, high))
    return np.array(used[::-1], dtype=np.int64).reshape(-1, 2)


def stride_for(n: int) -> int:
    """Into how many lists, of LIST rows at most, the rows are dealt that are put in order first.

    >>> stride_for(16), stride_for(17), stride_for(40)
    (1, 2, 4)
    """
    return max(1, _top(n) // (LIST // 2))


def sorting_network(n: int, below: int = 1 << 62) -> list[tuple[int, int]]:
    """Comparators that sort any n values.

    below: a power of two; those are left out that put every list of rows in order that lie so
    far apart from each other.

    Source: Batcher 1968, odd-even merge sort, in the form for any n of Knuth, The Art of Computer
    Programming 3, 5.2.2, algorithm M.
    """
    comparators: list[tuple[int, int]] = []
    if n < 2:
        return comparators
    top = _top(n)
    p = min(top, below // 2)
    while p > 0:
        q, r, distance = top, 0, p
        while distance > 0:
            comparators += [(i, i + distance) for i in range(n - distance) if i & p == r]
            distance, q, r = q - p, q >> 1, p
        p >>= 1
    return comparators


def _top(n: int) -> int:
    """The largest power of two below n, 1 for a single row."""
    return max(1, 1 << ((n - 1).bit_length() - 1)) if n > 1 else 1
