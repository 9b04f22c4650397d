"""How coordinates are cut, because the order of a sum is part of its result.

Coordinates are cut into segments, segments into blocks of BLOCK. Within a block, lane l of LANES
sums the products of coordinates l, l + LANES, …; lanes are added in order, then blocks, then
segments. All of it depends on the number of coordinates alone: neither the vector width of a
processor nor the number of threads can change a bit.
"""

BLOCK = 128
"""Coordinates worked on at a time: a few dozen models' blocks fit the first-level cache."""
LINE = 64
"""Bytes of a line of the cache: has no influence on any bit."""
LANES = 8
CHAINS = 4
"""Independent sums per lane of a distance: enough to hide the latency of an addition."""

REVISION = 2
"""Raised with every change to the bits of any result: replays compare bits."""

_SEGMENT_MIN = 1 << 16
_SEGMENTS_MAX = 16


def segment_length(coordinates: int) -> int:
    """Coordinates per segment, a multiple of BLOCK: at most 16 segments, none needlessly short.

    >>> segment_length(1000), segment_length(10_000_000)
    (65536, 625024)
    """
    even = -(-coordinates // _SEGMENTS_MAX)
    return max(_SEGMENT_MIN, -(-even // BLOCK) * BLOCK)


def segment_count(coordinates: int) -> int:
    """How many segments there are, at least 1.

    >>> segment_count(1000), segment_count(10_000_000)
    (1, 16)
    """
    return max(1, -(-coordinates // segment_length(coordinates)))
