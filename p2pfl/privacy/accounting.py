"""From what was released to ε: composition, tables ahead of a study, calibration of noise.

Responsible for upper bounds on ε that a regulator's own accountant would confirm. Gaussians
without subsampling are exact; anything with Poisson sampling goes through the privacy loss
distributions (PLD) of dp-accounting, whose discretisation is pessimistic. That library takes two
seconds to import, so it is imported on first need, in the short-lived process of `table.py`.
Must not know datasets, studies or budgets.

Releases without a mechanism ("none") have no ε. They are left out of the sums here, because the
data owner allowed them on record: an ε beside them speaks of the other releases only.

Source: Koskela et al. 2020 and Doroshenko et al., "Connect the dots", 2022 (PLD); neighbouring
datasets differ by adding or removing one patient.
"""

import functools
import importlib.metadata
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from p2pfl.privacy.errors import AccountingInputRefused, EpsilonUnreachable
from p2pfl.privacy.events import SIGMA_MAX, SIGMA_MIN, STEPS_MAX, DpEvent
from p2pfl.privacy.gaussian import gaussian_epsilon

ACCOUNTANT: Final = "dp-accounting/pld"
DELTA_MIN: Final = 1e-10  # below it the Fourier transform's rounding would show in ε
DELTA_MAX: Final = 0.1
ROUNDS_MAX: Final = 1000
EPSILON_TARGET_MAX: Final = 100.0

_MICRO: Final = 1_000_000
_ROWS_COMPUTED: Final = 64  # of a table with Poisson sampling, each about 0.2 s
_ROWS_FIRST: Final = 24  # … of which so many without gaps at the start
_INTERVAL: Final = 1e-4  # grid of privacy losses
_INTERVAL_MAX: Final = 1e-2  # beyond it, sampling is ignored instead (an upper bound)
_POINTS_MAX: Final = 1 << 22
_SIGMA_DIGITS: Final = 4


class _Pld(Protocol):
    """The part of dp-accounting's PrivacyLossDistribution that is used here."""

    def compose(self, other: "_Pld", /) -> "_Pld": ...
    def self_compose(self, num_times: int, /) -> "_Pld": ...
    def get_epsilon_for_delta(self, delta: float, /) -> float: ...


@dataclass(frozen=True, slots=True)
class _Composed:
    """A history, sorted: μ² of all Gaussians, and the steps of each sampled (σ, q)."""

    mu_squared: float
    sampled: tuple[tuple[float, float, int], ...]  # (σ, q, steps), sorted

    @property
    def unsampled(self) -> float:
        """μ when sampling is ignored: an upper bound, because sampling only helps."""
        return math.sqrt(self.mu_squared + sum(n / (s * s) for s, _, n in self.sampled))


def accountant_version() -> str:
    """Return the version of the installed accountant without importing it."""
    return importlib.metadata.version("dp-accounting")


def epsilon(events: Sequence[DpEvent], delta: float) -> float:
    """Compute ε at δ of everything in `events` together, an upper bound.

    events: in any order, may mix mechanisms; delta in [1e-10, 0.1]. Returns ε ≥ 0, exact to 1e-9
    without sampling. Raises AccountingInputRefused for another δ.

    >>> round(epsilon([DpEvent("gaussian", sigma=6.0, q=1.0, steps=30)], delta=1e-3), 3)
    2.805
    """
    _check_delta(delta)
    return _epsilon(_compose(events), delta, _INTERVAL)


def epsilon_u(events: Sequence[DpEvent], delta: float) -> int:
    """Compute `epsilon` in micro-units, rounded up: how ε crosses every boundary."""
    return math.ceil(epsilon(events, delta) * _MICRO)


def epsilon_table_u(
    history: Sequence[DpEvent], per_round: DpEvent, rounds: int, delta: float
) -> tuple[int, ...]:
    """Tabulate the dataset's total ε after 0 … `rounds` further rounds, in micro-units.

    history: everything released or reserved before; per_round: one round of the study;
    rounds in 0 … 1000. Returns rounds + 1 integers, rounded up, never decreasing; constant when
    the study is not private. Without sampling every row is exact. With sampling 64 rows are
    computed (all of them up to 64 rounds; else the first 24, the last, and some between), and a
    row between two of these takes the *later* one's value: rounded up, never interpolated.
    Raises AccountingInputRefused.
    """
    _check_delta(delta)
    if not 0 <= rounds <= ROUNDS_MAX:
        raise AccountingInputRefused("rounds", expected=f"0 … {ROUNDS_MAX}", actual=rounds)
    before = epsilon_u(history, delta)
    if not per_round.is_private:
        return (before,) * (rounds + 1)
    table = [before]
    for anchor in _anchors(rounds, sampled=bool(_compose([*history, per_round]).sampled)):
        total = epsilon_u([*history, per_round.repeated(anchor)], delta)
        table.extend([max(total, table[-1])] * (anchor + 1 - len(table)))
    return tuple(table)


