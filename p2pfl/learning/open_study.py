"""One study opened in a training process: the meaning of the node's requests.

Responsible for what each request does; knows nothing of frames or processes.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest, PrivacyTerms
from p2pfl.learning import fingerprints, results
from p2pfl.learning.bundles.hosting import BundleTrainer
from p2pfl.learning.datasets.holdout import counted, split
from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.datasets.opening import open_patients
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.frames import Body
from p2pfl.learning.gradient_cells.asking import Cells
from p2pfl.learning.gradient_cells.trainer import CellTrainer
from p2pfl.learning.local_work import LocalWork
from p2pfl.learning.materials import Materials
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.tallies.counting import Counter
from p2pfl.learning.training import RandomBytes, Trainer
from p2pfl.learning.vector import Vector, hand_over, read_vector
from p2pfl.runtime.environment import env_hash

THREADS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study with its data prepared and its trainer built."""

    manifest: Manifest
    trainer: Trainer | CellTrainer | BundleTrainer | Counter
    training_set: Patients
    holdout: Patients
    latest: dict[str, Vector] = field(default_factory=dict)
    """The model that was read last, by its path: what is scored is then trained from."""

    @classmethod
    def open(cls, body: Body, *, random_bytes: RandomBytes, cells: int | None = None) -> Self:
        """Prepare data and model.

        body: manifest (TOML bytes), dataset (path), patient_column, denominator, threads,
        materials (use → path; may be missing); where layers may stay at home, home_layers (path
        of a file); initial (path of the initial model); where prepared images are not for every
        study, prepared (path of a folder); where the study runs a bundle, bundle (path of its
        folder). cells: descriptor of the socket to gradient cells.
        Raises RequestRefused, ManifestError, DataRefused, PlanRefused, PrivacyRefused,
        StatisticsRefused, CellsGone.
        """
        torch.set_num_threads(_integer(body, "threads", 1, THREADS_MAX))
        manifest = parse_manifest(_bytes(body, "manifest"))
        materials = Materials.open(manifest, _paths(body))
        prepared = open_patients(
            Path(_text(body, "dataset")),
            manifest.data,
            patient_column=_text(body, "patient_column"),
            standards=materials.standards,
            prepared=_path(body, "prepared"),
        )
        denominator = _integer(body, "denominator", 0, 1 << 40)
        if manifest.is_counting:
            chosen = counted(prepared, manifest)
            counter = Counter(
                manifest,
                chosen,
                denominator=denominator,
                materials=materials,
                random_bytes=random_bytes,
            )
            nobody = prepared.rows(np.zeros(prepared.size, dtype=np.bool_))
            return cls(manifest, counter, chosen, nobody)
        training_set, holdout = split(prepared, manifest)
        if manifest.bundle is not None:
            folder = Path(_text(body, "bundle"))
            hosted = BundleTrainer.of(manifest, folder, Path.cwd(), training_set, holdout)
            return cls(manifest, hosted, training_set, holdout)
        if manifest.code is not None and manifest.code.gradients == "outside":
            outside = CellTrainer(
                manifest,
                training_set,
                _cells(cells, manifest),
                denominator=denominator,
                random_bytes=random_bytes,
            )
            return cls(manifest, outside, training_set, holdout)
        trainer = Trainer(
            manifest,
            training_set,
            denominator=denominator,
            random_bytes=random_bytes,
            home_layers=_path(body, "home_layers"),
            initial=_initial_model(body, manifest),
        )
        return cls(manifest, trainer, training_set, holdout)

    def opened(self) -> Body:
        """The answer to `open`. Counts of patients are for the site alone."""
        return {
            "parameters": self.trainer.schema.parameters,
            "code_hash": fingerprints.code_hash(),
            "env_hash": env_hash(),
            "patients_train": self.training_set.size,
            "patients_holdout": self.holdout.size,
            "notes": list(self.training_set.notes),
        }

    def train(self, body: Body) -> Body:
        """One round of local work from `base` to `out`; what was done, for the node to check."""
        base = self._model(body, "base")
        work = self.trainer.train(base, _integer(body, "round", 0, 1 << 31), _scalars(body))
        hand_over(Path(_text(body, "out")), work.vector)
        return {**_mechanism(self.manifest.privacy), **_steps(work), "loss": work.loss}

    def _model(self, body: Body, key: str) -> Vector:
        """The model at the path that the request names; the last one is kept.

        Models are filed under their digests: the path of one is never the path of another."""
        path = _text(body, key)
        if path not in self.latest:
            model = read_vector(Path(path), self.trainer.schema.parameters)
            self.latest.clear()
            self.latest[path] = model
        return self.latest[path]

    def score(self, body: Body) -> Body:
        """A model on the own hold-out."""
        model = self._model(body, "model")
        found = self.trainer.score(model, self.holdout)
        return {
            "auc": found.auc,
            "accuracy": found.accuracy,
            "loss": found.loss,
            "n": found.n,
            "measures": dict(found.measures),
        }

    def compare(self, body: Body) -> Body:
        """How the loss on the own hold-out rises from `base` to `mixed`, and what chance may do.

        Raises RequestRefused in a private study: nobody pays for this look at patients.
        """
        if self.manifest.privacy.is_private:
            raise RequestRefused("a private study has no hold-out guard")
        d = self.trainer.schema.parameters
        base, mixed = (read_vector(Path(_text(body, key)), d) for key in ("base", "mixed"))
        rises = self.trainer.losses(mixed, self.holdout) - self.trainer.losses(base, self.holdout)
        n = len(rises)
        band = 2.0 * float(rises.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
        return {"change": float(rises.mean()), "band": band}

    def release(self, body: Body) -> Body:
        """Write the final model and the hold-out so that anyone can compute the score again."""
        model = read_vector(Path(_text(body, "model")), self.trainer.schema.parameters)
        model_path, holdout_path = Path(_text(body, "model_out")), Path(_text(body, "holdout_out"))
        results.write_model(model_path, model, self.trainer.schema, self.manifest)
        if self.manifest.is_counting:
            return {"model_path": str(model_path), "holdout_path": ""}
        if isinstance(self.holdout, ImagePatients):
            results.write_holdout_names(holdout_path, self.holdout)
        elif isinstance(self.holdout, Prepared):
            results.write_holdout(holdout_path, self.holdout)
        return {"model_path": str(model_path), "holdout_path": str(holdout_path)}


def _mechanism(privacy: PrivacyTerms) -> Body:
    """The privacy parameters as the decimal strings of the ledger; steps are counted, not said."""
    if not privacy.is_private:
        return {"mech": "none", "sigma": "0", "q": "0", "clip": "0"}
    return {
        "mech": privacy.accounted,
        "sigma": repr(privacy.noise_multiplier),
        "q": repr(privacy.sampling_rate),
        "clip": repr(privacy.clip_norm),
    }


def _steps(work: LocalWork) -> Body:
    return {"steps": work.steps, "planned": work.planned}


def _cells(descriptor: int | None, manifest: Manifest) -> Cells:
    if descriptor is None:
        raise RequestRefused("the study's gradients come from cells, and nobody keeps any")
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor)
    return Cells(control, manifest.raw)


