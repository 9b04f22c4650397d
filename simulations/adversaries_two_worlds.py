"""Averaging without data on a graph of two worlds: what a rule holds against attackers alone.

    python -m simulations.adversaries_two_worlds [--rule cs_plus] [--steps 200]

Two cliques of 13 honest sites; each site has 8 links into the other clique, so the second
eigenvalue of the honest Laplacian (unit weights) is 16. Next to every honest site sit f attackers.
Prints, for each f, the worst mean squared error from the initial honest average, in units of the
initial variance, over all attacks. Source: Gaucher et al., ICML 2025, arXiv:2410.10418.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfl.averaging import RULES
from simulations import adversaries as known
from simulations.adversaries import Attack, Scene, Wide
from simulations.adversaries_adaptive import (
    RuleInUse,
    against_consensus,
    against_own_model,
    line_search,
)

CLIQUE = 13
BRIDGES = 8
COORDINATES = 5
Plan = Callable[[Wide], Attack]
"""Makes the attack on one target from that target's row of `fiedler_pushes`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """error: mean squared distance of honest sites from the initial honest mean / variance."""

    attack: str
    error: float


def two_worlds() -> Wide:
    """float64[26, 26]: which honest sites are linked."""
    inside = np.kron(np.eye(2), np.ones((CLIQUE, CLIQUE)) - np.eye(CLIQUE))
    shifts: Wide = np.sum([np.roll(np.eye(CLIQUE), k, axis=1) for k in range(BRIDGES)], axis=0)
    linked: Wide = inside + np.kron([[0, 1], [0, 0]], shifts) + np.kron([[0, 0], [1, 0]], shifts.T)
    return linked


def laplacian_of(linked: Wide) -> Wide:
    """D − A."""
    laplacian: Wide = np.diag(linked.sum(axis=1)) - linked
    return laplacian


def attacks_on(rule: RuleInUse) -> dict[str, Plan]:
    """The attacks that make sense without data."""
    return {
        "sign flip": lambda push: known.sign_flip_mean,
        "noise": lambda push: known.gaussian(10.0),
        "ALIE": lambda push: known.alie(1.5),
        "inner product": lambda push: known.inner_product(2.0),
        "dissensus": lambda push: known.dissensus(1.5),
        "spectral, 1": lambda push: known.spectral(push, 1.0),
        "spectral, 10": lambda push: known.spectral(push, 10.0),
        "search, dissensus": lambda push: line_search(against_consensus, rule),
        "search, spectral": lambda push: line_search(lambda scene: push, rule),
        "search, −x": lambda push: line_search(against_own_model, rule),
    }


def averaged(rule: RuleInUse, plan: Plan | None, f: int, steps: int, seed: int) -> float:
    """Error after `steps` rounds, in units of the initial variance."""
    linked = two_worlds()
    laplacian = laplacian_of(linked)
    rng = np.random.default_rng(seed)
    # The two worlds disagree: what attackers like best.
    sides = np.repeat([1.0, -1.0], CLIQUE)[:, np.newaxis]
    models = (sides + rng.standard_normal((len(linked), COORDINATES))).astype(np.float32)
    mean = models.astype(np.float64).mean(axis=0)
    variance = float(((models - mean) ** 2).sum(axis=1).mean())
    degree = CLIQUE - 1 + BRIDGES + f
    for _ in range(steps):
        pushes = known.fiedler_pushes(models, laplacian)
        new = np.empty_like(models)
        for i, row in enumerate(linked):
            honest = models[row > 0]
            scene = Scene(
                models[i],
                honest,
                np.full(len(honest), 1.0 / (degree + 1)),
                np.full(f, 1.0 / (degree + 1)),
                rng,
            )
            sent = (
                plan(pushes[i])(scene)
                if plan and f
                else np.empty((0, COORDINATES), dtype=np.float32)
            )
            new[i] = rule.result(scene, sent)
        models = new
    return float(((models - mean) ** 2).sum(axis=1).mean()) / variance


def outcomes(name: str, f: int, steps: int, seed: int = 0) -> list[Outcome]:
    """Every attack against one rule, declared f known."""
    share = min(0.49, f / (CLIQUE - 1 + BRIDGES + f))
    given = (("byzantine", share),) if RULES[name].needs_byzantine_share else ()
    rule = RuleInUse(name, given)
    return [
        Outcome(title, averaged(rule, plan, f, steps, seed))
        for title, plan in attacks_on(rule).items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rule", default="cs_plus", choices=sorted(RULES), help="[cs_plus]")
    parser.add_argument("--steps", type=int, default=200, help="rounds of mixing [200]")
    options = parser.parse_args(arguments)
    for f in (0, 4, 6, 8):
        found = sorted(outcomes(options.rule, f, options.steps), key=lambda o: -o.error)
        warned = "  2b ≥ μ2: nothing is promised" if 2 * f >= 2 * BRIDGES else ""
        sys.stdout.write(
            f"{options.rule}, f = {f}: worst {found[0].error:.2g} ({found[0].attack}), "
            f"then {found[1].error:.2g} ({found[1].attack}){warned}\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
