"""Averaging without data on a graph of two worlds: what a rule holds against attackers alone.

    python -m simulations.adversaries_two_worlds [--rules cs_plus] [--steps 200] [--hostile 3 4 6 8]

Two cliques of 13 honest sites; each site has 8 links into the other clique, so the second
eigenvalue of the honest Laplacian (unit weights) is 16. Next to every honest site sit f attackers.
Two figures, in units of the initial variance: `error`, the mean squared distance of honest sites
from the initial honest mean, and `spread`, that from their own mean at the end. Prints, for each f
and each family of attacks, the worst of both: attacks on *agreement*, as the paper has them; those
that *shift* everybody alike (from within the honest spread, which no rule can see, so that the
error stays and only the spread vanishes); and those that *search* their strength with the real
rule in every round. Source: Gaucher et al., ICML 2025, arXiv:2410.10418.
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
    """What one attack reached; see above for the two figures."""

    attack: str
    error: float
    spread: float


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


def attacks_on(rule: RuleInUse) -> dict[str, dict[str, Plan]]:
    """The attacks that make sense without data, by family."""
    return {
        "agreement": {
            "dissensus": lambda push: known.dissensus(1.5),
            "spectral, 1": lambda push: known.spectral(push, 1.0),
            "spectral, 10": lambda push: known.spectral(push, 10.0),
        },
        "shift": {
            "sign flip": lambda push: known.sign_flip_mean,
            "noise": lambda push: known.gaussian(10.0),
            "ALIE": lambda push: known.alie(1.5),
            "inner product": lambda push: known.inner_product(2.0),
        },
        "search": {
            "dissensus": lambda push: line_search(against_consensus, rule),
            "spectral": lambda push: line_search(lambda scene: push, rule),
            "−x": lambda push: line_search(against_own_model, rule),
        },
    }


def averaged(
    rule: RuleInUse, plan: Plan | None, f: int, steps: int, seed: int
) -> tuple[float, float]:
    """Error and spread after `steps` rounds, in units of the initial variance."""
    linked = two_worlds()
    laplacian = laplacian_of(linked)
    rng = np.random.default_rng(seed)
    # The two worlds disagree: what attackers like best.
    sides = np.repeat([1.0, -1.0], CLIQUE)[:, np.newaxis]
    models = (sides + rng.standard_normal((len(linked), COORDINATES))).astype(np.float32)
    mean = models.astype(np.float64).mean(axis=0)
    variance = _mean_square(models - mean)
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
    final = models.astype(np.float64)
    spread = _mean_square(final - final.mean(axis=0))
    return _mean_square(final - mean) / variance, spread / variance


def _mean_square(differences: Wide) -> float:
    return float((differences**2).sum(axis=1).mean())


def outcomes(name: str, f: int, steps: int, family: str, seed: int = 0) -> list[Outcome]:
    """Every attack of a family against one rule, declared f known."""
    share = min(0.49, f / (CLIQUE - 1 + BRIDGES + f))
    given = (("byzantine", share),) if RULES[name].needs_byzantine_share else ()
    rule = RuleInUse(name, given)
    return [
        Outcome(title, *averaged(rule, plan, f, steps, seed))
        for title, plan in attacks_on(rule)[family].items()
    ]


def line_of(name: str, f: int, family: str, found: Sequence[Outcome]) -> str:
    """One row of the table."""
    error = max(found, key=lambda outcome: outcome.error)
    spread = max(outcome.spread for outcome in found)
    warned = "  nothing is promised" if 2 * f >= 2 * BRIDGES else ""
    return (
        f"{name:<18}{f:>2}  {family:<10}{error.error:>9.2g} {f'({error.attack})':<16}"
        f"{spread:>9.2g}{warned}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, families = parser.add_argument, tuple(attacks_on(RuleInUse("gossip")))
    add("--rules", nargs="+", default=["cs_plus"], choices=sorted(RULES), help="[cs_plus]")
    add("--hostile", nargs="+", type=int, default=[3, 4, 6, 8], help="next to a site [3 4 6 8]")
    add("--families", nargs="+", default=families, choices=families, help="of attacks [all]")
    add("--steps", type=int, default=200, help="rounds of mixing [200]")
    options = parser.parse_args(arguments)
    header = f"{'rule':<18}{'f':>2}  {'attacks':<10}{'error':>9} {'':<16}{'spread':>9}"
    sys.stdout.write(header + "\n")
    for name in options.rules:
        for f in options.hostile:
            for family in options.families:
                found = outcomes(name, f, options.steps, family)
                sys.stdout.write(line_of(name, f, family, found) + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
