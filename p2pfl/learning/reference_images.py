"""What collaboration is worth on images: `python -m p2pfl.learning.reference_images`, JSON.

Responsible for the models a collaborative one is compared with, on the very same splits, and for
the pictures people look at:
  own     the site alone: same rounds, same local work, without privacy
  pooled  all sites' training patients in one place: same rounds, same steps in each
It needs every site's data in one process, so it belongs to demonstrations and benchmarks.

In:  {manifest: path, out: folder,
      sites: [{name, dataset: path of an index, models: {NAME: path}}],
      curves: {NAME: {SITE: [dice of each round]}}}
Out: {sites: [{name, patients_train, patients_holdout, own: {NAME: {dice, regions, hd95}},
               union: {NAME: {dice, regions}}}], pictures: [path], seconds}
hd95: mean over regions and patients of the 95th percentile of surface distances, millimetres where
[data.images] has a spacing and voxels else; null where a model marks nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import NO_PRIVACY, Manifest
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.images import ImagePatients, open_images
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.marking import Marker
from p2pfl.learning.pictures import Overlay, draw_curves, draw_overlays
from p2pfl.learning.scoring import Score
from p2pfl.learning.timed_request import answer_timed_request
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector, read_vector

THREADS: Final = 1
"""Two wait for each other on a machine that has other work to do."""


@dataclass(frozen=True, slots=True)
class ImageSite:
    """One site's patients, cut as its node cuts them."""

    name: str
    train: ImagePatients
    holdout: ImagePatients
    models: Mapping[str, Vector]


def pooled_patients(parts: Sequence[ImagePatients]) -> ImagePatients:
    """All sites' patients as one set; their files keep their own roots."""
    first = parts[0]
    records = []
    for part in parts:
        for record in part.records:
            channels = tuple(
                None if file is None else replace(file, path=str(part.root / file.path))
                for file in record.channels
            )
            mask = record.mask
            records.append(
                replace(
                    record,
                    channels=channels,
                    mask=None if mask is None else replace(mask, path=str(part.root / mask.path)),
                )
            )
    return replace(
        first,
        root=Path("/"),
        records=tuple(records),
        table=np.concatenate([part.table for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def trained_alone(manifest: Manifest, patients: ImagePatients) -> Vector:
    """The study's rounds and steps on these patients, without privacy. Returns float32[d]."""
    without = replace(manifest, privacy=NO_PRIVACY)
    trainer = Trainer(without, patients, denominator=1, random_bytes=os.urandom)
    model = initial_model(without)
    for round_ in range(manifest.study.rounds):
        model = trainer.train(model, round_, {}).vector
    return model


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    return answer_timed_request(answered, threads=THREADS)


def answered(request: Mapping[str, object]) -> dict[str, object]:
    """Train, score and draw; see the module. Raises LearningError, ManifestError, OSError."""
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    wanted, out = request["sites"], Path(str(request["out"]))
    if not isinstance(wanted, list) or not wanted:
        raise RequestRefused('"sites" is not a list with at least one site')
    sites = [_site(manifest, given) for given in wanted]
    union = pooled_patients([site.holdout for site in sites])
    everyone = pooled_patients([site.train for site in sites])
    pooled = trained_alone(manifest, everyone)
    without = replace(manifest, privacy=NO_PRIVACY)
    marker = Marker(manifest)
    judge = Trainer(without, everyone, denominator=1, random_bytes=os.urandom)
    pooled_everywhere = _scored(judge.score(pooled, union))
    told, models_of_first = [], dict[str, Vector]()
    for site in sites:
        models = {"alone": trained_alone(manifest, site.train), **site.models}
        everywhere = {name: _scored(judge.score(model, union)) for name, model in models.items()}
        models["pooled"] = pooled
        models_of_first = models_of_first or models
        own = {
            name: _scored(judge.score(model, site.holdout))
            | {"hd95": marker.distance(model, site.holdout)}
            for name, model in models.items()
        }
        told.append(
            {
                "name": site.name,
                "patients_train": site.train.size,
                "patients_holdout": site.holdout.size,
                "own": own,
                "union": {**everywhere, "pooled": pooled_everywhere},
            }
        )
    out.mkdir(parents=True, exist_ok=True)
    draw_overlays(out / "overlay.png", _overlays(marker, sites, models_of_first))
    draw_curves(out / "curves.png", _curves(request["curves"]), _levels(told))
    pictures = [str(out / "overlay.png"), str(out / "curves.png")]
    return {"sites": told, "pictures": pictures}


def _site(manifest: Manifest, given: Mapping[str, object]) -> ImageSite:
    patients = open_images(Path(str(given["dataset"])), manifest.data)
    train, holdout = split(patients, replace(manifest, privacy=NO_PRIVACY))
    models = given["models"]
    if not isinstance(models, dict):
        raise TypeError("models")
    return ImageSite(
        str(given["name"]),
        train,
        holdout,
        {
            str(name): read_vector(Path(str(path)), manifest.study.parameters)
            for name, path in models.items()
        },
    )


def _overlays(
    marker: Marker, sites: Sequence[ImageSite], models: Mapping[str, Vector]
) -> list[Overlay]:
    """The first held-out patient of each site, marked by people and by the first site's models."""
    drawn = []
    for site in sites:
        volume, mask = site.holdout.volume(0)
        marked = {"marked by people": site.holdout.regions_of(mask) > 0.5}
        for name, model in models.items():
            marked[name] = marker.marks(model, volume)
        drawn.append(Overlay(site.name, np.array(volume[-1]), marked))
    return drawn


def _curves(given: object) -> dict[str, dict[str, list[float]]]:
    if not isinstance(given, dict):
        raise TypeError("curves")
    return {
        str(name): {str(site): [float(value) for value in values] for site, values in each.items()}
        for name, each in given.items()
    }


def _levels(told: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Mean over sites of what the references reach on their own hold-outs."""
    found: dict[str, list[float]] = {"alone": [], "pooled": []}
    for site in told:
        own = site["own"]
        assert isinstance(own, dict), "made above"
        for name, values in found.items():
            values.append(own[name]["dice"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def _scored(score: Score) -> dict[str, object]:
    return {"dice": score.accuracy, "regions": dict(score.measures)}


if __name__ == "__main__":
    sys.exit(main())
