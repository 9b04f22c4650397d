"""How good a model is on held-out patients: AUC, accuracy, loss.

Scores are computed from patients and stay at the site. numpy only, so that anyone can check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32] | NDArray[np.float64]

BINS: Final = 10
"""Of the calibration error."""


@dataclass(frozen=True, slots=True)
class Score:
    """A model on n patients. `auc` is None when only one label is present; loss is in nats.

    accuracy: the plan's headline measure in 0…1, the share predicted correctly unless the plan
    says otherwise (mean Dice of a segmentation, concordance of a survival model); measures: by
    name, whatever else the plan measures.
    """

    auc: float | None
    accuracy: float
    loss: float
    n: int
    measures: Mapping[str, float] = field(default_factory=dict)


def score(log_odds: Values, labels: Values) -> Score:
    """Score predictions. log_odds: float[n], > 0 predicts 1; labels: float[n], 0 or 1; n ≥ 1."""
    odds = log_odds.astype(np.float64)
    correct = (odds > 0.0) == (labels > 0.5)
    signed = np.where(labels > 0.5, odds, -odds)
    chances = np.exp(-np.logaddexp(0.0, -odds))
    return Score(
        auc=area_under_curve(odds, labels),
        accuracy=float(correct.mean()),
        loss=float(np.logaddexp(0.0, -signed).mean()),
        n=len(labels),
        measures={"calibration error": calibration_error(chances, labels)},
    )


def calibration_error(chances: NDArray[np.float64], labels: Values) -> float:
    """How far predicted chances are from what happened, weighed over ten equal bins; 0 is best.

    chances: float64[n] of 1; labels: float[n], 0 or 1. Source: Naeini et al. 2015.

    >>> calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([1.0, 1.0, 0.0, 0.0]))
    0.1
    """
    place = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    said = np.bincount(place, weights=chances, minlength=BINS)
    seen = np.bincount(place, weights=labels > 0.5, minlength=BINS)
    off = np.abs(said - seen)[counts > 0].sum() / len(chances)
    return round(float(off), 12)


def area_under_curve(scores: Values, labels: Values) -> float | None:
    """The chance that a random positive scores above a random negative; ties count half.

    scores: float[n]; labels: float[n], 0 or 1. Returns None if one label is missing.
    Source: Mann & Whitney 1947; with mid-ranks for ties.

    >>> area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]))
    0.75
    """
    positive = labels > 0.5
    positives = int(positive.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(mid_ranks[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)
