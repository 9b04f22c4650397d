"""The hold-out is decided per patient, and in private studies by nobody else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learn_manifests import PRIVATE, manifest

from p2pfl.core.manifest_terms import DataTerms, NumberColumn, Target
from p2pfl.learning.datasets.holdout import Cut, held_out_patients, split
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import DataRefused

TERMS = DataTerms(
    "tabular", 2, 0.34, Target("sick", 0.0), (NumberColumn("age", 20.0, 60.0, 30.0, ()),)
)


def patients(n: int) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(str(i).encode()).digest() for i in range(n))


def labels(n: int) -> np.ndarray:
    return (np.arange(n) % 4 == 0).astype(np.float32)


def a_set(n: int) -> Prepared:
    features = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
    return Prepared(features, labels(n), ("age",), patients(n), ())


def test_a_stratified_cut_takes_the_share_of_each_label() -> None:
    held_out = held_out_patients(patients(100), labels(100), 0.34, 7, Cut.STRATIFIED)
    assert held_out[labels(100) == 0].sum() == 26  # 25.5 rounded
    assert held_out[labels(100) == 1].sum() == 9  # 8.5 rounded


@given(st.integers(2, 60), st.integers(0, 1 << 40), st.data())
def test_in_an_independent_cut_one_more_patient_moves_nobody(
    n: int, seed: int, data: st.DataObject
) -> None:
    left_out = data.draw(st.integers(0, n - 1))
    rest = [i for i in range(n) if i != left_out]
    everyone = held_out_patients(patients(n), labels(n), 0.34, seed, Cut.INDEPENDENT)
    without = held_out_patients(
        [patients(n)[i] for i in rest], labels(n)[rest], 0.34, seed, Cut.INDEPENDENT
    )
    assert np.array_equal(everyone[rest], without)


def test_an_independent_cut_holds_out_about_the_share() -> None:
    held_out = held_out_patients(patients(4000), labels(4000), 0.34, 7, Cut.INDEPENDENT)
    assert held_out.mean() == pytest.approx(0.34, abs=0.03)


def test_the_cut_follows_the_patient_and_not_the_order_of_rows() -> None:
    for cut in Cut:
        forward = held_out_patients(patients(50), labels(50), 0.34, 7, cut)
        backward = held_out_patients(patients(50)[::-1], labels(50)[::-1], 0.34, 7, cut)
        assert np.array_equal(forward, backward[::-1])


def test_another_seed_or_other_patients_give_another_cut() -> None:
    first = held_out_patients(patients(50), labels(50), 0.34, 7, Cut.STRATIFIED)
    other_seed = held_out_patients(patients(50), labels(50), 0.34, 8, Cut.STRATIFIED)
    other_site = held_out_patients(patients(150)[100:], labels(50), 0.34, 7, Cut.STRATIFIED)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_site)


def test_private_studies_cut_independently_and_the_others_stratify() -> None:
    plain_train, plain_holdout = split(a_set(200), manifest(TERMS))
    private_train, _ = split(a_set(200), manifest(TERMS, privacy=PRIVATE))
    assert plain_holdout.size == 68
    assert set(plain_train.patients).isdisjoint(plain_holdout.patients)
    assert plain_train.size + plain_holdout.size == 200
    independent = held_out_patients(patients(200), labels(200), 0.34, 7, Cut.INDEPENDENT)
    assert private_train.size == int((~independent).sum())


def test_rows_stay_with_their_patients() -> None:
    everyone = a_set(60)
    train, _ = split(everyone, manifest(TERMS))
    of_patient = dict(zip(everyone.patients, everyone.features[:, 0].tolist(), strict=True))
    assert [of_patient[patient] for patient in train.patients] == train.features[:, 0].tolist()


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(DataRefused, match="and 0 held out"):
        split(a_set(2), manifest(TERMS))
