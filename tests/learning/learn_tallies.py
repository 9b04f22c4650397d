"""Four sites with different patients, and studies that count them, without processes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from learn_manifests import PRIVATE, manifest
from numpy.typing import NDArray

from p2pfl.averaging import average
from p2pfl.core.manifest_terms import (
    CategoryColumn,
    DataTerms,
    Manifest,
    Material,
    NumberColumn,
    PrivacyTerms,
    Target,
)
from p2pfl.learning.datasets.tabular import Prepared, prepare
from p2pfl.learning.materials import Materials
from p2pfl.learning.tallies import tally_of
from p2pfl.learning.tallies.tally import schema_of, tallied
from p2pfl.learning.vector import Vector
from p2pfl.privacy.noise import GaussianStream

SITES = 4
TERMS = DataTerms(
    "tabular",
    2,
    0.34,
    Target("sick", 0.0),
    (
        NumberColumn("age", 20.0, 90.0, 50.0, ()),
        NumberColumn("pressure", 80.0, 200.0, 130.0, (0.0,)),
        CategoryColumn("type", (1.0, 2.0, 3.0), ()),
    ),
)
WEIGHTS = np.array([1.5, -0.8, 0.3, -0.2, 0.1, 0.2], dtype=np.float32)
"""A logistic model on the five features, its bias last."""


@cache
def site_values(site: int) -> NDArray[np.float64]:
    """float64[n, 4]: age, pressure (NaN where missing), type, sick; sizes and means differ."""
    drawn = np.random.default_rng(40 + site)
    n = (23, 51, 37, 60)[site]
    age = np.clip(drawn.normal(45 + 6 * site, 9, n), 20, 90)
    pressure = np.clip(drawn.normal(120 + 5 * site, 14, n), 80, 200)
    pressure[drawn.random(n) < 0.2] = np.nan
    kind = drawn.integers(1, 4, n)
    sick = (drawn.random(n) < 1 / (1 + np.exp(-(age - 50) / 8))).astype(float)
    return np.stack([age, pressure, kind, sick], axis=1)


def pooled_values() -> NDArray[np.float64]:
    """All sites' patients, site after site."""
    return np.concatenate([site_values(site) for site in range(SITES)])


def csv_of(folder: Path, site: int) -> Path:
    """The site's table on disk."""
    path = folder / f"tally{site}.csv"
    lines = ["age,pressure,type,sick"]
    for age, pressure, kind, sick in site_values(site):
        shown = "" if np.isnan(pressure) else repr(float(pressure))
        lines.append(f"{float(age)!r},{shown},{int(kind)},{int(sick)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@cache
def prepared(site: int) -> Prepared:
    """The site's patients, all of them."""
    with tempfile.TemporaryDirectory() as folder:
        return prepare(csv_of(Path(folder), site), TERMS, patient_column="")


def sized(study: Manifest) -> Manifest:
    """With the number of values its plan has."""
    d = schema_of(tally_of(study), study).parameters
    return replace(study, study=replace(study.study, parameters=d))


def statistics(
    *, rounds: int, per: str = "patients", rule: str = "mean", value_max: float = 0.0
) -> Manifest:
    """A study that counts the columns of TERMS, without privacy."""
    arguments = {"per": per, "value_max": value_max}
    study = manifest(TERMS, plan="statistics", arguments=arguments, rounds=rounds, parameters=1)
    averaging = replace(study.averaging, rule=rule, weighting="uniform", share_max=1.0)
    terms = replace(study.study, neighbours_min=SITES - 1)
    return sized(replace(study, averaging=averaging, study=terms))


def private(study: Manifest) -> Manifest:
    """The same with noise and the norm that the plan needs."""
    plan = tally_of(study)
    wanted = {key: PRIVATE[key] for key in PRIVATE}
    terms = PrivacyTerms(**wanted)  # type: ignore[arg-type]  # the table of a manifest
    norm = np.ceil(plan.sensitivity(study) * 1000) / 1000
    return replace(study, privacy=replace(terms, clip_norm=float(norm)))


def evaluation(
    *, part: str = "all", cut: str = "independent"
) -> tuple[Manifest, NDArray[np.float64], NDArray[np.float64]]:
    """A study that tries WEIGHTS on everybody, the model's log-odds and the outcomes, pooled."""
    arguments = {"of": "tabular-logistic", "part": part, "cut": cut, "learning_rate": 0.5}
    study = manifest(TERMS, plan="statistics", arguments={}, rounds=1, parameters=1)
    tried = Material("evaluate", b"\1" * 32, b"\2" * 32, study.study.sites[0], 3, 6)  # type: ignore[arg-type]
    averaging = replace(study.averaging, rule="mean", weighting="uniform", share_max=1.0)
    plan = replace(study.plan, name="evaluation", arguments={**arguments, "bins": 64})
    study = sized(replace(study, plan=plan, averaging=averaging, materials=(tried,)))
    tally_of(study).check(study)
    features = np.concatenate([prepared(site).features for site in range(SITES)])
    odds = features.astype(np.float64) @ WEIGHTS[:5] + WEIGHTS[5]
    labels = np.concatenate([prepared(site).labels for site in range(SITES)]).astype(np.float64)
    return study, odds, labels


def averaged(
    study: Manifest, bases: Sequence[Vector], round_: int, liar: Vector | None = None
) -> list[Vector]:
    """One round at every site: its sums, then the rule over everybody's; a liar is the last."""
    plan = tally_of(study)
    plan.check(study)
    stream = GaussianStream(bytes(32)) if study.privacy.is_private else None
    materials = Materials(evaluated=WEIGHTS)
    updates = [
        tallied(
            plan,
            study,
            prepared(site),
            bases[site],
            round_,
            denominator=prepared(site).size,
            materials=materials,
            stream=stream,
        )
        for site in range(SITES)
    ]
    if liar is not None:
        updates[-1] = liar
    stacked, weights = np.stack(updates), np.full(SITES - 1, 0.25, dtype=np.float32)
    return [
        average(study.averaging.rule, stacked[site], np.delete(stacked, site, 0), weights).value
        for site in range(SITES)
    ]


def counted_together(study: Manifest) -> Vector:
    """What the study releases at the first site."""
    bases = [np.zeros(study.study.parameters, dtype=np.float32)] * SITES
    for round_ in range(study.study.rounds):
        bases = averaged(study, bases, round_)
    return bases[0]
