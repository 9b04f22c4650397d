"""Sums as people read them: `python -m p2pfl.learning.tallies.report`, JSON in and out, no torch.

In:  {manifest, model}                     paths; the model is the released vector of sums
Out: {kind: "statistics", patients, noise, columns: [{name, present, mean, deviation, quantiles,
      histogram | categories, counts}]}    values in the columns' own units; noise: standard
                                           deviation of each count of one site, in patients
     {kind: "evaluation", of, patients, noise, measures: {name: value}, calibration: [{predicted,
      observed, patients}]}
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

import numpy as np

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import CategoryColumn, Manifest, NumberColumn
from p2pfl.learning.errors import PlanRefused, StatisticsRefused
from p2pfl.learning.json_request import answer_request
from p2pfl.learning.standardisation import named, numbers_told, quantile
from p2pfl.learning.tallies import tally_of
from p2pfl.learning.tallies.metrics import metrics_of
from p2pfl.learning.tallies.tally import counted, noise_in_update, schema_of
from p2pfl.learning.vector import Vector, read_vector, unflatten

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def report(manifest: Manifest, vector: Vector) -> dict[str, object]:
    """vector: float32[d] of a counting study. Raises PlanRefused, StatisticsRefused."""
    plan = tally_of(manifest)
    tensors = unflatten(vector, schema_of(plan, manifest))
    unit = patients_per_unit(manifest)
    found: dict[str, object] = {
        "kind": plan.name,
        "patients": float(tensors["patients"][0]) * unit,
        "noise": noise_in_update(plan, manifest) * unit / math.sqrt(len(manifest.study.sites)),
    }
    if plan.name == "statistics":
        return {**found, "columns": _columns(manifest, vector, tensors, unit)}
    if "dice" in tensors:
        images = manifest.data.images
        regions = [] if images is None else [region.name for region in images.regions]
        dice = tensors["dice"] / max(float(tensors["patients"][0]), 1e-12)
        measures = {f"dice {n}": float(v) for n, v in zip(regions, dice, strict=True)}
        return {**found, "of": manifest.plan.arguments["of"], "measures": measures}
    metrics = metrics_of(tensors)
    return {
        **found,
        "of": manifest.plan.arguments["of"],
        "measures": metrics.measures,
        "calibration": [
            {"predicted": p, "observed": o, "patients": n * unit} for p, o, n in metrics.calibration
        ],
    }


def patients_per_unit(manifest: Manifest) -> float:
    """How many patients 1.0 in the averaged vector stands for; 1 where sites count alike."""
    arguments = counted(
        {k: v for k, v in manifest.plan.arguments.items() if k in ("scale", "per", "bins")}
    )
    return (
        float(arguments.scale * len(manifest.study.sites)) if arguments.per == "patients" else 1.0
    )


def _columns(
    manifest: Manifest, vector: Vector, tensors: Mapping[str, Vector], unit: float
) -> list[dict[str, object]]:
    told = numbers_told(manifest.data.columns, vector)
    rows: list[dict[str, object]] = []
    for place, column in enumerate(manifest.data.columns):
        present = float(tensors[named(place, column, "present")][0]) * unit
        row: dict[str, object] = {"name": column.name, "present": present}
        match column:
            case CategoryColumn(categories=categories):
                counts = tensors[named(place, column, "counts")].astype(np.float64) * unit
                row |= {"categories": list(categories), "counts": counts.tolist()}
            case NumberColumn(low=low, high=high):
                number, half = told[column.name], (high - low) / 2.0
                if isinstance(number, StatisticsRefused):
                    rows.append(row | {"unusable": str(number)})
                    continue
                row |= {
                    "mean": low + (number.mean + 1.0) * half,
                    "deviation": math.sqrt(max(0.0, number.variance)) * half,
                    "quantiles": {
                        f"{share:g}": _finite(low + (quantile(number, share) + 1.0) * half)
                        for share in QUANTILES
                    },
                    "histogram": (number.histogram * unit).tolist(),
                    "range": [low, high],
                }
            case _:
                assert_never(column)
        rows.append(row)
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    return answer_request(_answered)


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    if not manifest.is_counting:
        raise PlanRefused(f'plan "{manifest.plan.name}" trains a model: it counts nothing')
    vector = read_vector(Path(str(request["model"])), manifest.study.parameters)
    return report(manifest, vector)


if __name__ == "__main__":
    sys.exit(main())
