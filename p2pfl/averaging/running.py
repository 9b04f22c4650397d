"""From checked models to a result: reads what a method needs, lets it decide, mixes, reports.

A method says what it has to know: distances from the own model, inner products, or every
coordinate. Nearest-neighbour mixing can come before any of them.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from p2pfl.averaging import decisions, passes
from p2pfl.averaging.decisions import Decision
from p2pfl.averaging.errors import NotFinite
from p2pfl.averaging.evidence import REFUSAL, Averaged, Evidence, Spread, evidence_of
from p2pfl.averaging.inputs import Inputs, Neighbours, Vector, Wide, check_inputs
from p2pfl.averaging.packed import Model, values_of
from p2pfl.averaging.quantiles import WEIGHT_TOLERANCE
from p2pfl.averaging.selection import mixed_products, pairwise_squares


@dataclass(frozen=True, slots=True)
class ByDistance:
    """decide(distances, weights): looks at distances from the own model alone."""

    decide: Callable[[Wide, Wide], Decision]


@dataclass(frozen=True, slots=True)
class ByProducts:
    """decide(gram, weights): looks at how all members lie to each other."""

    decide: Callable[[Wide, Wide], Decision]


@dataclass(frozen=True, slots=True)
class ByCoordinate:
    """cut(m): how many of the lowest and highest values each coordinate loses.

    is_weighted: whether mixing weights count among the values that are left.
    """

    cut: Callable[[int], int]
    is_weighted: bool


Method = ByDistance | ByProducts | ByCoordinate


def run(method: Method, own: Model, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Average with `method`, without the neighbours that hold NaN or infinity.

    The result is, to the bit, the one without them; their weight goes to the own model.
    """
    return _accepting(lambda inputs: _average(method, inputs), own, neighbours, weights)


def run_mixed(
    method: Method, byzantine: float, own: Model, neighbours: Neighbours, weights: Vector
) -> Averaged:
    """The same after each member became the mean of its nearest members."""
    return _accepting(
        lambda inputs: _average_mixed(method, byzantine, inputs), own, neighbours, weights
    )


def spread_of(own: Model, neighbours: Neighbours) -> Spread:
    """Distances of the neighbours' models; those that would be refused do not count.

    Raises: as `check_inputs`, NotFinite.
    """
    weights = np.full(len(neighbours), 0.5 / max(1, len(neighbours)), dtype=np.float32)
    inputs = check_inputs(own, neighbours, weights)
    while True:
        try:
            squares = passes.squares(inputs)
        except passes.RowsNotFinite as found:
            inputs = inputs.without(found.rows)
        else:
            break
    return _spread(squares)


def _spread(squares: Wide) -> Spread:
    norm, distances = float(np.sqrt(squares[0])), np.sqrt(squares[1:])
    largest = float(distances.max(initial=0.0))
    median = statistics.median(distances.tolist()) if distances.size else 0.0
    return Spread(largest / norm if norm else largest, median)


def _accepting(
    work: Callable[[Inputs], Averaged], own: Model, neighbours: Neighbours, weights: Vector
) -> Averaged:
    inputs = check_inputs(own, neighbours, weights)
    while True:
        try:
            averaged = work(inputs) if inputs.rows else _alone(inputs)
        except passes.RowsNotFinite as found:
            inputs = inputs.without(found.rows)
        else:
            break
    if len(inputs.rows) == inputs.given:
        return averaged
    evidence: list[Evidence] = [REFUSAL] * inputs.given
    for place, entry in zip(inputs.places, averaged.evidence, strict=True):
        evidence[place] = entry
    return Averaged(averaged.value, tuple(evidence), averaged.spread)


def _alone(inputs: Inputs) -> Averaged:
    value = values_of(inputs.own)
    if not np.isfinite(value).all():
        raise NotFinite
    return Averaged(value.copy(), ())


def _average(method: Method, inputs: Inputs) -> Averaged:
    weights = inputs.member_weights
    match method:
        case ByDistance(decide=decide):
            squares = passes.squares(inputs)
            averaged = _combined(inputs, decide(np.sqrt(squares[1:]), weights))
            return Averaged(averaged.value, averaged.evidence, _spread(squares))
        case ByProducts(decide=decide):
            return _combined(inputs, decide(passes.gram_matrix(inputs), weights))
        case ByCoordinate(cut=cut, is_weighted=is_weighted):
            used = _used_weights(weights, is_weighted)
            trimmed = passes.trim(inputs, used, None, cut(len(inputs.rows)))
            evidence = evidence_of(np.sqrt(trimmed.squares), trimmed.kept_share[1:])
            return Averaged(trimmed.value, evidence)
        case _:
            assert_never(method)


def _average_mixed(method: Method, byzantine: float, inputs: Inputs) -> Averaged:
    weights = inputs.member_weights
    gram = passes.gram_matrix(inputs)
    mixing = decisions.mixing_of(gram, weights, byzantine)
    match method:
        case ByDistance(decide=decide):
            to_own = pairwise_squares(mixed_products(gram, mixing))[0, 1:]
            decided = decide(np.sqrt(to_own), weights)
        case ByProducts(decide=decide):
            decided = decide(mixed_products(gram, mixing), weights)
        case ByCoordinate(cut=cut, is_weighted=is_weighted):
            used = _used_weights(weights, is_weighted)
            trimmed = passes.trim(inputs, used, mixing, cut(len(inputs.rows)))
            kept = weights * trimmed.kept_share
            share = Decision(kept / np.add.reduce(kept), trimmed.squares, trimmed.squares)
            found = decisions.in_terms_of_members(share, mixing, gram, weights)
            return Averaged(trimmed.value, evidence_of(found.distances, found.factors))
        case _:
            assert_never(method)
    return _combined(inputs, decisions.in_terms_of_members(decided, mixing, gram, weights))


def _used_weights(weights: Wide, is_weighted: bool) -> Wide | None:
    """None where all count alike, which needs no weighing of every coordinate."""
    return weights if is_weighted and np.ptp(weights) > WEIGHT_TOLERANCE else None


def _combined(inputs: Inputs, decided: Decision) -> Averaged:
    value = passes.combine(inputs, decided.coefficients)
    return Averaged(value, evidence_of(decided.distances, decided.factors))
