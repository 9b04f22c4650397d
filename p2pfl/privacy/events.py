"""What was released: one frozen value per run of a mechanism, apart from how ε is computed.

Responsible for saying exactly which noisy releases touched a patient, and for refusing events
whose accounting could not be trusted. Must not know any accountant.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from p2pfl.privacy.errors import EventRefused

Mechanism = Literal["none", "gaussian", "poisson"]
MECHANISMS: Final[tuple[Mechanism, ...]] = ("none", "gaussian", "poisson")

SIGMA_MIN: Final = 0.3  # below it accountants lose precision, and some allocate terabytes
SIGMA_MAX: Final = 1e6
STEPS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class DpEvent:
    """`steps` releases of one mechanism, each on clipped contributions of one patient at most.

    mech: "gaussian" (every patient in every step), "poisson" (each patient with probability q,
        independently per step) or "none" (released without any protection).
    sigma: noise multiplier, noise standard deviation / clip norm, in [0.3, 1e6]; 0 for "none".
    q: sampling rate in (0, 1]; 1 for "gaussian", not looked at for "none".
    steps: number of releases, 1 … 10 million; 0 is allowed for "none".
    Neighbouring datasets differ in one patient added or removed. Raises EventRefused.

    >>> DpEvent("poisson", sigma=1.1, q=0.05, steps=20).steps
    20
    """

    mech: Mechanism
    sigma: float
    q: float
    steps: int

    def __post_init__(self) -> None:
        if self.mech not in MECHANISMS:
            raise EventRefused("mechanism", expected=" or ".join(MECHANISMS), actual=self.mech)
        if self.mech == "none":
            self._check_unprotected()
            return
        if not SIGMA_MIN <= self.sigma <= SIGMA_MAX:
            expected = f"{SIGMA_MIN:g} ≤ σ ≤ {SIGMA_MAX:g}"
            raise EventRefused("noise multiplier σ", expected=expected, actual=self.sigma)
        if not 0.0 < self.q <= 1.0:
            raise EventRefused("sampling rate q", expected="0 < q ≤ 1", actual=self.q)
        if self.mech == "gaussian" and self.q != 1.0:
            expected = "1 for full batches (gaussian)"
            raise EventRefused("sampling rate q", expected=expected, actual=self.q)
        if not 1 <= self.steps <= STEPS_MAX:
            raise EventRefused("steps", expected=f"1 … {STEPS_MAX}", actual=self.steps)

    def _check_unprotected(self) -> None:
        if self.sigma != 0.0:
            raise EventRefused("noise multiplier σ", expected="0 for none", actual=self.sigma)
        if not 0 <= self.steps <= STEPS_MAX:
            raise EventRefused("steps", expected=f"0 … {STEPS_MAX}", actual=self.steps)

    @property
    def is_private(self) -> bool:
        """Tell whether the release was protected by noise, so that an ε exists."""
        return self.mech != "none"

    def repeated(self, times: int) -> "DpEvent":
        """Return the same release made `times` times over. times ≥ 1. Raises EventRefused."""
        return DpEvent(self.mech, self.sigma, self.q, self.steps * times)


def parse_event(mech: str, sigma: str, q: str, steps: int) -> DpEvent:
    """Read an event from a ledger entry or manifest, where decimals travel as text.

    Raises EventRefused when the text is no plain finite number or the event is out of range.
    """
    for known in MECHANISMS:
        if mech == known:
            return DpEvent(known, decimal(sigma, what="noise multiplier σ"), decimal(q), steps)
    raise EventRefused("mechanism", expected=" or ".join(MECHANISMS), actual=mech)


def decimal(text: str, *, what: str = "sampling rate q") -> float:
    """Read one finite decimal of at most 32 characters. Raises EventRefused."""
    if len(text) <= 32 and text.isascii() and "_" not in text:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
    raise EventRefused(what, expected="a decimal number as text", actual=repr(text[:40]))
