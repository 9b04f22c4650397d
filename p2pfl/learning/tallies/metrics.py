"""What summed metrics of a yes-or-no model say: AUC, accuracy, Brier score, calibration.

numpy only. Sums may carry noise: negative counts count as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.errors import StatisticsRefused
from p2pfl.learning.vector import Vector

GROUPS = 10
"""Of the calibration table."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """measures: by name; auc is missing where only one outcome occurs. calibration: mean
    prediction, share of positives and number of patients per group of predictions.
    """

    measures: Mapping[str, float]
    calibration: tuple[tuple[float, float, float], ...]


def metrics_of(tensors: Mapping[str, Vector]) -> Metrics:
    """tensors: patients, correct, brier, histogram [2, bins]. Raises StatisticsRefused."""
    patients = float(tensors["patients"][0])
    if patients <= 0.0:
        raise StatisticsRefused("no patient was counted, or the noise hides them")
    counts = np.maximum(tensors["histogram"].astype(np.float64), 0.0)
    measures = {
        "accuracy": _share(float(tensors["correct"][0]) / patients),
        "brier": _share(float(tensors["brier"][0]) / patients),
        "positives": _share(float(counts[1].sum() / max(counts.sum(), 1e-12))),
    }
    area = histogram_auc(counts[0], counts[1])
    if area is not None:
        measures["auc"] = area
    return Metrics(measures, tuple(_calibration(counts)))


def histogram_auc(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> float | None:
    """The chance that a random positive falls into a higher bin than a random negative; within
    one bin half. float64[bins] each. None where one of them is empty.

    >>> histogram_auc(np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    0.75
    """
    pairs = float(negative.sum() * positive.sum())
    if pairs <= 0.0:
        return None
    below = np.cumsum(negative) - negative
    return float(np.sum(positive * (below + 0.5 * negative)) / pairs)


def _calibration(counts: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    bins = counts.shape[1]
    middles = (np.arange(bins) + 0.5) / bins
    rows = []
    for group in np.array_split(np.arange(bins), min(GROUPS, bins)):
        inside = counts[:, group].sum(axis=0)
        n = float(inside.sum())
        if n > 0.0:
            predicted = float((inside * middles[group]).sum() / n)
            rows.append((predicted, float(counts[1, group].sum() / n), n))
    return rows


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
