"""The exact ε of composed Gaussian mechanisms without subsampling, in the standard library alone.

Responsible for the one case with a closed form, so that a node can answer it in microseconds and
without importing an accountant. Must not know events or budgets.

Source: Balle & Wang, "Improving the Gaussian mechanism for differential privacy", 2018, theorem 8;
Dong, Roth & Su, "Gaussian differential privacy", 2022, corollary 3.3 (composition adds μ²).
"""

import math
from typing import Final

_ROUND_UP: Final = 1.0 + 1e-12  # covers the rounding of erfc and of the bisection's last step
_BISECTIONS: Final = 80


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Compute the smallest δ at which a μ-GDP mechanism is (ε, δ)-private.

    mu: μ = sqrt(Σ steps / σ²) > 0; epsilon ≥ 0. Returns δ in [0, 1].

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    far = _log_normal_cdf(mu / 2 - epsilon / mu)
    near = epsilon + _log_normal_cdf(-mu / 2 - epsilon / mu)
    if near >= far:  # both agree to the last bit: nothing is left of the difference
        return 0.0
    return math.exp(far) * -math.expm1(near - far)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Compute the smallest ε at which a μ-GDP mechanism is (ε, δ)-private, rounded up.

    mu ≥ 0 (0: nothing was released); delta in (0, 1). Returns ε ≥ 0.

    >>> round(gaussian_epsilon(1.0, 1e-5), 4)
    4.3772
    """
    if mu == 0.0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))  # zCDP's upper bound
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if gaussian_delta(mu, middle) <= delta:
            high = middle
        else:
            low = middle
    return high * _ROUND_UP


def _log_normal_cdf(x: float) -> float:
    """Compute log Φ(x); below −30, where erfc leaves the doubles, by its asymptotic series."""
    if x > -30.0:
        return math.log(math.erfc(-x / math.sqrt(2.0)) / 2)
    square = x * x
    series = (-1 + (3 - 15 / square) / square) / square
    return -square / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(series)
