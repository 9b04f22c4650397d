"""Whether a process leaks, judged by how its resident memory goes on over its life.

A node fills caches for minutes after its start and after each return of a neighbour, the longer
the slower the machine, and at times takes a step that it never takes back: none of that is a leak.
A leak is growth in every part of a life, also in the last one. So short lives prove nothing."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

from simulations.chaos.node import Life, Sample

WARM_UP_S: Final = 120.0
"""Of a life: imports, compiled code, first rounds."""
LIFE_MIN_S: Final = 480.0
"""In a shorter one, caches that fill look like a leak."""
PARTS: Final = 4
LEAK_MB_PER_MINUTE: Final = 1.5
"""The ledger grows, and what is known of the others' does: that takes less."""
RESIDENT_MB_MAX: Final = 500.0
"""Twice what a node takes here, and more: whatever the reason, it would be too much."""


def growth(life: Life) -> tuple[float, ...]:
    """MB per minute from the median of each part of a life to that of the next; empty: too short.

    The first one starts after the warm-up."""
    settled = [sample for sample in life.samples if sample.at_s - life.started_s >= WARM_UP_S]
    if not settled or settled[-1].at_s - life.started_s < LIFE_MIN_S:
        return ()
    size = len(settled) / PARTS
    parts = [settled[round(at * size) : round((at + 1) * size)] for at in range(PARTS)]
    if not all(parts):
        return ()
    middles = [_middle(part) for part in parts]
    return tuple(
        (after_mb - before_mb) / (after_s - before_s) * 60
        for (before_s, before_mb), (after_s, after_mb) in itertools.pairwise(middles)
    )


def is_leak(growths: Sequence[float]) -> bool:
    """Whether it grew all the time."""
    return min(growths, default=0.0) > LEAK_MB_PER_MINUTE


def _middle(samples: Sequence[Sample]) -> tuple[float, float]:
    at_s = statistics.median(sample.at_s for sample in samples)
    return at_s, statistics.median(sample.resident_mb for sample in samples)
