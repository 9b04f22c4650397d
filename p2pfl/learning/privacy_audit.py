"""An empirical audit of private training: `python -m p2pfl.learning.privacy_audit`, JSON.

Responsible for trying the very steps that a study takes (sampling, clipping, noise, division) on
made-up patients, half of whom are left out by coins, and for saying how well somebody who sees
every release can tell who was in. It finds noise that is several times too small, clipping that
does not clip, a seed that repeats; it cannot prove that ε is right. No patient is touched.

A canary's only non-zero input is a column of its own, so large that its gradient is clipped to
the bound; the learning rate is so small that no canary is ever learnt. The score of a canary is
how far its column's weight moved.

In:  {manifest: path, canaries, noise_factor}    noise_factor 1: the noise that the manifest says
Out: {canaries, guesses, right, epsilon_lower, epsilon_claimed, delta, error, steps, passed}
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import DataTerms, Manifest, NumberColumn, PrivacyTerms, Target
from p2pfl.learning.canary_bound import epsilon_lower
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PrivacyRefused, RequestRefused
from p2pfl.learning.json_request import answer_request
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector
from p2pfl.privacy.accounting import epsilon
from p2pfl.privacy.events import DpEvent

CANARIES_MAX: Final = 4096
ERROR: Final = 0.05
"""How often the bound may be wrong."""
GUESSED: Final = 0.25
"""Share of the canaries that are guessed, the surest ones; fixed before the run."""
_LOUD: Final = 1e4
_LEARNING_RATE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class CanaryAudit:
    """What came of it. right of guesses; epsilon_lower ≤ the true ε except with chance error."""

    canaries: int
    guesses: int
    right: int
    epsilon_lower: float
    epsilon_claimed: float
    delta: float
    error: float
    steps: int

    @property
    def passed(self) -> bool:
        """Whether the run is compatible with what is claimed."""
        return self.epsilon_lower <= self.epsilon_claimed


def audit(
    manifest: Manifest,
    *,
    canaries: int,
    noise_factor: float,
    random_bytes: Callable[[int], bytes],
) -> CanaryAudit:
    """Try a study's private steps.

    noise_factor: what the noise is multiplied by behind the accounting's back; 1 in earnest.
    random_bytes: os.urandom in earnest. Raises PrivacyRefused for a study without privacy.
    """
    if not manifest.privacy.is_private:
        raise PrivacyRefused("the study has no privacy that could be audited")
    if manifest.privacy.is_by_update:
        raise PrivacyRefused(
            'the study protects whole updates (unit = "site"): canaries are single patients, whose '
            "share no step clips; what the node adds is in its own code and tests"
        )
    coins = (np.frombuffer(random_bytes(canaries), dtype=np.uint8) & 1).astype(np.uint8)
    performed = replace(
        manifest.privacy, noise_multiplier=manifest.privacy.noise_multiplier * noise_factor
    )
    rounds = manifest.study.rounds
    moved = _released(_canary_study(manifest, performed, canaries), coins, random_bytes)
    order = np.argsort(moved, kind="stable")
    each = max(1, int(canaries * GUESSED / 2))
    right = int((coins[order[-each:]] == 1).sum() + (coins[order[:each]] == 0).sum())
    delta = float(manifest.privacy.delta)
    return CanaryAudit(
        canaries=canaries,
        guesses=2 * each,
        right=right,
        epsilon_lower=epsilon_lower(canaries, 2 * each, right, delta, error=ERROR),
        epsilon_claimed=_claimed(manifest.privacy, rounds),
        delta=delta,
        error=ERROR,
        steps=rounds * manifest.privacy.steps_per_round,
    )


def _claimed(privacy: PrivacyTerms, rounds: int) -> float:
    mechanism = "poisson" if privacy.sampling == "poisson" else "gaussian"
    steps = rounds * privacy.steps_per_round
    event = DpEvent(
        mechanism,  # type: ignore[arg-type]  # one of the two names
        privacy.noise_multiplier,
        privacy.sampling_rate,
        steps,
    )
    return epsilon([event], float(privacy.delta))


def _canary_study(manifest: Manifest, privacy: PrivacyTerms, canaries: int) -> Manifest:
    """The study's privacy on a table with a column per canary."""
    columns = tuple(NumberColumn(f"canary{i}", -1.0, 1.0, 0.0, ()) for i in range(canaries))
    data = DataTerms("tabular", 1, 0.34, Target("in", 0.0), columns)
    plan = replace(
        manifest.plan,
        name="tabular-logistic",
        arguments={"learning_rate": _LEARNING_RATE, "momentum": 0.0},
        ranges={},
    )
    return replace(
        manifest,
        plan=plan,
        data=data,
        privacy=privacy,
        study=replace(manifest.study, parameters=canaries + 1),
        materials=(),
    )


def _released(
    study: Manifest,
    coins: NDArray[np.uint8],
    random_bytes: Callable[[int], bytes],
) -> Vector:
    """How far each canary's weight moved over all rounds. coins: uint8[m], 1: it is in."""
    m = len(coins)
    inside = np.flatnonzero(coins)
    features = np.zeros((len(inside), m), dtype=np.float32)
    features[np.arange(len(inside)), inside] = _LOUD
    patients = Prepared(
        features=features,
        labels=np.ones(len(inside), dtype=np.float32),
        columns=tuple(f"canary{i}" for i in range(m)),
        patients=tuple(int(i).to_bytes(32, "big") for i in inside),
        notes=(),
    )
    trainer = Trainer(study, patients, denominator=m, random_bytes=random_bytes)
    model = np.zeros(m + 1, dtype=np.float32)
    for round_ in range(study.study.rounds):
        model = trainer.train(model, round_, {}).vector
    return model[:m]


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    torch.set_num_threads(1)
    return answer_request(_answered)


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    canaries, factor = request["canaries"], request["noise_factor"]
    if not isinstance(canaries, int) or not 16 <= canaries <= CANARIES_MAX:
        raise RequestRefused(f'"canaries" is {canaries!r}, expected 16 to {CANARIES_MAX}')
    if not isinstance(factor, int | float) or not 0.0 < factor <= 1.0:
        raise RequestRefused(f'"noise_factor" is {factor!r}, expected more than 0, up to 1')
    found = audit(manifest, canaries=canaries, noise_factor=factor, random_bytes=os.urandom)
    return asdict(found) | {"passed": found.passed}


if __name__ == "__main__":
    sys.exit(main())
