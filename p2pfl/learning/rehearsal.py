"""A study tried out before anybody decides: `python -m p2pfl.learning.rehearsal`, JSON in and out.

Responsible for doing a few rounds of the very same local work as the training process, alone and
on one site's data, and for saying how long they took. The models are thrown away in this process:
nothing is written, recorded or released. Loss and scores are computed from patients without
paying for it, so they are for the people at the site alone.

In:  {manifest: path, dataset: path ("": patients that do not exist, drawn by the schema),
      patient_column, denominator, rounds, materials: use → path,
      bundle: folder ("": none)}
Out: {parameters, patients_train, patients_holdout, notes, prepare_s,
      rounds: [{seconds, steps, loss, auc (null: one label only), measures: {name: value}}]}
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.bundles.hosting import BundleTrainer
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.opening import open_patients
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.synthetic import synthetic_patients
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.initial import initial_model
from p2pfl.learning.json_request import answer_request, answers_alone
from p2pfl.learning.materials import Materials
from p2pfl.learning.training import RandomBytes, Trainer
from p2pfl.learning.vector import Vector
from p2pfl.runtime.update_privacy import protected_model

ROUNDS_MAX: Final = 100
SYNTHETIC: Final = 40
"""Patients drawn where nobody's are given."""


def rehearse(
    manifest: Manifest,
    train: Patients,
    holdout: Patients,
    *,
    denominator: int,
    rounds: int,
    random_bytes: RandomBytes,
    start: Vector | None = None,
    bundle: Path | None = None,
) -> list[dict[str, object]]:
    """Work alone for some rounds, as the study's training process would, and score each model.

    random_bytes: key source of the privacy noise, os.urandom unless results have to repeat;
    start: the released model that the study goes on from, if any; bundle: the folder of its bundle.
    Raises PlanRefused, ModelRefused, PrivacyRefused, Diverged.
    """
    trainer: Trainer | BundleTrainer
    if bundle is not None:
        trainer = BundleTrainer.of(manifest, bundle, Path.cwd(), train, holdout)
        model = trainer.initial() if start is None else start
    else:
        trainer = Trainer(manifest, train, denominator=denominator, random_bytes=random_bytes)
        model = initial_model(manifest) if start is None else start
    done: list[dict[str, object]] = []
    for round_ in range(rounds):
        started_s = time.perf_counter()
        work = trainer.train(model, round_, {})
        seconds, trained = time.perf_counter() - started_s, work.vector
        if manifest.privacy.is_by_update:  # as the node does it
            trained = protected_model(trained, model, manifest.privacy, random_bytes)
        model = trained
        found = trainer.score(model, holdout)
        said = {"steps": work.steps, "loss": work.loss, "auc": found.auc}
        done.append({"seconds": seconds, **said, "measures": dict(found.measures)})
    return done


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    torch.set_num_threads(1)
    return answer_request(_answered, answers_alone())


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    started_s = time.perf_counter()
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    rounds, denominator = request["rounds"], request["denominator"]
    if not isinstance(rounds, int) or not 1 <= rounds <= ROUNDS_MAX:
        raise RequestRefused(f'"rounds" is {rounds!r}, expected 1 to {ROUNDS_MAX}')
    if not isinstance(denominator, int):
        raise RequestRefused('"denominator" is not a whole number')
    column = str(request["patient_column"])
    paths = request["materials"]
    if not isinstance(paths, Mapping):
        raise RequestRefused('"materials" is no map')
    materials = Materials.open(manifest, paths)
    prepared: Patients
    if request["dataset"]:
        prepared = open_patients(
            Path(str(request["dataset"])),
            manifest.data,
            patient_column=column,
            standards=materials.standards,
            # What a researcher's code prepares of images is of use to no study: it is thrown away.
            prepared=None if manifest.foreign is None else Path.cwd() / "prepared",
        )
    else:
        prepared = synthetic_patients(manifest.data, SYNTHETIC, manifest.study.seed)
    train, holdout = split(prepared, manifest)
    prepare_s = time.perf_counter() - started_s
    done = rehearse(
        manifest,
        train,
        holdout,
        denominator=denominator,
        rounds=rounds,
        random_bytes=os.urandom,
        start=materials.start,
        bundle=Path(str(request["bundle"])) if request.get("bundle") else None,
    )
    return {
        "parameters": manifest.study.parameters,
        "patients_train": train.size,
        "patients_holdout": holdout.size,
        "notes": [*prepared.notes, *left_out(manifest, train.size)],
        "prepare_s": prepare_s,
        "rounds": done,
    }


def left_out(manifest: Manifest, patients: int) -> list[str]:
    """What the times of a rehearsal leave out, for people."""
    code = manifest.code
    if code is None or code.gradients != "outside":
        return []
    drawn = max(1, round(patients * manifest.privacy.sampling_rate))
    return [
        f"in the study each gradient is computed in a process of its own, about {drawn} a step and "
        "some milliseconds each; the times here are without"
    ]


if __name__ == "__main__":
    sys.exit(main())
