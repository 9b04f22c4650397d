"""Patients as a cell is given them: arrays, and nothing of who they are. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import DataTerms, SurvivalTarget
from p2pfl.learning.datasets.augmentation import Augmentation
from p2pfl.learning.datasets.patients import Batch, Rows, Values
from p2pfl.learning.datasets.tabular import feature_names


@dataclass(frozen=True, slots=True)
class GivenPatients:
    """A batch as `Patients`, so that a plan's own score can be asked for."""

    given: Batch

    @property
    def size(self) -> int:
        """n, the number of patients."""
        return len(self.given.target)

    @property
    def patients(self) -> tuple[bytes, ...]:
        """Who they are stays with the worker."""
        return ()

    @property
    def labels(self) -> Values:
        """float32[n], 0 or 1: a table's target; of images, whether anything is marked."""
        target = self.given.target
        flat = target.reshape(len(target), -1).max(axis=1, initial=0.0)
        labels: Values = (flat > 0.5).astype(np.float32)
        return labels

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is said."""
        return ()

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """The patients where `chosen` (bool[n]) is true."""
        inputs = tuple(part[chosen] for part in self.given.inputs)
        return type(self)(Batch(inputs, self.given.target[chosen]))

    def augmented(self, augmentation: Augmentation | None) -> Self:
        """As they are."""
        return self

    def batch(self, chosen: Rows | None, generator: np.random.Generator | None) -> Batch:
        """The records at `chosen`, None for all."""
        if chosen is None:
            return self.given
        return Batch(tuple(part[chosen] for part in self.given.inputs), self.given.target[chosen])


def patient_of_zeros(data: DataTerms) -> Batch:
    """Nobody's record, in the shape of everybody's: what a plan is tried and timed on."""
    width, images = len(feature_names(data.columns)), data.images
    inputs = [np.zeros((1, width), np.float32)] if width else []
    if images is not None:
        inputs.insert(0, np.zeros((1, images.channels, *images.window), np.float32))
        if data.target is None:
            marked = np.zeros((1, len(images.regions), *images.window), np.float32)
            return Batch(tuple(inputs), marked)
    shape = (1, 2) if isinstance(data.target, SurvivalTarget) else (1,)
    return Batch(tuple(inputs), np.zeros(shape, np.float32))
