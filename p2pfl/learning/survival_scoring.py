"""How well a risk orders patients by when something happens to them. numpy only."""

from __future__ import annotations

from typing import Final

import numpy as np

from p2pfl.learning.scoring import Values

ROWS_AT_ONCE: Final = 512


def concordance(risk: Values, times: Values, events: Values) -> float | None:
    """The share of comparable pairs in which the one at more risk has the event first.

    float[n] each; events 0 or 1. A pair is comparable where the earlier of two different times is
    an event; equal risks count half. Returns None if there is no such pair.
    Source: Harrell et al. 1982.

    >>> concordance(np.array([2.0, 1.0, 0.0]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0]))
    1.0
    """
    comparable, right = 0, 0.0
    first = np.flatnonzero(events > 0.5)
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = first[start : start + ROWS_AT_ONCE]
        later = times[None, :] > times[rows, None]
        ahead = risk[rows, None] - risk[None, :]
        comparable += int(later.sum())
        right += float((later & (ahead > 0)).sum()) + 0.5 * float((later & (ahead == 0)).sum())
    return right / comparable if comparable else None
