"""A study on skewed digits under attack: which rule keeps how much accuracy.

    python -m simulations.digits_study [--alpha 0.1] [--attackers 2] [--rules gm_clip gossip]
        [--attacks none adaptive fixed NAME …] [--local-steps 10] [--rounds 100] [--seeds 3]
        [--topology complete] [--adjustment 0] [--guard]

Ten honest sites (or as many as asked for) and some attackers that know everything train one small
network. Accuracy is on images of nobody's, mean over honest sites. Every attack is run with every
seed; `worst` is the lowest mean over seeds. Local steps times rounds is the local work: compare
settings in which it is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pfl.averaging import topology
from simulations import digits_sites as digits
from simulations.adversaries import Scene, Vector, Wide, flip_labels
from simulations.adversaries_adaptive import RuleInUse
from simulations.digits_attacks import ATTACKS, FIXED, Facts
from simulations.digits_guard import Guarded
from simulations.digits_sites import Local, Matrix, Shares, Training

_SAME_FOR_ALL = {*FIXED, "ascent", "momentum-ascent", "undo"} - {"dissensus", "noise"}
_STALE_ROUNDS = 10
_LOCAL = Local(steps=10)


@dataclass(frozen=True, slots=True)
class Setting:
    """One study. attack: a name of ATTACKS, or "none"."""

    rule: RuleInUse
    attack: str = "none"
    alpha: float = 0.1
    honest: int = 10
    attackers: int = 2
    rounds: int = 100
    local: Local = _LOCAL
    topology: str = "complete"
    degree: int = 6
    is_guarded: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accuracy of honest sites on images of nobody's. cut: share of mixing steps cut."""

    mean: float
    worst: float
    cut: float


@dataclass(frozen=True, slots=True)
class _Place:
    """An honest site in the graph. near: its honest neighbours. attackers: hostile ones."""

    near: tuple[int, ...]
    attackers: int
    weight: float


def run(setting: Setting, seed: int) -> Outcome:
    """One study from its seed."""
    shares = digits.divided(setting.honest, setting.alpha, seed)
    model = digits.initial_model(seed)
    training = _training(setting, shares, model, seed)
    places = _places(setting, seed)
    rng = np.random.default_rng([seed, 4])
    momentum: Wide = np.zeros(digits.PARAMETERS)
    old = [model]
    guards = [Guarded(part) for part in shares.holdout]
    h = setting.honest
    for _ in range(setting.rounds):
        starts = training.models[:h].copy()
        before = starts.astype(np.float64).mean(axis=0)
        training.models[h:] = before
        training.run()
        after = training.models[:h].copy()
        ascent = digits.gradient_of(after.astype(np.float64).mean(axis=0), shares.pooled)
        momentum = 0.9 * momentum + ascent
        facts = Facts(
            setting.rule,
            before,
            ascent,
            momentum,
            training.models[-1],
            old[max(0, len(old) - _STALE_ROUNDS)],
        )
        mixed = _mixed(setting, places, after, facts, rng)
        for i in range(h):
            training.models[i] = (
                guards[i].taken(starts[i], after[i], mixed[i]) if setting.is_guarded else mixed[i]
            )
        old.append(training.models[0].copy())
    found = digits.accuracies(training.models[:h], shares.test)
    cut = float(np.mean([guard.cut for guard in guards])) / setting.rounds
    return Outcome(float(found.mean()), float(found.min()), cut)


def _training(setting: Setting, shares: Shares, model: Matrix, seed: int) -> Training:
    """Honest sites, and one hostile site that trains on flipped labels of everybody's images."""
    flipped = replace(shares.pooled, labels=flip_labels(shares.pooled.labels, digits.CLASSES))
    models = np.repeat(model[np.newaxis], setting.honest + 1, axis=0)
    parts = (*shares.train, flipped)
    rng = np.random.default_rng([seed, 3])
    return Training(parts, setting.local, models, np.zeros_like(models), rng)


def _places(setting: Setting, seed: int) -> list[_Place]:
    """Where honest sites sit; the last `attackers` sites of the graph are hostile."""
    n = setting.honest + setting.attackers
    sites = [bytes([at]) for at in range(n)]
    graph = topology.neighbours(setting.topology, sites, degree=setting.degree, seed=seed)
    weights = topology.all_mixing_weights_u(graph, topology.uniform_shares_u(sites))
    places = []
    for site in sites[: setting.honest]:
        near = tuple(other[0] for other in graph[site] if other[0] < setting.honest)
        weight = min(weights[site].values()) / 1e6
        places.append(_Place(near, len(graph[site]) - len(near), weight))
    return places


def _mixed(
    setting: Setting,
    places: Sequence[_Place],
    models: Matrix,
    facts: Facts,
    rng: np.random.Generator,
) -> Sequence[Vector]:
    """Every honest site's new model."""
    is_same = (
        setting.topology == "complete"
        and setting.rule.is_central
        and setting.attack in {*_SAME_FOR_ALL, "none"}
    )
    found = [
        _averaged(setting, place, models, i, facts, rng)
        for i, place in enumerate(places[:1] if is_same else places)
    ]
    return found * len(places) if is_same else found


def _averaged(
    setting: Setting,
    place: _Place,
    models: Matrix,
    own: int,
    facts: Facts,
    rng: np.random.Generator,
) -> Vector:
    hostile = 0 if setting.attack == "none" else place.attackers
    scene = Scene(
        models[own],
        models[list(place.near)],
        np.full(len(place.near), place.weight),
        np.full(hostile, place.weight),
        rng,
    )
    if not hostile:
        return setting.rule.result(scene, np.empty((0, models.shape[1]), dtype=np.float32))
    return setting.rule.result(scene, ATTACKS[setting.attack](facts)(scene))
