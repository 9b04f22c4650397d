"""What hostile sites send: pure functions of what they know, for simulations and tests of rules.

An attack looks at one honest site (the *target*) and returns what each attacker sends to it. Since
every target can be told something else, equivocation is the normal case here; `same_for_all` makes
an attack consistent. Attackers are assumed to know everything: all models, weights and the rule.
The ones that search for the worst strength against the real rule are in `adversaries_adaptive`.
Must not know studies, rounds of the node or the network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scene:
    """What attackers see of one target's neighbourhood in one round.

    target: float32[d], the model it averages around. honest: float32[h, d], its honest neighbours'
    models. honest_weights: float64[h], their mixing weights at the target. byzantine_weights:
    float64[k], those of the k attackers. rng: the attackers' own.
    """

    target: Vector
    honest: Vector
    honest_weights: Wide
    byzantine_weights: Wide
    rng: np.random.Generator

    @property
    def attackers(self) -> int:
        """k."""
        return self.byzantine_weights.size

    @property
    def everyone(self) -> Wide:
        """float64[h + 1, d]: all honest models, the target's first."""
        return np.vstack((self.target[np.newaxis], self.honest)).astype(np.float64)


Attack = Callable[[Scene], Vector]
"""Returns float32[k, d]: what each attacker sends to the target."""


def _send(scene: Scene, model: Wide) -> Vector:
    """Every attacker sends this model, as far as float32 can hold it."""
    largest = float(np.finfo(np.float32).max)
    sent = np.clip(model, -largest, largest).astype(np.float32)
    return np.repeat(sent[np.newaxis], scene.attackers, axis=0)


# -- crude ----------------------------------------------------------------------------------------


def sign_flip_own(trained: Vector) -> Attack:
    """−x: the attacker's own model, turned around. trained: float32[d]."""
    return lambda scene: _send(scene, -trained.astype(np.float64))


def sign_flip_mean(scene: Scene) -> Vector:
    """−4μ: four times the honest mean, turned around."""
    return _send(scene, -4.0 * scene.everyone.mean(axis=0))


def gaussian(deviation: float) -> Attack:
    """Noise of this standard deviation per coordinate, another for each attacker and target."""

    def attack(scene: Scene) -> Vector:
        size = (scene.attackers, scene.target.size)
        return (deviation * scene.rng.standard_normal(size)).astype(np.float32)

    return attack


def not_finite(value: float) -> Attack:
    """Honest models with one coordinate that is NaN or infinite."""

    def attack(scene: Scene) -> Vector:
        sent = _send(scene, scene.everyone.mean(axis=0))
        sent[:, -1] = value
        return sent

    return attack


def wrong_shape(scene: Scene) -> Vector:
    """One coordinate too few."""
    return _send(scene, scene.everyone.mean(axis=0))[:, :-1]


def mimic(copied: int) -> Attack:
    """Send a copy of one honest neighbour's model, to give it more weight.

    Source: Karimireddy et al. 2022.
    """

    def attack(scene: Scene) -> Vector:
        return _send(scene, scene.honest[copied % len(scene.honest)].astype(np.float64))

    return attack


def stale_replay(old: Vector) -> Attack:
    """An honest model of an earlier round, again and again. old: float32[d]."""
    return lambda scene: _send(scene, old.astype(np.float64))


# -- just inside what looks honest ----------------------------------------------------------------


def alie(z: float) -> Attack:
    """μ − z·σ per coordinate. Source: Baruch et al. 2019, a little is enough."""

    def attack(scene: Scene) -> Vector:
        everyone = scene.everyone
        return _send(scene, everyone.mean(axis=0) - z * everyone.std(axis=0))

    return attack


