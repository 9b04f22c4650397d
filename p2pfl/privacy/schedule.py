"""Which releases a study makes: full batches or Poisson samples, how many, under how much noise.

Responsible for choosing them from public numbers alone (bucket, ε, δ, rounds) and for saying in
one sentence what was picked and why. Must not know the data, the model or the accountant's insides.

Measured on hospital tables of a few hundred patients (δ = 1e-3): few full-batch steps beat many
sampled ones, because each step's noise is divided by everybody instead of by a sample. With
thousands of patients a sample drowns the noise too, and more steps learn more.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from p2pfl.privacy.accounting import ROUNDS_MAX, calibrate
from p2pfl.privacy.errors import AccountingInputRefused
from p2pfl.privacy.events import DpEvent

Sampling = Literal["full", "poisson"]

BATCH_PATIENTS: Final = 256
STEPS_PER_ROUND_MAX: Final = 50
NOISE_SHARE_MAX: Final = 0.02  # of the clip norm, per coordinate of the mean gradient


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a study's manifest says about releases.

    rate: sampling rate in (0, 1], 1 for full batches; steps_per_round ≥ 1; noise_multiplier: σ;
    sentence: the choice and its reason, for people.
    """

    sampling: Sampling
    rate: float
    steps_per_round: int
    noise_multiplier: float
    sentence: str

    @property
    def per_round(self) -> DpEvent:
        """The privacy event of one round."""
        mech: Literal["gaussian", "poisson"] = "gaussian" if self.sampling == "full" else "poisson"
        return DpEvent(mech, self.noise_multiplier, self.rate, self.steps_per_round)


def choose_schedule(bucket: int, epsilon: float, delta: float, rounds: int) -> Schedule:
    """Pick sampling, steps and noise for a study that may spend ε over all its rounds.

    bucket: the smallest site's public number of patients, ≥ 1; epsilon in (0, 100]; delta in
    [1e-10, 0.1]; rounds in 1 … 1000 (private ones). Same answer for the same public numbers.
    Raises AccountingInputRefused, EpsilonUnreachable.
    """
    if not 1 <= rounds <= ROUNDS_MAX:
        raise AccountingInputRefused("rounds", expected=f"1 … {ROUNDS_MAX}", actual=rounds)
    if bucket < 1:
        raise AccountingInputRefused("patients bucket", expected="at least 1", actual=bucket)
    if bucket <= 2 * BATCH_PATIENTS:
        return _full(bucket, epsilon, delta, rounds, "patients are few")
    rate = round(BATCH_PATIENTS / bucket, 6)
    steps = min(STEPS_PER_ROUND_MAX, math.ceil(1 / rate))
    sigma = calibrate(epsilon, rate, rounds * steps, delta)
    share = sigma / (rate * bucket)
    if share > NOISE_SHARE_MAX:
        reason = f"samples of {BATCH_PATIENTS} would drown in noise ({share:.1%} of the clip norm)"
        return _full(bucket, epsilon, delta, rounds, reason)
    sentence = (
        f"Poisson samples of about {BATCH_PATIENTS} of {bucket} patients, {steps} steps a round, "
        f"noise multiplier {sigma:g}: with this many patients the noise stays at {share:.1%} of "
        f"the clip norm per coordinate, and more steps learn more (ε ≤ {epsilon:g} after "
        f"{rounds} rounds, δ = {delta:g})"
    )
    return Schedule("poisson", rate, steps, sigma, sentence)


def _full(bucket: int, epsilon: float, delta: float, rounds: int, reason: str) -> Schedule:
    sigma = calibrate(epsilon, 1.0, rounds, delta)
    sentence = (
        f"Full batches of all {bucket} patients, one step a round, noise multiplier {sigma:g}: "
        f"{reason}, so the noise of each step is divided by all of them "
        f"({sigma / bucket:.1%} of the clip norm per coordinate; ε ≤ {epsilon:g} after "
        f"{rounds} rounds, δ = {delta:g})"
    )
    return Schedule("full", 1.0, 1, sigma, sentence)
