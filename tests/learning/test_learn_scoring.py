"""Scores against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from p2pfl.learning.scoring import area_under_curve, score

# Few distinct values, so that ties are common.
PATIENTS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40)


@given(PATIENTS)
def test_scores_are_scikit_learn_s_also_with_ties(patients: list[tuple[int, bool]]) -> None:
    odds = np.array([value for value, _ in patients], dtype=np.float32)
    labels = np.array([label for _, label in patients], dtype=np.float32)
    assume(0 < labels.sum() < len(labels))
    found = score(odds, labels)
    probabilities = 1.0 / (1.0 + np.exp(-odds.astype(np.float64)))
    assert found.auc == pytest.approx(roc_auc_score(labels, odds))
    assert found.accuracy == pytest.approx(accuracy_score(labels, probabilities > 0.5))
    assert found.loss == pytest.approx(log_loss(labels, probabilities))
    assert found.n == len(labels)


def test_with_one_label_there_is_no_area() -> None:
    assert area_under_curve(np.array([1.0, 2.0]), np.array([1.0, 1.0])) is None
    assert score(np.array([1.0, 2.0]), np.array([0.0, 0.0])).auc is None


def test_a_confident_wrong_prediction_has_a_finite_loss() -> None:
    assert score(np.array([1e4]), np.array([0.0])).loss == 1e4
