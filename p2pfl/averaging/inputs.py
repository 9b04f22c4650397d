"""Checked inputs of an averaging step: the only door through which foreign vectors come in.

Knows shapes, types and weights; must not know rules. Models may be memory-mapped: nothing here
reads their values, and nothing copies them whole. A peer's model of the wrong shape is left out
here; one with NaN or infinity is left out by `rules`, when the first pass has met it.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.errors import NoWeightForSelf, WeightOutOfRange, WrongShape, WrongType
from p2pfl.averaging.packed import Halves, Model, Scaled

Vector = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Neighbours = npt.NDArray[np.float32] | Sequence[Model]
"""float32[m, d], or m models float32[d] (each may be its own memory map, or packed)."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Own model and the neighbours that are averaged.

    own: float32[d]. rows: m models float32[d]. weights: float64[m], in (0, 1). own_weight:
    1 − Σ weights, above 0. places: which of the given neighbours each row is. given: how many
    neighbours were given, those left out included.
    """

    own: Model
    rows: tuple[Model, ...]
    weights: Wide
    own_weight: float
    places: tuple[int, ...]
    given: int
    addresses: list[npt.NDArray[np.uintp]] = field(default_factory=list, repr=False, compare=False)
    """Where the members lie, as compiled code wants it, once it has asked: one array."""

    @property
    def members(self) -> int:
        """N: own model and neighbours together."""
        return len(self.rows) + 1

    @property
    def member_weights(self) -> Wide:
        """float64[N], own weight first; sums to 1."""
        return np.concatenate(([self.own_weight], self.weights))

    def without(self, rows: Collection[int]) -> "Inputs":
        """The same without some rows: what their weights were goes to the own model."""
        kept = [at for at in range(len(self.rows)) if at not in rows]
        weights = self.weights[kept]
        return Inputs(
            self.own,
            tuple(self.rows[at] for at in kept),
            weights,
            1.0 - math.fsum(weights.tolist()),
            tuple(self.places[at] for at in kept),
            self.given,
        )


def check_inputs(own: Model, neighbours: Neighbours, weights: Vector) -> Inputs:
    """Refuse what no rule may see; leave out neighbours of the wrong shape; copy nothing.

    Raises: WrongType, WrongShape (own model, weights, or a matrix that does not fit),
    WeightOutOfRange, NoWeightForSelf.
    """
    own_model = _model(own, "own model")
    if len(own_model.shape) != 1 or own_model.size == 0:
        raise WrongShape("own model", "(d,) with d ≥ 1", own_model.shape)
    rows = _rows(neighbours, own_model.size)
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
    everything = Inputs(
        own_model,
        rows,
        checked_weights.astype(np.float64),
        1.0 - total,
        tuple(range(len(rows))),
        len(rows),
    )
    misshapen = [at for at, row in enumerate(rows) if row.shape != own_model.shape]
    return everything.without(misshapen) if misshapen else everything


def _rows(neighbours: Neighbours, d: int) -> tuple[Model, ...]:
    if isinstance(neighbours, np.ndarray):
        matrix = _float32(neighbours, "neighbours")
        if matrix.ndim != 2 or matrix.shape[1] != d:
            raise WrongShape("neighbours", f"(m, {d})", matrix.shape)
        return tuple(_readable(row) for row in matrix)
    return tuple(_model(row, f"neighbour {at}") for at, row in enumerate(neighbours))


def _model(value: object, what: str) -> Model:
    # What is packed was checked when it was made.
    return value if isinstance(value, Halves | Scaled) else _readable(_float32(value, what))


def _float32(value: object, what: str) -> Vector:
    if not isinstance(value, np.ndarray):
        raise WrongType(what, type(value).__name__)
    if value.dtype != np.float32:
        raise WrongType(what, str(value.dtype))
    # A memory map becomes a plain view on the same pages: its subclass slows every slice.
    return value.view(np.ndarray)


def _readable(vector: Vector) -> Vector:
    """The vector itself where its values lie one after the other, as they do in files."""
    flags = vector.flags
    is_readable = flags.c_contiguous and flags.aligned  # what `require` would find, more slowly
    return vector if is_readable else np.require(vector, requirements=["C", "A"])
