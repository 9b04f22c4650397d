"""Public sizes: how many patients a site says it has, and no more.

Responsible for rounding a patient count to a short public series, so that weights, denominators
and sampling rates never need the exact number. Must not know what the size is used for.

A bucket changes only where one patient crosses an edge of the series. That single bit is made
public by the data owner's decision, on record, and is not covered by ε.
"""

from bisect import bisect_right
from typing import Final

from p2pfl.privacy.errors import TooFewPatients

PATIENTS_MIN: Final = 10

_RENARD_R10: Final = (100, 125, 160, 200, 250, 315, 400, 500, 630, 800)  # ISO 3: ratio 10^(1/10)
_DECADES: Final = 8
_SERIES: Final = tuple(
    step * int(10**decade) // 10 for decade in range(_DECADES) for step in _RENARD_R10
)


def patients_bucket(patients: int) -> int:
    """Round a number of patients down to the public Renard series R10 (10, 12, 16, 20, 25, …).

    patients ≥ 10. Returns a bucket ≤ patients, at most a quarter below the next one; never more
    than the site has, so that noise divided by it is never too small.
    Raises TooFewPatients below the smallest bucket.

    >>> [patients_bucket(n) for n in (10, 123, 200, 294, 303)]
    [10, 100, 200, 250, 250]
    """
    if patients < PATIENTS_MIN:
        raise TooFewPatients(patients=patients, patients_min=PATIENTS_MIN)
    return _SERIES[bisect_right(_SERIES, patients) - 1]


def is_patients_bucket(value: int) -> bool:
    """Tell whether a number from elsewhere belongs to the public series."""
    at = bisect_right(_SERIES, value) - 1
    return at >= 0 and _SERIES[at] == value