def alie_quantile(scene: Scene) -> Vector:
    """ALIE with the z of the paper: s honest models are nearer to the middle than the attackers.

    z = Φ⁻¹((n − f − s)/(n − f)), s = ⌊n/2⌋ + 1 − f.
    """
    n, f = len(scene.honest) + 1 + scene.attackers, scene.attackers
    share = (n - f - (n // 2 + 1 - f)) / (n - f)
    z = NormalDist().inv_cdf(min(max(share, 1e-6), 1.0 - 1e-6))
    return alie(z)(scene)


def inner_product(epsilon: float) -> Attack:
    """−ε·μ (IPM, also called FOE). Source: Xie et al. 2020, fall of empires."""
    return lambda scene: _send(scene, -epsilon * scene.everyone.mean(axis=0))


def dissensus(epsilon: float = 1.5) -> Attack:
    """x_i − ε Σ_j w_ij (x_j − x_i) / Σ_byz w: undoes more than what mixing would do.

    Source: He et al. 2022.
    """

    def attack(scene: Scene) -> Vector:
        return _send(scene, scene.target + epsilon * dissensus_direction(scene))

    return attack


def dissensus_direction(scene: Scene) -> Wide:
    """−Σ_j w_ij (x_j − x_i) / Σ_byz w. float64[d]."""
    differences = scene.honest.astype(np.float64) - scene.target
    pull = (scene.honest_weights[:, np.newaxis] * differences).sum(axis=0)
    away: Wide = -pull / float(scene.byzantine_weights.sum())
    return away


def min_max(scene: Scene) -> Vector:
    """As far along −σ as the farthest pair of honest models allows.

    Source: Shejwalkar and Houmansadr 2021.
    """
    everyone = scene.everyone
    between = everyone[:, np.newaxis] - everyone[np.newaxis]
    allowed = float((between**2).sum(axis=2).max())
    return _at_limit(scene, lambda squares: float(squares.max()) <= allowed)


def min_sum(scene: Scene) -> Vector:
    """As far along −σ as the largest sum of squared distances of an honest model allows."""
    everyone = scene.everyone
    between = everyone[:, np.newaxis] - everyone[np.newaxis]
    allowed = float((between**2).sum(axis=2).sum(axis=1).max())
    return _at_limit(scene, lambda squares: float(squares.sum()) <= allowed)


def _at_limit(scene: Scene, is_allowed: Callable[[Wide], bool]) -> Vector:
    """μ − γ·σ with the largest γ whose squared distances to the honest are allowed."""
    everyone = scene.everyone
    mean, deviation = everyone.mean(axis=0), everyone.std(axis=0)
    low, high = 0.0, 1.0
    while high < 1e6 and is_allowed(((mean - high * deviation - everyone) ** 2).sum(axis=1)):
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = 0.5 * (low + high)
        if is_allowed(((mean - middle * deviation - everyone) ** 2).sum(axis=1)):
            low = middle
        else:
            high = middle
    return _send(scene, mean - low * deviation)


# -- on the graph ---------------------------------------------------------------------------------


def fiedler_pushes(models: Vector, laplacian: Wide) -> Wide:
    """Where each honest site has to be pushed to keep the graph's two halves apart.

    models: float32[n, d] of all honest sites. laplacian: float64[n, n] of the honest graph.
    Returns float64[n, d]: v vᵀX, v the eigenvector of the second-smallest eigenvalue.
    Source: Gaucher et al., ICML 2025, spectral heterogeneity.
    """
    _, vectors = np.linalg.eigh(laplacian)
    v = vectors[:, 1]
    pushes: Wide = np.outer(v, v @ models.astype(np.float64))
    return pushes


def spectral(push: Wide, strength: float) -> Attack:
    """x_i + strength · push, push: this target's row of `fiedler_pushes`."""
    return lambda scene: _send(scene, scene.target + strength * push)


def same_for_all(attack: Attack, scenes: Sequence[Scene]) -> list[Vector]:
    """What a consistent attacker sends: the mean over what it would tell each target."""
    told = np.mean([attack(scene).astype(np.float64) for scene in scenes], axis=0)
    return [told.astype(np.float32) for _ in scenes]


def equivocate(attack: Attack, scenes: Sequence[Scene]) -> list[Vector]:
    """What an attacker sends that tells each target what hurts it most."""
    return [attack(scene) for scene in scenes]


def admit_sybils(
    shares: Mapping[bytes, float], hostile: bytes, names: Sequence[bytes]
) -> dict[bytes, float]:
    """Shares after one hostile site got more identities admitted, each with its share.

    shares: site → share, sum 1. Returns new shares, sum 1: the attacker's weight follows the
    number of identities, which is why a roster admits hospitals and not keys.
    """
    grown = dict(shares) | dict.fromkeys(names, shares[hostile])
    total = sum(grown.values())
    return {site: share / total for site, share in grown.items()}


def with_sybils(scene: Scene, identities: int) -> Scene:
    """The scene with each attacker admitted under so many names, honest weights scaled down."""
    byzantine = np.repeat(scene.byzantine_weights, identities)
    before = scene.honest_weights.sum() + scene.byzantine_weights.sum()
    scale = before / (scene.honest_weights.sum() + byzantine.sum())
    return replace(
        scene, honest_weights=scene.honest_weights * scale, byzantine_weights=byzantine * scale
    )


# -- on data --------------------------------------------------------------------------------------


def flip_labels(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Each label y becomes classes − 1 − y; the site then trains as everyone does.

    >>> flip_labels(np.array([0, 1, 9]), 10).tolist()
    [9, 8, 0]
    """
    flipped: npt.NDArray[np.int64] = classes - 1 - labels
    return flipped
