"""What guessing canaries says about ε: a lower bound from one run.

Each of m canaries was put into the data by a fair coin. Whoever sees what was released guesses of
r of them whether they were in, and is right v times. Under (ε, δ)-privacy that rarely goes better
than r coins with bias e^ε / (1 + e^ε); the ε at which v would be a surprise is a lower bound.

Source: Steinke, Nasr & Jagielski, NeurIPS 2023, "Privacy auditing with one (1) training run",
theorem 5.2 and appendix D.
"""

from __future__ import annotations

import math
from typing import Final

from scipy.stats import binom

_BISECTIONS: Final = 60
EPSILON_MAX: Final = 100.0


def surprise(m: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How likely at least `right` of `guesses` are right under (ε, δ)-privacy, at most.

    0 ≤ right ≤ guesses ≤ m canaries. Returns a p-value in 0…1.

    >>> round(surprise(10, 10, 10, 0.0, 0.0), 6)
    0.000977
    """
    if not 0 <= right <= guesses <= m:
        raise ValueError(f"{right} right of {guesses} guesses of {m} canaries")
    bias = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, bias))
    worst = total = 0.0
    for i in range(1, right + 1):
        total += float(binom.pmf(right - i, guesses, bias))
        worst = max(worst, total / i)
    return min(1.0, tail + worst * delta * 2.0 * m)


def epsilon_lower(m: int, guesses: int, right: int, delta: float, *, error: float) -> float:
    """The largest ε that can be excluded: the true one is larger, except with probability error.

    >>> round(epsilon_lower(100, 100, 100, 0.0, error=0.05), 2)
    3.49
    """
    if surprise(m, guesses, right, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, EPSILON_MAX
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if surprise(m, guesses, right, middle, delta) <= error:
            low = middle
        else:
            high = middle
    return low
