"""Scaling columns by released statistics: subtract the mean, divide by the standard deviation.

Responsible for the layout of a statistics vector and for what it says about columns. The numbers
were released by another study, noised where it was private, so using them costs no privacy; they
may have come from liars, so what makes no sense is refused. Must not import torch.

Layout per number column, everything about the value scaled to −1…1 by the agreed range:
present [1], sum [1], squares [1], histogram [bins]; per category column: present [1], counts
[categories]. `sum` and `squares` are of value − centre; the centres, public, stand at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import CategoryColumn, Column, NumberColumn
from p2pfl.learning.errors import StatisticsRefused
from p2pfl.learning.vector import NamedShape, Schema, Vector, unflatten

CONSTANT: Final = 1e-8
"""A variance (of values scaled to −1…1) below which a column says the same of everybody."""
NOISE_VARIANCE: Final = -0.01
"""Noise may push a small variance below zero; further below, the statistics are no statistics."""

Standards = Mapping[str, tuple[float, float]]
"""Column → mean and standard deviation of the value scaled to −1…1 by the agreed range."""


@dataclass(frozen=True, slots=True)
class NumberSeen:
    """A column over all sites. present: patients with a value, in units of the study's scale;
    mean, variance: of the value scaled to −1…1; histogram: float64[bins], as present.
    """

    present: float
    mean: float
    variance: float
    histogram: NDArray[np.float64]

    @property
    def deviation(self) -> float:
        """Standard deviation; 1 where the column says the same of everybody."""
        return math.sqrt(self.variance) if self.variance > CONSTANT else 1.0


def sums_schema(columns: Sequence[Column], bins: int) -> Schema:
    """The sums of all columns."""
    tensors: list[NamedShape] = [NamedShape("patients", (1,))]
    for place, column in enumerate(columns):
        tensors.append(NamedShape(named(place, column, "present"), (1,)))
        if isinstance(column, CategoryColumn):
            width = len(column.categories)
            tensors.append(NamedShape(named(place, column, "counts"), (width,)))
        else:
            tensors += [
                NamedShape(named(place, column, "sum"), (1,)),
                NamedShape(named(place, column, "squares"), (1,)),
                NamedShape(named(place, column, "histogram"), (bins,)),
            ]
    return Schema(tuple(tensors))


def named(place: int, column: Column, part: str) -> str:
    """The tensor of a column's part; the place keeps it unique whatever columns are called."""
    return f"{place} {column.name} {part}"


def centres_schema(columns: Sequence[Column]) -> Schema:
    """One public centre per number column, in one tensor; empty without number columns."""
    numbers = sum(isinstance(column, NumberColumn) for column in columns)
    return Schema((NamedShape("centres", (numbers,)),) if numbers else ())


def vector_schema(columns: Sequence[Column], bins: int) -> Schema:
    """Sums, then centres."""
    return Schema((*sums_schema(columns, bins).tensors, *centres_schema(columns).tensors))


def bins_of(columns: Sequence[Column], parameters: int) -> int:
    """How many bins a vector of this length has. Raises StatisticsRefused."""
    numbers = sum(isinstance(column, NumberColumn) for column in columns)
    rest = parameters - vector_schema(columns, 0).parameters
    if numbers and (rest <= 0 or rest % numbers):
        raise StatisticsRefused(
            f"{parameters} numbers do not describe these {len(columns)} columns: the statistics "
            "were computed over other ones"
        )
    return rest // numbers if numbers else 0


def numbers_seen(columns: Sequence[Column], vector: Vector) -> dict[str, NumberSeen]:
    """What a statistics vector (float32[d]) says of the number columns. Raises StatisticsRefused.

    Only columns of the same names in the same order, with the same ranges, give the same meaning;
    that is for the study that names the statistics to keep.
    """
    found: dict[str, NumberSeen] = {}
    for name, seen in numbers_told(columns, vector).items():
        if isinstance(seen, StatisticsRefused):
            raise seen
        found[name] = seen
    return found


def numbers_told(
    columns: Sequence[Column], vector: Vector
) -> dict[str, NumberSeen | StatisticsRefused]:
    """Like `numbers_seen`, with what is wrong of a column in its place.

    Raises StatisticsRefused for a vector of another length.
    """
    bins = bins_of(columns, len(vector))
    schema = vector_schema(columns, bins)
    if schema.parameters != len(vector):
        raise StatisticsRefused(f"{len(vector)} numbers, expected {schema.parameters}")
    tensors = unflatten(vector, schema)
    found: dict[str, NumberSeen | StatisticsRefused] = {}
    for place, column in enumerate(columns):
        if isinstance(column, NumberColumn):
            parts = [
                tensors[named(place, column, part)].astype(np.float64)
                for part in ("present", "sum", "squares", "histogram")
            ]
            centre = float(tensors["centres"][len(found)])
            try:
                found[column.name] = _number(column.name, centre, parts)
            except StatisticsRefused as refused:
                found[column.name] = refused
    return found


def _number(name: str, centre: float, parts: Sequence[NDArray[np.float64]]) -> NumberSeen:
    """parts: present, sum, squares (float64[1] each), histogram."""
    present, total, squares = (float(part[0]) for part in parts[:3])
    if present <= 0.0:
        raise StatisticsRefused(f'column "{name}": no patient has a value, or the noise hides them')
    shift = total / present
    mean, variance = centre + shift, squares / present - shift * shift
    if not (-1.5 <= mean <= 1.5 and NOISE_VARIANCE <= variance <= 4.0):
        raise StatisticsRefused(
            f'column "{name}": mean {mean:.3g} and variance {variance:.3g} of values in −1…1 '
            "cannot be: too much noise for so few patients, or a site that lied"
        )
    return NumberSeen(present, mean, variance, parts[3])


def standards_of(columns: Sequence[Column], vector: Vector) -> Standards:
    """How a statistics vector scales columns. Raises StatisticsRefused."""
    return {
        name: (seen.mean, seen.deviation) for name, seen in numbers_seen(columns, vector).items()
    }


def quantile(seen: NumberSeen, share: float) -> float:
    """The value (in −1…1) below which `share` of the patients lie, by the histogram.

    Linear inside a bin: off by at most one bin's width, 2 / bins. Negative counts, from noise,
    count as none. Returns NaN where the histogram is empty.

    >>> even = NumberSeen(4.0, 0.0, 1.0, np.array([1.0, 1.0, 1.0, 1.0]))
    >>> quantile(even, 0.5)
    0.0
    """
    counts = np.maximum(seen.histogram, 0.0)
    below = np.concatenate([[0.0], np.cumsum(counts)])
    if below[-1] <= 0.0:
        return math.nan
    edges = np.linspace(-1.0, 1.0, len(counts) + 1)
    return float(np.interp(share * below[-1], below, edges))
