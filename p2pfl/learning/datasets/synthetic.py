"""Patients who do not exist, drawn by a study's [data] section: to try a plan without any data.

What is drawn has the right shapes and ranges and no meaning. Made in memory, from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import CategoryColumn, DataTerms, SurvivalTarget
from p2pfl.learning.datasets.patients import Batch, Rows, Values

if TYPE_CHECKING:
    from p2pfl.learning.datasets.augmentation import Augmentation

TIME_MAX: Final = 1000.0
"""Survival times are drawn up to here, in whatever unit the study counts."""


@dataclass(frozen=True, slots=True)
class SyntheticPatients:
    """inputs: one float32[n, …] per input of the model; target: float32[n, …]."""

    inputs: tuple[Values, ...]
    target: Values
    labels: Values
    patients: tuple[bytes, ...]
    notes: tuple[str, ...] = ("patients that do not exist, drawn by the study's schema",)

    @property
    def size(self) -> int:
        """n."""
        return len(self.labels)

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """The patients where `chosen` is true."""
        kept = tuple(key for key, is_kept in zip(self.patients, chosen, strict=True) if is_kept)
        return replace(
            self,
            inputs=tuple(part[chosen] for part in self.inputs),
            target=self.target[chosen],
            labels=self.labels[chosen],
            patients=kept,
        )

    def augmented(self, augmentation: Augmentation | None) -> Self:
        """As they are."""
        return self

    def batch(self, chosen: Rows | None, generator: np.random.Generator | None) -> Batch:
        """The records at `chosen`, None for all."""
        rows = np.arange(self.size) if chosen is None else chosen
        return Batch(tuple(part[rows] for part in self.inputs), self.target[rows])


def synthetic_patients(terms: DataTerms, n: int, seed: int) -> SyntheticPatients:
    """n patients with both outcomes, where the study has outcomes. n ≥ 2."""
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = (np.arange(n) % 2).astype(np.float32)
    images = terms.images
    inputs: list[Values] = []
    if images is not None:
        shape = (n, images.channels, *images.window)
        inputs.append(generator.standard_normal(shape).astype(np.float32))
    if terms.columns:
        inputs.append(_columns(terms, n, generator))
    if images is not None and images.regions and terms.target is None:
        marks = generator.random((n, len(images.regions), *images.window)) < 0.2
        target: Values = marks.astype(np.float32)
    elif isinstance(terms.target, SurvivalTarget):
        times = generator.uniform(1.0, TIME_MAX, n).astype(np.float32)
        target = np.stack([times, labels], axis=1)
    else:
        labels = labels if terms.target is not None else np.zeros(n, dtype=np.float32)
        target = labels
    keys = tuple(b"synthetic" + number.to_bytes(23, "big") for number in range(n))
    return SyntheticPatients(tuple(inputs), target, labels, keys)


def _columns(terms: DataTerms, n: int, generator: np.random.Generator) -> Values:
    """Prepared columns, float32[n, p]: numbers in −1…1, one code of each category."""
    parts: list[Values] = []
    for column in terms.columns:
        if isinstance(column, CategoryColumn):
            size = len(column.categories)
            parts.append(np.eye(size, dtype=np.float32)[generator.integers(size, size=n)])
        else:
            parts.append(generator.uniform(-1.0, 1.0, (n, 1)).astype(np.float32))
    return np.concatenate(parts, axis=1)
