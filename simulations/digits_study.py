"""A study on skewed digits under attack: which rule keeps how much accuracy.

    python -m simulations.digits_study [--alpha 0.1] [--attackers 2] [--rules gm_clip gossip]
        [--attacks none adaptive fixed NAME …] [--local-steps 10] [--rounds 100] [--seeds 3]
        [--topology complete] [--adjustment 0] [--guard] [--quantile 0.5]

Ten honest sites (or as many as asked for) and some attackers that know everything train one small
network. Accuracy is on images of nobody's, mean over honest sites. Every attack is run with every
seed; `worst` is the lowest mean over seeds. Local steps times rounds is the local work: compare
settings in which it is the same.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from p2pfl.averaging import RULES, prepare, topology
from simulations import digits_sites as digits
from simulations.adversaries import Scene, Vector, Wide, flip_labels
from simulations.adversaries_adaptive import RuleInUse
from simulations.digits_attacks import ADAPTIVE, ATTACKS, FIXED, Facts
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


@dataclass(frozen=True, slots=True)
class Row:
    """One rule under one attack, over seeds. In 0…1."""

    rule: str
    attack: str
    mean: float
    worst_seed: float
    worst_site: float
    cut: float


def row_of(setting: Setting, seeds: int) -> Row:
    """Run every seed."""
    found = [run(setting, seed) for seed in range(seeds)]
    return Row(
        setting.rule.name,
        setting.attack,
        float(np.mean([one.mean for one in found])),
        min(one.mean for one in found),
        min(one.worst for one in found),
        float(np.mean([one.cut for one in found])),
    )


def line_of(row: Row) -> str:
    """One line of the table."""
    return (
        f"{row.rule:<18}{row.attack:<18}{row.mean:>8.1%}{row.worst_seed:>12.1%}"
        f"{row.worst_site:>12.1%}{row.cut:>10.1%}"
    )


def worst_lines(rows: Sequence[Row]) -> list[str]:
    """For each rule, its lowest mean over the attacks that were run."""
    lines = []
    for rule in dict.fromkeys(row.rule for row in rows):
        attacked = [row for row in rows if row.rule == rule and row.attack != "none"]
        if attacked:
            worst = min(attacked, key=lambda row: row.mean)
            lines.append(
                f"{rule}: worst of {len(attacked)} attacks {worst.mean:.1%} ({worst.attack})"
            )
    return lines


def attacks_named(words: Sequence[str]) -> list[str]:
    """Names of attacks; "fixed" and "adaptive" stand for all of theirs.

    >>> attacks_named(["none", "undo"])
    ['none', 'undo']
    """
    groups = {"fixed": list(FIXED), "adaptive": list(ADAPTIVE)}
    return list(dict.fromkeys(name for word in words for name in groups.get(word, [word])))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--alpha", type=float, default=0.1, help="skew: small is severe [0.1]")
    add("--honest", type=int, default=10, help="[10]")
    add("--attackers", type=int, default=2, help="[2]")
    add("--rules", nargs="+", default=["gm_clip"], choices=sorted(RULES), help="[gm_clip]")
    known = ["none", "fixed", "adaptive", *ATTACKS]
    add("--attacks", nargs="+", default=["none", "adaptive"], choices=known, metavar="ATTACK")
    add("--local-steps", type=int, default=10, help="per round [10]")
    add("--rounds", type=int, default=100, help="[100]")
    add("--seeds", type=int, default=3, help="seeds 0 … N-1 [3]")
    add("--topology", default="complete", choices=topology.TOPOLOGIES[:-1], help="[complete]")
    add("--degree", type=int, default=6, help="of random-regular [6]")
    add("--adjustment", type=float, default=0.0, help="logits by local class shares [0]")
    add("--quantile", type=float, default=0.5, help="of distances where gm_clip clips [0.5]")
    add("--guard", action="store_true", help="with the hold-out guard")
    add("--json", type=Path, help="write the rows to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per rule and attack, then each rule's worst."""
    options = parse(arguments)
    prepare()
    header = f"{'rule':<18}{'attack':<18}{'mean':>8}{'worst seed':>12}{'worst site':>12}{'cut':>10}"
    sys.stdout.write(header + "\n")
    rows = []
    for rule in options.rules:
        share = options.attackers / (options.honest + options.attackers - 1)
        declared = (("byzantine", min(0.49, share)),) if RULES[rule].needs_byzantine_share else ()
        if rule == "gm_clip":
            declared = (("quantile", options.quantile),)
        for attack in attacks_named(options.attacks):
            setting = Setting(
                RuleInUse(rule, declared),
                attack,
                options.alpha,
                options.honest,
                options.attackers,
                options.rounds,
                Local(options.local_steps, adjustment=options.adjustment),
                options.topology,
                options.degree,
                options.guard,
            )
            rows.append(row_of(setting, options.seeds))
            sys.stdout.write(line_of(rows[-1]) + "\n")
            sys.stdout.flush()
    sys.stdout.write("\n".join(["", *worst_lines(rows)]) + "\n")
    if options.json is not None:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
