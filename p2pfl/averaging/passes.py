"""Reads all coordinates of all models: distances, inner products, weighted sums, trimmed means.

Chooses between `reference` and the compiled `kernels`, which give the same bits, and spreads
segments over threads, which changes none. Notices values that are not finite: finite float32
cannot overflow a float64 sum of squares, so such a sum is finite exactly if its models are.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from p2pfl.averaging import reference
from p2pfl.averaging.errors import NotFinite
from p2pfl.averaging.inputs import Inputs, Vector, Wide
from p2pfl.averaging.layout import segment_count, segment_length
from p2pfl.averaging.packed import Model, place_of
from p2pfl.averaging.sorting import network_for, stride_for

# Values in all models from which compiled code is worth loading: NumPy takes about .1 s there,
# loading a compiler about 1 s, once.
_COMPILED_FROM = 1 << 20
# Coordinates from which threads are worth starting.
_THREADS_FROM = 1 << 20
_THREADS_MAX = 4

_NONE = np.empty(0)
_NO_MIXING = np.empty((0, 0))


class RowsNotFinite(Exception):
    """Neighbours with NaN or infinity. rows: which; never leaves this package."""

    def __init__(self, rows: tuple[int, ...]) -> None:
        self.rows = rows
        super().__init__(f"rows {rows} hold NaN or infinity")


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Result of trimming every coordinate.

    value: float32[d]. kept_share: float64[N], of each member's coordinates, those inside the kept
    range. squares: float64[m], ‖x_j − own‖².
    """

    value: Vector
    kept_share: Wide
    squares: Wide


def prepare() -> bool:
    """Load the compiled kernels now, compiling them if nobody has yet.

    Takes about a second, some ten where nothing is cached. Returns whether there are any: without
    them NumPy computes the same bits, tens of times more slowly.
    """
    return _compiled() is not None


def squared_distances(inputs: Inputs) -> Wide:
    """‖x_j − own‖² of every neighbour. Returns float64[m]. Raises: NotFinite, RowsNotFinite."""
    return squares(inputs)[1:]


def squares(inputs: Inputs) -> Wide:
    """‖own‖², then ‖x_j − own‖² of every neighbour. Returns float64[N].

    Raises: NotFinite, RowsNotFinite.
    """
    d = inputs.own.size
    engine, members = _engine(inputs)
    partial = np.zeros((segment_count(d), inputs.members))
    length = segment_length(d)
    _over_segments(lambda a, b: engine.add_distances(members, d, length, a, b, partial), d)
    return _checked(_in_order(partial))


def gram_matrix(inputs: Inputs) -> Wide:
    """Inner products of x_j − own, own model first (its row and column are zero).

    Returns float64[N, N], symmetric to the bit. Raises: NotFinite, RowsNotFinite.
    """
    m, d = len(inputs.rows), inputs.own.size
    even = m + m % 2
    engine, members = _engine(inputs)
    partial = np.zeros((segment_count(d), even, even))
    _over_segments(
        lambda a, b: engine.add_products(members, d, segment_length(d), a, b, partial), d
    )
    inner = _in_order(partial)[:m, :m]
    if not np.isfinite(np.diagonal(inner)).all():
        squares(inputs)  # says whose values are to blame
    gram = np.zeros((m + 1, m + 1))
    gram[1:, 1:] = np.triu(inner) + np.triu(inner, 1).T
    return gram


def combine(inputs: Inputs, coefficients: Wide) -> Vector:
    """own + Σ_{j ≥ 1} coefficients[j] (x_j − own). coefficients: float64[N], the first is not used.

    Returns float32[d]. The models must have been found finite.
    """
    d = inputs.own.size
    engine, members = _engine(inputs)
    value = np.empty(d, dtype=np.float32)
    length = segment_length(d)
    _over_segments(lambda a, b: engine.combine(members, coefficients, d, length, a, b, value), d)
    return value


def trim(inputs: Inputs, weights: Wide | None, mixing: Wide | None, cut: int) -> Trimmed:
    """Average each coordinate after dropping its `cut` lowest and highest values.

    weights: float64[N], used among the values that are left; None: all alike. Members whose equal
    values straddle the edge of the kept range share what is kept there, so the result does not
    depend on the order of the neighbours. mixing: float64[N, N], rows sum to 1: each member is
    first replaced by that mean of all. Requires 2·cut < N. Raises: NotFinite, RowsNotFinite.
    """
    n, d = inputs.members, inputs.own.size
    engine, members = _engine(inputs)
    used = _NONE if weights is None else weights
    mixed = _NO_MIXING if mixing is None else np.hstack((mixing, np.zeros((n, 2))))
    partial = np.zeros((segment_count(d), n))
    kept = np.zeros((segment_count(d), n), dtype=np.int64)
    value = np.empty(d, dtype=np.float32)
    network, length = network_for(n, cut), segment_length(d)
    _over_segments(
        lambda a, b: engine.trim(
            members, used, mixed, network, stride_for(n), cut, d, length, a, b, partial, kept, value
        ),
        d,
    )
    found = _checked(_in_order(partial))
    return Trimmed(value, kept.sum(axis=0) / d, found[1:])


def _checked(squares: Wide) -> Wide:
    if not np.isfinite(squares[0]):
        raise NotFinite
    _require_finite_rows(squares[1:])
    return squares


def _require_finite_rows(squares: Wide) -> None:
    bad = np.flatnonzero(~np.isfinite(squares))
    if bad.size:
        raise RowsNotFinite(tuple(bad.tolist()))


def _in_order(partial: Wide) -> Wide:
    """Sum over segments, from the first to the last."""
    total: Wide = partial[0].copy()
    for segment in partial[1:]:
        total += segment
    return total


# -- who does the work -----------------------------------------------------------------------------


def _engine(
    inputs: Inputs,
) -> tuple[ModuleType, tuple[Model, ...] | npt.NDArray[np.uintp]]:
    members = (inputs.own, *inputs.rows)
    # A process that has loaded the kernels uses them for everything: the bits are the same.
    is_loaded = _compiled.cache_info().currsize > 0
    is_worth_it = is_loaded or len(members) * inputs.own.size >= _COMPILED_FROM
    kernels = _compiled() if is_worth_it else None
    if kernels is None:
        return reference, members
    if not inputs.addresses:
        found = [place_of(member) for member in members]
        inputs.addresses.append(np.array(found, dtype=np.uintp))
    return kernels, inputs.addresses[0]


@lru_cache(maxsize=1)
def _compiled() -> ModuleType | None:
    try:
        from p2pfl.averaging import kernels
    except ImportError:  # no compiler for this platform or Python
        return None
    return kernels


def _over_segments(work: Callable[[int, int], None], d: int) -> None:
    """work(first, last) over all segments, in any order and at the same time."""
    segments = segment_count(d)
    workers = min(thread_count(), segments) if d >= _THREADS_FROM else 1
    if workers == 1:
        work(0, segments)
        return
    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(work, segment, segment + 1) for segment in range(segments)]
    for future in done:
        future.result()


def thread_count() -> int:
    """Threads of one average: OMP_NUM_THREADS if it is set, else our cores, at most 4."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return min(_THREADS_MAX, len(os.sched_getaffinity(0)))
    return min(_THREADS_MAX, os.cpu_count() or 1)
