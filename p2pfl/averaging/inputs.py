"""Checked inputs of an averaging step: the only door through which foreign vectors come in.

Knows shapes, types and weights; must not know rules. Models may be memory-mapped: they are read
in chunks of coordinates and never copied whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.errors import (
    NotFinite,
    NoWeightForSelf,
    WeightOutOfRange,
    WrongShape,
    WrongType,
)

Vector = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Neighbours = npt.NDArray[np.float32] | Sequence[Vector]
"""float32[m, d], or m vectors float32[d] (each may be its own memory map)."""

# Fixed, because the order of a sum is part of its result: the same inputs must give the same bits
# on every machine. 4,096 coordinates of a dozen models in float64 fit a core's second-level cache.
CHUNK_COORDINATES = 4096


@dataclass(frozen=True, slots=True)
class Inputs:
    """Own model and neighbours, checked.

    own: float32[d], finite. rows: m vectors float32[d], finite. weights: float64[m], in (0, 1).
    own_weight: 1 − Σ weights, above 0.
    """

    own: Vector
    rows: tuple[Vector, ...]
    weights: Wide
    own_weight: float

    @property
    def members(self) -> int:
        """N: own model and neighbours together."""
        return len(self.rows) + 1

    @property
    def member_weights(self) -> Wide:
        """float64[N], own weight first; sums to 1."""
        return np.concatenate(([self.own_weight], self.weights))


def check_inputs(own: Vector, neighbours: Neighbours, weights: Vector) -> Inputs:
    """Refuse what no rule may see; returns views, copies nothing.

    Raises: WrongType, WrongShape, NotFinite, WeightOutOfRange, NoWeightForSelf.
    """
    own_vector = _float32(own, "own model")
    if own_vector.ndim != 1 or own_vector.size == 0:
        raise WrongShape("own model", "(d,) with d ≥ 1", own_vector.shape)
    rows = _rows(neighbours, own_vector.size)
    checked_weights = _float32(weights, "weights")
    if checked_weights.shape != (len(rows),):
        raise WrongShape("weights", f"({len(rows)},)", checked_weights.shape)
    for index, weight in enumerate(checked_weights.tolist()):
        if not 0.0 < weight < 1.0:
            raise WeightOutOfRange(index, weight)
    # fsum rounds once, so the own weight does not depend on the order of the neighbours.
    total = math.fsum(checked_weights.tolist())
    if total >= 1.0:
        raise NoWeightForSelf(total)
    _require_finite(own_vector, None)
    for index, row in enumerate(rows):
        _require_finite(row, index)
    return Inputs(own_vector, rows, checked_weights.astype(np.float64), 1.0 - total)


def chunks(coordinates: int) -> Iterator[slice]:
    """The fixed cutting of d coordinates into slices."""
    for start in range(0, coordinates, CHUNK_COORDINATES):
        yield slice(start, min(start + CHUNK_COORDINATES, coordinates))


def _rows(neighbours: Neighbours, d: int) -> tuple[Vector, ...]:
    if isinstance(neighbours, np.ndarray):
        matrix = _float32(neighbours, "neighbours")
        if matrix.ndim != 2 or matrix.shape[1] != d:
            raise WrongShape("neighbours", f"(m, {d})", matrix.shape)
        return tuple(matrix)
    rows = tuple(_float32(row, f"neighbour {index}") for index, row in enumerate(neighbours))
    for index, row in enumerate(rows):
        if row.shape != (d,):
            raise WrongShape(f"neighbour {index}", f"({d},)", row.shape)
    return rows


def _float32(value: object, what: str) -> Vector:
    if not isinstance(value, np.ndarray):
        raise WrongType(what, type(value).__name__)
    if value.dtype != np.float32:
        raise WrongType(what, str(value.dtype))
    # A memory map becomes a plain view on the same pages: its subclass slows every slice.
    return value.view(np.ndarray)


def _require_finite(vector: Vector, neighbour: int | None) -> None:
    for part in chunks(vector.size):
        if not np.isfinite(vector[part]).all():
            raise NotFinite(neighbour)