def _path(body: Body, key: str) -> Path | None:
    return Path(_text(body, key)) if key in body else None


def _initial_model(body: Body, manifest: Manifest) -> Callable[[], Vector] | None:
    path = _path(body, "initial")
    return None if path is None else partial(read_vector, path, manifest.study.parameters)


def _field(body: Body, key: str) -> object:
    try:
        return body[key]
    except KeyError:
        raise RequestRefused(f'the request has no "{key}"') from None


def _text(body: Body, key: str) -> str:
    value = _field(body, key)
    if not isinstance(value, str):
        raise RequestRefused(f'"{key}" is {type(value).__name__}, expected text')
    return value


def _bytes(body: Body, key: str) -> bytes:
    value = _field(body, key)
    if not isinstance(value, bytes):
        raise RequestRefused(f'"{key}" is {type(value).__name__}, expected bytes')
    return value


def _integer(body: Body, key: str, low: int, high: int) -> int:
    value = _field(body, key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestRefused(f'"{key}" is {type(value).__name__}, expected a whole number')
    if not low <= value <= high:
        raise RequestRefused(f'"{key}" is {value}, expected {low} to {high}')
    return value


def _paths(body: Body) -> dict[str, object]:
    value = body.get("materials", {})
    if not isinstance(value, dict):
        raise RequestRefused(f'"materials" is {type(value).__name__}, expected a map')
    return {str(use): path for use, path in value.items()}


def _scalars(body: Body) -> dict[str, Scalar]:
    """The steered arguments of a round."""
    value = _field(body, "arguments")
    if not isinstance(value, dict):
        raise RequestRefused(f'"arguments" is {type(value).__name__}, expected a map')
    found: dict[str, Scalar] = {}
    for name, scalar in value.items():
        if not isinstance(name, str) or not isinstance(scalar, bool | int | float | str):
            raise RequestRefused(f'"arguments" holds {json.dumps(str(name)[:40])}, not a number')
        found[name] = scalar
    return found
