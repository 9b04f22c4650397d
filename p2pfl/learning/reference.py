"""What collaboration is worth: `python -m p2pfl.learning.reference`, JSON in and out.

Responsible for the models a collaborative one is compared with, on the very same splits:
  own            the site alone: same rounds, same local work, and in a private study the same
                 noise, so the same ε
  own_converged  the site alone, without privacy, to convergence
  pooled         all sites' training patients in one place, without privacy, to convergence
Each is scored on the site's own hold-out and on the union of all hold-outs. It needs every site's
data in one process, so it belongs to demonstrations and benchmarks, never to a node.

In:  {manifest: path,
      sites: [{name, dataset, patient_column, denominator, models: {NAME: path}}]}
Out: {sites: [{name, patients_train, patients_holdout,
               own: {NAME: {auc, accuracy}}, union: {NAME: {auc, accuracy}}}], seconds}
NAME is own, own_converged, pooled, and the names given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import NO_PRIVACY, Manifest
from p2pfl.learning.convergence import converged
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.tabular import Prepared, prepare
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.scoring import Score
from p2pfl.learning.timed_request import answer_timed_request
from p2pfl.learning.training import RandomBytes, Trainer
from p2pfl.learning.vector import Vector, read_vector


@dataclass(frozen=True, slots=True)
class SiteData:
    """One site's prepared patients, cut as its node cuts them; denominator: its public number."""

    name: str
    train: Prepared
    holdout: Prepared
    denominator: int


@dataclass(frozen=True, slots=True)
class SiteComparison:
    """Scores by model name, on the own hold-out and on the union of hold-outs."""

    name: str
    own: Mapping[str, Score]
    union: Mapping[str, Score]


def load_site(
    manifest: Manifest, name: str, dataset: Path, *, patient_column: str, denominator: int
) -> SiteData:
    """Prepare and cut one site's table. Raises DataRefused."""
    prepared = prepare(dataset, manifest.data, patient_column=patient_column)
    train, holdout = split(prepared, manifest)
    return SiteData(name, train, holdout, denominator)


def alone(manifest: Manifest, site: SiteData, *, random_bytes: RandomBytes) -> Vector:
    """The model of a site that does the study's work by itself. Returns float32[d].

    random_bytes: key source of the privacy noise, os.urandom unless results have to repeat.
    """
    trainer = Trainer(manifest, site.train, denominator=site.denominator, random_bytes=random_bytes)
    model = _initial(manifest)
    for round_ in range(manifest.study.rounds):
        model = trainer.train(model, round_, {}).vector
    return model


def pooled_patients(parts: Sequence[Prepared]) -> Prepared:
    """All sites' patients as one set."""
    return Prepared(
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        columns=parts[0].columns,
        patients=tuple(patient for part in parts for patient in part.patients),
        notes=(),
    )


def compare(
    manifest: Manifest,
    sites: Sequence[SiteData],
    given: Sequence[Mapping[str, Vector]],
    *,
    random_bytes: RandomBytes,
) -> tuple[SiteComparison, ...]:
    """Score own, pooled and given models of every site. given[i]: models of sites[i] by name."""
    start = _initial(manifest)
    everyone = pooled_patients([site.train for site in sites])
    union = pooled_patients([site.holdout for site in sites])
    judge = Trainer(
        replace(manifest, privacy=NO_PRIVACY), everyone, denominator=1, random_bytes=random_bytes
    )
    pooled = converged(manifest, everyone, start)
    compared = []
    for site, extra in zip(sites, given, strict=True):
        models = {
            "own": alone(manifest, site, random_bytes=random_bytes),
            "own_converged": converged(manifest, site.train, start),
            "pooled": pooled,
            **extra,
        }
        compared.append(
            SiteComparison(
                site.name,
                own={name: judge.score(model, site.holdout) for name, model in models.items()},
                union={name: judge.score(model, union) for name, model in models.items()},
            )
        )
    return tuple(compared)


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    return answer_timed_request(_answered, threads=1)


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    wanted = request["sites"]
    if not isinstance(wanted, list) or not wanted:
        raise RequestRefused('"sites" is not a list with at least one site')
    sites = [
        load_site(
            manifest,
            str(site["name"]),
            Path(site["dataset"]),
            patient_column=str(site["patient_column"]),
            denominator=int(site["denominator"]),
        )
        for site in wanted
    ]
    given = [
        {
            name: read_vector(Path(path), manifest.study.parameters)
            for name, path in site.get("models", {}).items()
        }
        for site in wanted
    ]
    compared = compare(manifest, sites, given, random_bytes=os.urandom)
    return {
        "sites": [
            {
                "name": site.name,
                "patients_train": site.train.size,
                "patients_holdout": site.holdout.size,
                "own": {name: _scored(score) for name, score in scores.own.items()},
                "union": {name: _scored(score) for name, score in scores.union.items()},
            }
            for site, scores in zip(sites, compared, strict=True)
        ]
    }


def _initial(manifest: Manifest) -> Vector:
    return initial_model(manifest)


def _scored(score: Score) -> dict[str, float | None]:
    return {"auc": score.auc, "accuracy": score.accuracy}


if __name__ == "__main__":
    sys.exit(main())
