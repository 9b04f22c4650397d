"""What an averaging step hands back: the new model, and what was done with each neighbour."""

import math
from dataclasses import dataclass
from enum import StrEnum

from p2pfl.averaging.inputs import Vector, Wide


class Verdict(StrEnum):
    """What a rule did with one neighbour's model. Evidence for people, never an automatic ban."""

    KEPT = "kept"
    CLIPPED = "clipped"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One neighbour, as the rule saw it.

    distance: from the point the rule compares with (the own model; for gm_clip,
    geometric_median and centered_clipping the centre of the neighbourhood), in units of the
    parameters; infinite for a model that was refused: NaN, infinity or the wrong shape.
    factor: 0…1, how much of the neighbour's say was left.
    """

    distance: float
    factor: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the neighbours' models lie from the own one; 0 without neighbours.

    largest: in norms of the own model, or in units of the parameters where that is zero.
    median: in units of the parameters.
    """

    largest: float
    median: float


@dataclass(frozen=True, slots=True)
class Averaged:
    """value: float32[d], the new own model. evidence: one entry per neighbour, in input order.

    spread: what `spread_of` would say, where the rule had to know it anyway.
    """

    value: Vector
    evidence: tuple[Evidence, ...]
    spread: Spread | None = None


def evidence_of(distances: Wide, factors: Wide) -> tuple[Evidence, ...]:
    """Evidence per neighbour. distances, factors: float64[m], factors in 0…1."""
    return tuple(
        Evidence(distance, factor, _verdict(factor))
        for distance, factor in zip(distances.tolist(), factors.tolist(), strict=True)
    )


REFUSAL = Evidence(math.inf, 0.0, Verdict.REFUSED)


def _verdict(factor: float) -> Verdict:
    if factor >= 1.0:
        return Verdict.KEPT
    return Verdict.CLIPPED if factor > 0.0 else Verdict.DROPPED
