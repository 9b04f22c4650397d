"""What hostile sites of a scenario publish: the attacks of `simulations.adversaries` at work.

A site publishes one model per round, so a hostile one sends every neighbour the same: what hurts
them most on average. It trains last and sees what its neighbours have trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from simulations import adversaries as known
from simulations import adversaries_adaptive as adaptive
from simulations.adversaries import Attack, Scene, Vector

Make = Callable[[float, Vector, adaptive.RuleInUse], Attack]
"""(strength or 0 for its default, the own honest model, the rule in use) → the attack."""

ATTACKS: Final[Mapping[str, Make]] = {
    "sign-flip": lambda _s, own, _r: known.sign_flip_own(own),
    "sign-flip-mean": lambda _s, _o, _r: known.sign_flip_mean,
    "gaussian": lambda s, _o, _r: known.gaussian(s or 1.0),
    "not-finite": lambda _s, _o, _r: known.not_finite(float("nan")),
    "mimic": lambda s, _o, _r: known.mimic(int(s)),
    "alie": lambda s, _o, _r: known.alie(s or 1.5),
    "inner-product": lambda s, _o, _r: known.inner_product(s or 0.5),
    "dissensus": lambda s, _o, _r: known.dissensus(s or 1.5),
    "min-max": lambda _s, _o, _r: known.min_max,
    "min-sum": lambda _s, _o, _r: known.min_sum,
    "label-flip": lambda _s, own, _r: _honest(own),
    "adaptive": lambda _s, _o, r: adaptive.line_search(adaptive.against_own_model, r),
    "adaptive-dissensus": lambda _s, _o, r: adaptive.line_search(adaptive.against_consensus, r),
}
"""label-flip: the labels are turned around before training; the model then is what it is."""


def _honest(own: Vector) -> Attack:
    return lambda scene: np.repeat(own[np.newaxis], scene.attackers, axis=0)


def hostile_model(
    attack: Attack,
    targets: Sequence[tuple[Vector, Sequence[Vector]]],
    attackers: int,
    rng: np.random.Generator,
) -> Vector:
    """What one attacker publishes. targets: each honest neighbour's model and its own honest
    neighbours' models. attackers: hostile neighbours of a target. Returns float32[d]."""
    scenes = [_scene(model, around, attackers, rng) for model, around in targets]
    with np.errstate(invalid="ignore"):
        told = known.same_for_all(attack, scenes)
    sent: Vector = told[0][0]
    return sent


def _scene(
    model: Vector, around: Sequence[Vector], attackers: int, rng: np.random.Generator
) -> Scene:
    share = 1.0 / (len(around) + attackers + 1)
    return Scene(
        target=model,
        honest=np.stack(around),
        honest_weights=np.full(len(around), share),
        byzantine_weights=np.full(attackers, share),
        rng=rng,
    )
