"""The attackers of the digits study: what each sends, from what all of them know in a round.

They know every honest model, the rule with its parameters, and the gradient of the pooled loss.
Must not know how honest sites train or how they are linked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulations import adversaries as known
from simulations.adversaries import Attack, Vector, Wide
from simulations.adversaries_adaptive import (
    RuleInUse,
    against_consensus,
    against_own_model,
    line_search,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What attackers know in one round.

    rule: as the honest sites run it. before: float64[d], honest mean before this round's training.
    ascent: float64[d], where the pooled loss rises fastest at the honest mean after it.
    momentum: float64[d], decaying sum of those. flipped: float32[d], a model trained on flipped
    labels from the same start. old: float32[d], an honest model of some rounds ago.
    """

    rule: RuleInUse
    before: Wide
    ascent: Wide
    momentum: Wide
    flipped: Vector
    old: Vector


Plan = Callable[[Facts], Attack]


def _searching(direction: Callable[[Facts], Wide]) -> Plan:
    return lambda facts: line_search(lambda scene: direction(facts), facts.rule)


def _undoing(facts: Facts) -> Attack:
    return line_search(lambda scene: facts.before - scene.everyone.mean(axis=0), facts.rule)


FIXED: Mapping[str, Plan] = {
    "sign-flip-own": lambda facts: known.sign_flip_own(facts.flipped),
    "sign-flip-mean": lambda facts: known.sign_flip_mean,
    "noise": lambda facts: known.gaussian(1.0),
    "not-a-number": lambda facts: known.not_finite(float("nan")),
    "alie-1.5": lambda facts: known.alie(1.5),
    "alie-quantile": lambda facts: known.alie_quantile,
    "ipm-0.1": lambda facts: known.inner_product(0.1),
    "ipm-0.5": lambda facts: known.inner_product(0.5),
    "ipm-2": lambda facts: known.inner_product(2.0),
    "ipm-10": lambda facts: known.inner_product(10.0),
    "label-flip": lambda facts: known.stale_replay(facts.flipped),
    "stale-replay": lambda facts: known.stale_replay(facts.old),
    "mimic": lambda facts: known.mimic(0),
    "dissensus": lambda facts: known.dissensus(1.5),
    "min-max": lambda facts: known.min_max,
    "min-sum": lambda facts: known.min_sum,
}
"""Attacks of a strength that was fixed beforehand."""

ADAPTIVE: Mapping[str, Plan] = {
    "search-minus-x": lambda facts: line_search(against_own_model, facts.rule),
    "search-dissensus": lambda facts: line_search(against_consensus, facts.rule),
    "ascent": _searching(lambda facts: facts.ascent),
    "momentum-ascent": _searching(lambda facts: facts.momentum),
    "undo": _undoing,
}
"""Attacks whose strength is searched against the real rule, each round and for each target."""

ATTACKS: Mapping[str, Plan] = {**FIXED, **ADAPTIVE}
