"""A study's patients as a bundle's dataset takes them: a sequence of dictionaries, made when asked.

Must not import monai: what makes datasets of this is the bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfl.core.manifest_terms import DataTerms
from p2pfl.learning.datasets.patients import Patients, Values

IMAGE, COLUMNS, LABEL = "image", "columns", "label"
"""Keys of a record; the first and the last are what MONAI's engines look for."""


class Records:
    """One dictionary for each patient: `image` (the first input), `columns` (the second), `label`.

    draws: where images are cut out, for training; None gives the same record each time.
    """

    def __init__(self, patients: Patients, draws: np.random.Generator | None = None) -> None:
        self._patients = patients
        self._draws = draws

    def __len__(self) -> int:
        return self._patients.size

    def __getitem__(self, index: int) -> dict[str, Values]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        batch = self._patients.batch(np.array([index % len(self)]), self._draws)
        # Copies: a transform may work in place.
        inputs = [part[0].copy() for part in batch.inputs]
        named = dict(zip((IMAGE, COLUMNS), inputs, strict=False))
        # A single number becomes a vector of one, the shape of an output of one.
        return {**named, LABEL: np.atleast_1d(batch.target[0]).copy()}

    def __iter__(self) -> Iterator[dict[str, Values]]:
        return (self[index] for index in range(len(self)))


def facts_of(data: DataTerms) -> dict[str, object]:
    """What a configuration may ask about the study's data, by the names that it may use."""
    images = data.images
    facts: dict[str, object] = {"features": data.features}
    if images is not None:
        facts |= {
            "channels": images.channels,
            "window": list(images.window),
            "regions": len(images.regions),
        }
    return facts