def calibrate(epsilon: float, q: float, steps_total: int, delta: float) -> float:
    """Find the smallest noise multiplier with which `steps_total` releases cost at most ε.

    epsilon in (0, 100]; q: sampling rate in (0, 1], 1 for full batches; steps_total ≥ 1. Returns σ
    with four significant digits, rounded up, and never below 0.3; verified with `epsilon`.
    Raises AccountingInputRefused, EpsilonUnreachable.

    >>> calibrate(3.0, q=1.0, steps_total=30, delta=1e-3)
    5.682
    """
    _check_delta(delta)
    _check_target(epsilon, q, steps_total)
    low, high = SIGMA_MIN, SIGMA_MIN
    while _cost(high, q, steps_total, delta, 10 * _INTERVAL) > epsilon:
        if high >= SIGMA_MAX:
            raise EpsilonUnreachable(epsilon=epsilon, sigma_max=SIGMA_MAX)
        low, high = high, min(2 * high, SIGMA_MAX)
    while high / low > 1 + 10.0**-_SIGMA_DIGITS:
        middle = math.sqrt(low * high)
        if _cost(middle, q, steps_total, delta, 10 * _INTERVAL) > epsilon:
            low = middle
        else:
            high = middle
    sigma = _rounded_up(high)
    while _cost(sigma, q, steps_total, delta, _INTERVAL) > epsilon:
        sigma = _rounded_up(sigma * (1 + 10.0**-_SIGMA_DIGITS))
    return sigma


def _compose(events: Sequence[DpEvent]) -> _Composed:
    full: Counter[float] = Counter()
    sampled: Counter[tuple[float, float]] = Counter()
    for event in events:
        if not event.is_private:
            continue
        if event.q == 1.0:
            full[event.sigma] += event.steps
        else:
            sampled[event.sigma, event.q] += event.steps
    mu_squared = math.fsum(steps / (sigma * sigma) for sigma, steps in full.items())
    return _Composed(mu_squared, tuple((*key, steps) for key, steps in sorted(sampled.items())))


def _epsilon(composed: _Composed, delta: float, interval: float) -> float:
    """Compute ε by whichever way is exact and affordable. `interval`: the finest PLD grid."""
    if not composed.sampled:
        return gaussian_epsilon(math.sqrt(composed.mu_squared), delta)
    bound = gaussian_epsilon(composed.unsampled, delta)
    loss_range = _loss_range(composed)
    while loss_range / interval > _POINTS_MAX:
        interval *= 2
    if interval > _INTERVAL_MAX:
        return bound
    return min(bound, _loss_distribution(composed, interval).get_epsilon_for_delta(delta))


def _loss_range(composed: _Composed) -> float:
    """Estimate how wide the composed privacy loss spreads, to keep its grid within memory.

    Crude on purpose: twice mean plus ten standard deviations, where a subsampled Gaussian's mean
    loss is at most that of χ²-divergence q²(e^(1/σ²) − 1) / 2 and at most that without sampling.
    """
    mean = composed.mu_squared / 2
    single = math.sqrt(composed.mu_squared) * 10
    for sigma, q, steps in composed.sampled:
        full = 1 / (2 * sigma * sigma)
        mean += steps * min(full, q * q * math.expm1(2 * full) / 2)
        single = max(single, full + 10 / sigma)
    return 2 * (mean + 10 * math.sqrt(2 * mean) + single)


def _loss_distribution(composed: _Composed, interval: float) -> _Pld:
    parts = [
        _sampled_gaussian(sigma, q, interval).self_compose(steps)
        for sigma, q, steps in composed.sampled
    ]
    if composed.mu_squared > 0:
        parts.append(_sampled_gaussian(1 / math.sqrt(composed.mu_squared), 1.0, interval))
    return functools.reduce(lambda total, part: total.compose(part), parts)


@functools.lru_cache(maxsize=16)
def _sampled_gaussian(sigma: float, q: float, interval: float) -> _Pld:
    """Build one release's loss distribution, the dear part: a table asks for it in every row."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    built = pld.from_gaussian_mechanism(
        sigma, sampling_prob=q, value_discretization_interval=interval
    )
    return cast(_Pld, built)


def _anchors(rounds: int, *, sampled: bool) -> list[int]:
    """Choose the rounds whose ε is computed: all, or 24 and then 40 at a constant ratio.

    1000 rounds give a ratio of 1.1; ε grows about with the root, so a row is at most 5 % too high.
    """
    if not sampled or rounds <= _ROWS_COMPUTED:
        return list(range(1, rounds + 1))
    spread = _ROWS_COMPUTED - _ROWS_FIRST
    ratio = rounds / _ROWS_FIRST
    later = {math.ceil(_ROWS_FIRST * ratio ** (i / spread)) for i in range(1, spread)}
    return sorted({*range(1, _ROWS_FIRST + 1), *later, rounds})


def _cost(sigma: float, q: float, steps: int, delta: float, interval: float) -> float:
    return _epsilon(_compose([DpEvent("poisson", sigma, q, steps)]), delta, interval)


def _rounded_up(sigma: float) -> float:
    """Round up to four significant digits, so that the manifest's text is the number used."""
    decimals = _SIGMA_DIGITS - 1 - math.floor(math.log10(sigma))
    rounded = round(sigma, decimals)
    if rounded < sigma:
        rounded = round(rounded + 10.0**-decimals, decimals)
    return rounded


def _check_delta(delta: float) -> None:
    if not DELTA_MIN <= delta <= DELTA_MAX:
        expected = f"{DELTA_MIN:g} ≤ δ ≤ {DELTA_MAX:g}"
        raise AccountingInputRefused("δ", expected=expected, actual=delta)


def _check_target(epsilon: float, q: float, steps_total: int) -> None:
    if not 0.0 < epsilon <= EPSILON_TARGET_MAX:
        expected = f"0 < ε ≤ {EPSILON_TARGET_MAX:g}"
        raise AccountingInputRefused("target ε", expected=expected, actual=epsilon)
    if not 0.0 < q <= 1.0:
        raise AccountingInputRefused("sampling rate q", expected="0 < q ≤ 1", actual=q)
    if not 1 <= steps_total <= STEPS_MAX:
        expected = f"1 … {STEPS_MAX}"
        raise AccountingInputRefused("steps in total", expected=expected, actual=steps_total)
