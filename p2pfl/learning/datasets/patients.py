"""What training asks of a site's patients, whatever they are made of: one record each, in batches.

Must not import torch: images and tables are prepared as numpy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from p2pfl.learning.datasets.augmentation import Augmentation

Rows = NDArray[np.int64]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some patients as a model takes them.

    inputs: one float32[n, …] per input of the model; target: float32[n, …].
    """

    inputs: tuple[Values, ...]
    target: Values


class Patients(Protocol):
    """One record per patient: the unit of privacy, of sampling and of the hold-out."""

    @property
    def size(self) -> int:
        """n, the number of patients."""

    @property
    def patients(self) -> tuple[bytes, ...]:
        """n keys that tell patients apart (32 bytes each, never leave the process)."""

    @property
    def labels(self) -> Values:
        """float32[n], 0 or 1: what a stratified hold-out keeps in proportion."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the data's keeper, with counts but without values."""

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """The patients where `chosen` (bool[n]) is true."""

    def augmented(self, augmentation: Augmentation | None) -> Self:
        """The same patients, drawn a little differently each time; None: as they are."""

    def batch(self, chosen: Rows | None, generator: np.random.Generator | None) -> Batch:
        """The records at `chosen`, None for all.

        generator: draws places and augmentation for training; None: the same answer each time.
        Raises DataRefused.
        """
