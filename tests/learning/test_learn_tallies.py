"""Studies that count: sums over sites are the pooled ones, noised as accounted, and bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learn_manifests import LOGISTIC, manifest_bytes
from learn_tallies import (
    SITES,
    TERMS,
    averaged,
    counted_together,
    csv_of,
    evaluation,
    pooled_values,
    prepared,
    private,
    statistics,
)

from p2pfl.core.errors import Inconsistent, OutOfRange
from p2pfl.core.manifest import parse_manifest
from p2pfl.learning.datasets.tabular import prepare
from p2pfl.learning.errors import PlanRefused, PrivacyRefused, StatisticsRefused
from p2pfl.learning.materials import Materials
from p2pfl.learning.scoring import area_under_curve
from p2pfl.learning.standardisation import numbers_seen, quantile, standards_of
from p2pfl.learning.tallies import tally_of
from p2pfl.learning.tallies.metrics import metrics_of
from p2pfl.learning.tallies.report import report
from p2pfl.learning.tallies.tally import clip_norm, noise_in_update, schema_of, tallied
from p2pfl.learning.vector import unflatten
from p2pfl.privacy.noise import GaussianStream


def test_federated_standardisation_is_the_pooled_one_to_a_millionth(tmp_path: Path) -> None:
    study = statistics(rounds=2)
    released = counted_together(study)
    standards = standards_of(TERMS.columns, released)
    pooled = pooled_values()
    for place in (0, 1):
        values = pooled[:, place]
        known = values[~np.isnan(values)]
        expected = (known - known.mean()) / known.std()
        at = 0
        for site in range(SITES):
            table = csv_of(tmp_path, site)
            own = prepare(table, TERMS, patient_column="", standards=standards)
            mine = own.features[:, place][own.present[:, place]]
            there = expected[at : at + len(mine)]
            assert np.abs(mine - there).max() < 1e-6
            at += len(mine)
            assert (own.features[:, place][~own.present[:, place]] == 0.0).all()
        assert at == len(known)


def test_quantiles_of_all_sites_are_the_pooled_ones_to_one_bin() -> None:
    seen = numbers_seen(TERMS.columns, counted_together(statistics(rounds=1)))["age"]
    ages = pooled_values()[:, 0]
    for share in (0.1, 0.25, 0.5, 0.9):
        expected = (np.nanquantile(ages, share) - 20.0) / 35.0 - 1.0
        assert abs(quantile(seen, share) - expected) <= 2.0 / 32 + 1e-6


def test_every_site_gets_the_same_bits_whoever_it_is() -> None:
    study = statistics(rounds=1)
    found = averaged(study, [np.zeros(study.study.parameters, dtype=np.float32)] * SITES, 0)
    assert len({one.tobytes() for one in found}) == 1


def test_the_noise_of_a_private_count_is_what_was_accounted() -> None:
    study = private(statistics(rounds=1))
    plan = tally_of(study)
    base = np.zeros(study.study.parameters, dtype=np.float32)
    nobody = prepared(0).rows(np.zeros(prepared(0).size, dtype=np.bool_))
    drawn = [
        tallied(
            plan,
            study,
            nobody,
            base,
            0,
            denominator=40,
            materials=Materials(),
            stream=GaussianStream(bytes([key]) * 32),
        )
        for key in range(60)
    ]
    sums = np.stack(drawn)[:, : plan.sums_schema(study).parameters]
    expected = study.privacy.noise_multiplier * study.privacy.clip_norm / 1000
    assert noise_in_update(plan, study) == pytest.approx(expected)
    assert sums.std() == pytest.approx(expected, rel=0.05)


def test_no_patient_contributes_more_than_the_clip_norm() -> None:
    study = private(statistics(rounds=1))
    plan, patients = tally_of(study), prepared(0)
    public = plan.public(study, np.zeros(study.study.parameters, dtype=np.float32), 0)
    (block,) = plan.contributions(study, patients, public, Materials())
    norms = np.linalg.norm(block, axis=1)
    assert norms.max() <= plan.bound(study) <= study.privacy.clip_norm
    assert clip_norm(plan, study) == study.privacy.clip_norm


def test_a_clip_norm_below_a_patients_contribution_is_refused() -> None:
    study = private(statistics(rounds=1))
    small = replace(study, privacy=replace(study.privacy, clip_norm=1.0))
    with pytest.raises(PrivacyRefused, match="changes the sums by up to"):
        tally_of(small).check(small)


def test_a_second_private_round_is_refused() -> None:
    study = private(statistics(rounds=1))
    twice = replace(study, study=replace(study.study, rounds=2))
    with pytest.raises(PrivacyRefused, match="rounds = 1"):
        tally_of(twice).check(twice)


def test_two_rounds_need_sites_that_all_hear_each_other() -> None:
    study = statistics(rounds=2)
    loose = replace(study, study=replace(study.study, neighbours_min=2))
    with pytest.raises(PlanRefused, match="neighbours_min = 3"):
        tally_of(loose).check(loose)


def test_a_site_larger_than_the_study_expects_says_so_itself() -> None:
    study = statistics(rounds=1, value_max=0.001)
    with pytest.raises(PlanRefused, match="value_max"):
        counted_together(study)


def test_statistics_that_cannot_be_are_refused() -> None:
    study = statistics(rounds=1)
    released = counted_together(study)
    schema = schema_of(tally_of(study), study)
    place = 0
    for tensor in schema.tensors:
        if tensor.name == "0 age squares":
            break
        place += tensor.size
    lied = released.copy()
    lied[place] = 40.0
    with pytest.raises(StatisticsRefused, match='column "age"'):
        standards_of(TERMS.columns, lied)
    with pytest.raises(StatisticsRefused, match="no patient has a value"):
        standards_of(TERMS.columns, np.zeros_like(released))


def test_one_liar_moves_a_plain_mean_no_further_than_the_bound_and_a_median_hardly() -> None:
    limit = 0.06
    for per, rule, bound in (("patients", "mean", 2 * limit / SITES), ("sites", "median", 0.2)):
        study = statistics(rounds=1, per=per, rule=rule)
        zeros = [np.zeros(study.study.parameters, dtype=np.float32)] * SITES
        honest = averaged(study, zeros, 0)[0]
        lie = np.full(study.study.parameters, limit if rule == "mean" else 1e6, dtype=np.float32)
        moved = averaged(study, zeros, 0, liar=lie)[0]
        patients = slice(0, 1 + 3)  # count, and the first column's count, sum and squares
        assert np.abs(moved[patients] - honest[patients]).max() <= bound


def test_a_column_that_noise_drowned_is_named_and_the_others_are_told() -> None:
    study = statistics(rounds=1)
    released = counted_together(study)
    plan = tally_of(study)
    at = 0
    for tensor in schema_of(plan, study).tensors:
        if tensor.name.endswith("squares"):
            break
        at += tensor.size
    drowned = released.copy()
    drowned[at] = -1.0
    columns = report(study, drowned)["columns"]
    assert isinstance(columns, list)
    assert [("unusable" in column, "mean" in column) for column in columns[:2]] == [
        (True, False),
        (False, True),
    ]
    assert "too much noise" in columns[0]["unusable"]


def test_metrics_of_all_sites_are_those_of_the_pooled_patients() -> None:
    study, odds, labels = evaluation()
    released = counted_together(study)
    tensors = unflatten(released, schema_of(tally_of(study), study))
    found = metrics_of(tensors).measures
    probability = 1.0 / (1.0 + np.exp(-odds))
    expected = area_under_curve(odds, labels)
    assert expected is not None
    assert found["auc"] == pytest.approx(expected, abs=0.02)
    assert found["brier"] == pytest.approx(float(np.mean((probability - labels) ** 2)), abs=1e-6)
    assert found["accuracy"] == pytest.approx(
        float(np.mean((odds > 0) == (labels > 0.5))), abs=1e-6
    )
    told = report(study, released)
    assert told["patients"] == pytest.approx(len(labels), abs=1e-3)


def test_a_private_evaluation_on_a_stratified_holdout_needs_twice_the_norm() -> None:
    study, _, _ = evaluation(part="holdout", cut="stratified")
    plan = tally_of(study)
    assert plan.sensitivity(study) == 2 * plan.bound(study)


def test_materials_that_contradict_the_manifest_are_refused() -> None:
    start = {
        "model": "11" * 32,
        "study": "22" * 32,
        "site": "01" * 32,
        "entry": 4,
        "parameters": 8,
    }
    raw = manifest_bytes(TERMS, arguments=LOGISTIC).decode()

    def with_section(name: str, **changes: object) -> bytes:
        lines = [f"[{name}]"]
        for key, value in {**start, **changes}.items():
            lines.append(f"{key} = {value!r}".replace("'", '"'))
        return (raw + "\n" + "\n".join(lines) + "\n").encode()

    with pytest.raises(Inconsistent, match=r"is not study\.initial_model"):
        parse_manifest(with_section("start"))
    with pytest.raises(Inconsistent, match=r"study\.parameters is"):
        parse_manifest(with_section("start", model="00" * 32, parameters=3))
    with pytest.raises(Inconsistent, match="evaluation"):
        parse_manifest(with_section("evaluate"))
    standardised = parse_manifest(with_section("standardise"))
    assert standardised.material("standardise") is not None
    assert standardised.material("start") is None
    with pytest.raises(OutOfRange, match="holdout"):
        parse_manifest(raw.replace("holdout = 0.34", "holdout = 0.0").encode())
