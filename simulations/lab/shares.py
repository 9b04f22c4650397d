"""Patients of a scenario and how they are spread over sites.

Real sites keep their own patients (`column`); everything else cuts one pool by a seeded draw."""

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.errors import DataRefused
from simulations.adversaries import flip_labels
from simulations.lab.terms import Partition, Scenario

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
ROWS_MIN = 4
"""A site without patients could not train; one has at least these, taken from the largest."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Everybody. features: float32[n, p]. labels: int64[n]. site: whose patient each is, or −1."""

    features: Matrix
    labels: Labels
    site: Labels


@dataclass(frozen=True, slots=True)
class Share:
    """One site's patients. x: float32[n, p], y: int64[n], for training and held out."""

    x: Matrix
    y: Labels
    holdout_x: Matrix
    holdout_y: Labels


def shares_of(scenario: Scenario) -> list[Share]:
    """Each site's patients: a hostile site's labels are turned around where its attack says so.

    Raises DataRefused."""
    rng = np.random.Generator(np.random.PCG64([scenario.seed, 11]))
    pool = _pool(scenario, rng)
    shares = []
    for number, rows in enumerate(spread(pool, scenario.partition, scenario.sites, rng)):
        rows = rng.permutation(rows)
        held = max(1, round(len(rows) * scenario.data.holdout))
        train, out = rows[held:], rows[:held]
        labels = pool.labels[train]
        if scenario.attack.kind == "label-flip" and number in scenario.hostile:
            labels = flip_labels(labels, scenario.data.classes)
        shares.append(Share(pool.features[train], labels, pool.features[out], pool.labels[out]))
    return shares


def spread(pool: Pool, partition: Partition, sites: int, rng: np.random.Generator) -> list[Rows]:
    """Rows of each site. Raises DataRefused."""
    n = len(pool.labels)
    if n < ROWS_MIN * sites:
        raise DataRefused(
            "the patients", f"{n} for {sites} sites", fix=f"at least {ROWS_MIN} for each are needed"
        )
    match partition.kind:
        case "column":
            found = [np.flatnonzero(pool.site == number) for number in range(sites)]
        case "dirichlet":
            found = by_label(pool.labels, partition.alpha, sites, rng)
        case "quantity":
            found = by_quantity(n, partition.alpha, sites, rng)
        case "property":
            found = by_property(pool.features, partition.property, sites)
        case _:
            found = list(np.array_split(rng.permutation(n), sites))
    return _filled(found)


def by_label(labels: Labels, alpha: float, sites: int, rng: np.random.Generator) -> list[Rows]:
    """Each class is spread by its own Dirichlet(α) draw. Source: Hsu et al. 2019."""
    found: list[list[Rows]] = [[] for _ in range(sites)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(sites, alpha)))[:-1] * len(rows)).astype(np.int64)
        for site, part in enumerate(np.split(rows, cuts)):
            found[site].append(part)
    return [np.sort(np.concatenate(parts)) for parts in found]


def by_quantity(n: int, alpha: float, sites: int, rng: np.random.Generator) -> list[Rows]:
    """Sites of different size: Dirichlet(α) over their shares of all patients."""
    cuts = (np.cumsum(rng.dirichlet(np.full(sites, alpha)))[:-1] * n).astype(np.int64)
    return [np.sort(part) for part in np.split(rng.permutation(n), cuts)]


def by_property(features: Matrix, name: str, sites: int) -> list[Rows]:
    """Images sorted by how bright or how contrasted they are, then cut: each site a scanner."""
    value = features.mean(axis=1) if name == "brightness" else features.std(axis=1)
    return [np.sort(part) for part in np.array_split(np.argsort(value, kind="stable"), sites)]


def _filled(found: list[Rows]) -> list[Rows]:
    """Who has too few patients gets some of the largest site's."""
    for site, rows in enumerate(found):
        lacking = ROWS_MIN - len(rows)
        if lacking > 0:
            largest = max(range(len(found)), key=lambda other: len(found[other]))
            found[site] = np.concatenate((rows, found[largest][:lacking]))
            found[largest] = found[largest][lacking:]
    return found


def _pool(scenario: Scenario, rng: np.random.Generator) -> Pool:
    match scenario.data.source:
        case "digits":
            from sklearn.datasets import load_digits

            images, labels = load_digits(return_X_y=True)
            features = (images / 8.0 - 1.0).astype(np.float32)
            return Pool(features, labels.astype(np.int64), np.full(len(labels), -1))
        case "heart-disease":
            return _hospitals(Path(scenario.data.path))
        case "csv":
            return _csv(scenario)
        case _:
            return _made_up(scenario, rng)


def _made_up(scenario: Scenario, rng: np.random.Generator) -> Pool:
    """A table whose classes follow from hidden directions, with noise: no line separates them."""
    data = scenario.data
    n, p, classes = scenario.sites * data.rows, data.features, data.classes
    features = rng.uniform(-1.0, 1.0, (n, p))
    hidden = np.tanh(features @ rng.normal(size=(p, 8)) * 1.5)
    scores = hidden @ rng.normal(size=(8, classes)) + 0.4 * rng.gumbel(size=(n, classes))
    labels = scores.argmax(axis=1).astype(np.int64)
    return Pool(features.astype(np.float32), labels, np.full(n, -1))


def _hospitals(folder: Path) -> Pool:
    """The four hospitals of UCI's heart disease data, prepared as the demonstration does it."""
    from p2pfl.learning.datasets.tabular import prepare
    from p2pfl.learning.demo_data import heart_sites
    from p2pfl.learning.demo_terms import HEART_PATIENT_COLUMN, HEART_TERMS

    features, labels, sites = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number, hospital in enumerate(heart_sites(folder)):
            path = Path(scratch) / f"{hospital.name}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([hospital.header, *hospital.rows])
            prepared = prepare(path, HEART_TERMS, patient_column=HEART_PATIENT_COLUMN)
            features.append(prepared.features)
            labels.append(prepared.labels.astype(np.int64))
            sites.append(np.full(prepared.size, number))
    return Pool(np.concatenate(features), np.concatenate(labels), np.concatenate(sites))


def _csv(scenario: Scenario) -> Pool:
    """A table of numbers: columns are scaled to −1…1 by their own range, 1 is a target above 0."""
    data, path = scenario.data, Path(scenario.data.path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[Mapping[str, str]] = list(csv.DictReader(file))
    except OSError as error:
        raise DataRefused(str(path), f"{error.strerror}", fix="correct data.path") from None
    names = [
        name for name in (rows[0] if rows else {}) if name not in (data.target, data.site_column)
    ]
    try:
        values = np.array([[float(row[name] or "nan") for name in names] for row in rows])
        labels = np.array([float(row[data.target]) > 0.0 for row in rows], dtype=np.int64)
        sites = [row[data.site_column] for row in rows] if data.site_column else [""] * len(rows)
    except (KeyError, ValueError) as error:
        raise DataRefused(str(path), f"{error}", fix="a table of numbers with a header") from None
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    scaled = np.nan_to_num(2.0 * (values - low) / np.where(high > low, high - low, 1.0) - 1.0)
    place = {name: number for number, name in enumerate(sorted(set(sites)))}
    owner = np.array([place[site] for site in sites], dtype=np.int64)
    return Pool(scaled.astype(np.float32), labels, owner)
