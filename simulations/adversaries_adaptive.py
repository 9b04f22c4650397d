"""Attackers that know the rule: they choose a direction, then search for the worst strength.

The search runs the real averaging rule on what the target will see. It is greedy: it looks one
round ahead.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pfl.averaging import average
from simulations.adversaries import Attack, Scene, Vector, Wide, dissensus_direction

Direction = Callable[[Scene], Wide]
"""float64[d]: where the target is to be pushed; its length does not matter."""

_STRENGTHS = tuple(float(s) for s in (0.25, 0.5, 1.0, 2.0, 4.0, 16.0))
"""Tried strengths, in typical distances between honest models."""

_CENTRAL = {"gm_clip", "geometric_median", "median", "trimmed_mean", "krum", "multi_krum"}


@dataclass(frozen=True, slots=True)
class RuleInUse:
    """The rule of the study, as the target runs it."""

    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def is_central(self) -> bool:
        """Whether the target's own model counts as any other: then all targets get one result."""
        return self.name in _CENTRAL

    def result(self, scene: Scene, sent: Vector) -> Vector:
        """float32[d]: the target's new model if the attackers send `sent`."""
        neighbours = np.concatenate((scene.honest, sent))
        weights = np.concatenate((scene.honest_weights, scene.byzantine_weights))
        averaged = average(
            self.name, scene.target, neighbours, weights.astype(np.float32), **dict(self.parameters)
        )
        return averaged.value


def line_search(direction: Direction, rule: RuleInUse) -> Attack:
    """Send a + s·u with the s that moves the target farthest along the direction u.

    a: the honest mean; where the rule looks from the target's model, also that model, whichever
    serves the attackers better.
    """

    def attack(scene: Scene) -> Vector:
        towards = direction(scene)
        length = float(np.linalg.norm(towards))
        if length == 0.0:
            return np.repeat(scene.target[np.newaxis], scene.attackers, axis=0)
        unit = towards / length
        typical = _typical(scene)
        starts = [scene.everyone.mean(axis=0)]
        if not rule.is_central:
            starts.append(scene.target.astype(np.float64))
        sent = [_repeated(scene, a + s * typical * unit) for a in starts for s in _STRENGTHS]
        gains = [float(rule.result(scene, models) @ unit) for models in sent]
        return sent[int(np.argmax(gains))]

    return attack


def against_own_model(scene: Scene) -> Wide:
    """Towards −x_i."""
    return -scene.target.astype(np.float64)


def against_consensus(scene: Scene) -> Wide:
    """Away from the honest neighbours' weighted mean."""
    return dissensus_direction(scene)


def loss_ascent(gradient: Callable[[Wide], Wide]) -> Direction:
    """Where the pooled loss rises fastest at the honest mean. gradient: of the pooled loss."""
    return lambda scene: gradient(scene.everyone.mean(axis=0))


def loss_ascent_with_momentum(
    gradient: Callable[[Wide], Wide], velocity: Wide, decay: float = 0.9
) -> tuple[Direction, Callable[[Scene], Wide]]:
    """Ascent along a decaying sum of gradients: less easily turned around by one honest step.

    velocity: float64[d] of the round before, zeros at first. Returns the direction, and the
    velocity to hand in next round.
    """

    def moved(scene: Scene) -> Wide:
        grown: Wide = decay * velocity + gradient(scene.everyone.mean(axis=0))
        return grown

    return moved, moved


def undo_progress(before: npt.NDArray[np.float32]) -> Direction:
    """Back to the honest mean before this round's training. before: float32[d]."""

    def direction(scene: Scene) -> Wide:
        back: Wide = before.astype(np.float64) - scene.everyone.mean(axis=0)
        return back

    return direction


def _repeated(scene: Scene, model: Wide) -> Vector:
    return np.repeat(model.astype(np.float32)[np.newaxis], scene.attackers, axis=0)


def _typical(scene: Scene) -> float:
    """Median distance of the honest neighbours, or 1 where they all agree."""
    gaps = np.linalg.norm(scene.honest.astype(np.float64) - scene.target, axis=1)
    return float(np.median(gaps)) or 1.0
