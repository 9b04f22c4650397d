"""Sorting networks: which rows to compare, in which order, whatever their values are."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=64)
def network_for(n: int, cut: int) -> npt.NDArray[np.int64]:
    """Comparators that bring the order statistics cut…n−1−cut of n values to their rows.

    Each puts the smaller of two rows first. Those that only serve the ends are left out.
    Returns int64[comparators, 2], not to be written.

    >>> network_for(3, 1).tolist()
    [[0, 2], [0, 1], [1, 2]]
    """
    needed = set(range(cut, n - cut))
    used = []
    for low, high in reversed(_sorting_network(n)):
        if low in needed or high in needed:
            needed |= {low, high}
            used.append((low, high))
    return np.array(used[::-1], dtype=np.int64).reshape(-1, 2)


def _sorting_network(n: int) -> list[tuple[int, int]]:
    """Comparators that sort any n values.

    Source: Batcher 1968, odd-even merge sort, in the form for any n of Knuth, The Art of Computer
    Programming 3, 5.2.2, algorithm M.
    """
    comparators: list[tuple[int, int]] = []
    if n < 2:
        return comparators
    top = 1 << ((n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while distance > 0:
            comparators += [(i, i + distance) for i in range(n - distance) if i & p == r]
            distance, q, r = q - p, q >> 1, p
        p >>= 1
    return comparators
