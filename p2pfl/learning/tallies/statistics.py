"""The plan `statistics`: count, mean, variance and histogram of every column, over all sites.

Round 0 adds up values around the middle of each agreed range. A second round, without privacy
only, adds up distances from the mean that the first one found: squares of small numbers lose no
digits, so the result equals the pooled one to the last bits of float32.

Missing values and codes that were not agreed on are not counted as values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import CategoryColumn, Column, Manifest, NumberColumn
from p2pfl.learning import standardisation as layout
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.materials import Materials
from p2pfl.learning.tallies.tally import SHARED, Wide, check_shared, counted, one_hot
from p2pfl.learning.vector import Schema, Vector

ROUNDS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Statistics:
    """Columns of tables."""

    name: str = "statistics"

    def check(self, manifest: Manifest) -> None:
        """A table, and a second round only where all sites share the first one's mean."""
        unknown = set(manifest.plan.arguments) - SHARED
        if unknown:
            raise PlanRefused(f'plan "{self.name}" has no argument "{min(unknown)}"')
        if manifest.data.kind != "tabular":
            raise PlanRefused(f'plan "{self.name}" needs kind = "tabular"')
        arguments, study = counted(manifest.plan.arguments), manifest.study
        check_shared(self, manifest)
        if study.rounds > ROUNDS_MAX or (study.rounds == ROUNDS_MAX and arguments.per == "sites"):
            raise PlanRefused(
                f'plan "{self.name}" takes one round, or two with per = "patients": the second '
                "centres on the first one's means"
            )
        is_shared = (
            manifest.averaging.rule == "mean"
            and manifest.averaging.topology == "complete"
            and study.neighbours_min == len(study.sites) - 1
        )
        if study.rounds == ROUNDS_MAX and not is_shared:
            raise PlanRefused(
                f'plan "{self.name}" with two rounds needs rule = "mean", topology = "complete" '
                f"and neighbours_min = {len(study.sites) - 1}: every site has to centre on the "
                "same means"
            )

    def sums_schema(self, manifest: Manifest) -> Schema:
        """See `standardisation`."""
        return layout.sums_schema(manifest.data.columns, counted(manifest.plan.arguments).bins)

    def public_schema(self, manifest: Manifest) -> Schema:
        """The centres."""
        return layout.centres_schema(manifest.data.columns)

    def bound(self, manifest: Manifest) -> float:
        """1 for the patient; per number 1 present, 1 value, 1 square, 1 bin; per category 1, 1."""
        squared = 1.0
        for column in manifest.data.columns:
            squared += 2.0 if isinstance(column, CategoryColumn) else 4.0
        return math.sqrt(squared)

    def sensitivity(self, manifest: Manifest) -> float:
        """The bound: a hold-out of a private study is drawn for each patient alone."""
        return self.bound(manifest)

    def public(self, manifest: Manifest, base: Vector, round_: int) -> Vector:
        """Centres: zeros at first, then the released means."""
        width = self.public_schema(manifest).parameters
        if round_ == 0 or width == 0:
            return np.zeros(width, dtype=np.float32)
        seen = layout.numbers_seen(manifest.data.columns, base)
        return np.array([column.mean for column in seen.values()], dtype=np.float32)

    def contributions(
        self, manifest: Manifest, patients: Patients, public: Vector, materials: Materials
    ) -> Iterator[Wide]:
        """One block with everybody: tables lie in memory."""
        if not isinstance(patients, Prepared):
            raise PlanRefused(f'plan "{self.name}" counts the rows of tables')
        bins = counted(manifest.plan.arguments).bins
        parts: list[Wide] = [np.ones((patients.size, 1))]
        centres = iter(public)
        feature = 0
        for place, column in enumerate(manifest.data.columns):
            width = _width(column)
            values = patients.features[:, feature : feature + width].astype(np.float64)
            present = patients.present[:, place]
            if isinstance(column, NumberColumn):
                parts += _of_number(values[:, 0], present, float(next(centres)), bins)
            else:
                parts += [present[:, None].astype(np.float64), values]
            feature += width
        yield np.concatenate(parts, axis=1)


def _width(column: Column) -> int:
    return len(column.categories) if isinstance(column, CategoryColumn) else 1


def _of_number(values: Wide, present: NDArray[np.bool_], centre: float, bins: int) -> list[Wide]:
    """values: float64[n] in −1…1; present: bool[n]."""
    here = present.astype(np.float64)
    off = (values - centre) * here
    places = np.minimum(((values + 1.0) * 0.5 * bins).astype(np.int64), bins - 1)
    places[~present] = -1
    return [here[:, None], off[:, None], (off * off)[:, None], one_hot(places, bins)]


STATISTICS: Final = Statistics()
