"""One study's training at one site with gradients "outside": the worker's part, our code alone.

Offers what `Trainer` offers for a study whose plan is a researcher's text: the text runs in cells,
this process holds patients, model, momentum and noise.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.patients import Batch, Patients
from p2pfl.learning.errors import Diverged, ModelRefused, PlanRefused, PrivacyRefused
from p2pfl.learning.flat_model import LocalOptimizer
from p2pfl.learning.frames import Body
from p2pfl.learning.gradient_cells import wire
from p2pfl.learning.gradient_cells.asking import Cells
from p2pfl.learning.gradient_cells.given import patient_of_zeros
from p2pfl.learning.gradient_cells.steps import CellSteps, FlatVector
from p2pfl.learning.local_work import LocalWork
from p2pfl.learning.plans.arguments import Arguments, Scalar, checked, steered
from p2pfl.learning.plans.code import KNOWN
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.scoring import Score
from p2pfl.learning.training import RandomBytes, scheduled
from p2pfl.learning.vector import Vector
from p2pfl.privacy.noise import KEY_BYTES, GaussianStream

SCORE_S: Final = 120.0
SCORE_BYTES_MAX: Final = 256 << 20
"""Of a hold-out that is handed to one cell; of images, the first patients that fit."""


class CellTrainer:
    """Trains with gradients from cells; keeps worker momentum from round to round."""

    def __init__(
        self,
        manifest: Manifest,
        train: Patients,
        cells: Cells,
        *,
        denominator: int,
        random_bytes: RandomBytes,
    ) -> None:
        """denominator: public rounded number of patients; random_bytes: os.urandom in production.

        Raises PlanRefused, PrivacyRefused, CellsGone."""
        privacy = manifest.privacy
        if not privacy.clips_patients:
            raise PrivacyRefused("gradients outside go with privacy for single patients")
        written = manifest.plan.arguments
        shipped = {name: written[name] for name in written if name in KNOWN}
        self._arguments = checked(shipped, KNOWN)
        check_options(manifest.plan.name, self._arguments, privacy)
        self._cells = cells
        self.schema = cells.open(manifest.study.parameters)
        self._manifest = manifest
        self._patients = train
        self._random_bytes = random_bytes
        self._model = FlatVector.of(self.schema.parameters)
        self._local = LocalOptimizer(self._model)
        self._last_round = -2
        self._steps = CellSteps(
            cells,
            self._model,
            self._local,
            privacy,
            denominator=denominator,
            nobody=patient_of_zeros(manifest.data),
        )

    def train(self, base: Vector, round_: int, changes: Mapping[str, Scalar]) -> LocalWork:
        """Do one round's local work from `base` (float32[d]).

        changes: what the proposer steered, inside the manifest's ranges. Raises PlanRefused,
        ModelRefused, Diverged, CellsGone."""
        arguments = self._steered(changes)
        if base.shape != (self.schema.parameters,):
            raise ModelRefused(f"expected {self.schema.parameters} parameters, got {base.shape}")
        self._begin_round(arguments, base, round_)
        stream = GaussianStream(self._random_bytes(KEY_BYTES))
        places = _generator(self._random_bytes) if self._manifest.data.images else None
        met = self._steps.run(
            self._patients, stream, places, _generator(self._random_bytes), dict(changes)
        )
        if met.without:  # to the log of this site, which nobody else sees
            sys.stderr.write(
                f"round {round_}: {met.without} of {met.patients} gradients were missing, not "
                "finite or late, and counted as zeros\n"
            )
        vector: Vector = self._model.values.numpy().copy()
        if not np.isfinite(vector).all():
            self._local.forget()
            raise Diverged(f"training in round {round_} ended in values that are not finite")
        self._local.end_round()
        self._last_round = round_
        return LocalWork(vector, met.loss, met.steps, met.steps)

    def _steered(self, changes: Mapping[str, Scalar]) -> Arguments:
        """The round's arguments of every plan; the text's own are applied in cells, by ranges.

        Raises PlanRefused."""
        ranges = self._manifest.plan.ranges
        for name, value in changes.items():
            if name in KNOWN:
                continue
            low, high = ranges.get(name, (math.nan, math.nan))
            if isinstance(value, str) or not low <= value <= high:
                raise PlanRefused(f'argument "{name}" is {value!r}, which no range here allows')
        known = {name: value for name, value in changes.items() if name in KNOWN}
        return steered(self._arguments, known, ranges)

    def _begin_round(self, arguments: Arguments, base: Vector, round_: int) -> None:
        import torch

        self._model.values.copy_(torch.from_numpy(base))
        factor = scheduled(arguments, round_, self._manifest.study.rounds)
        follows = torch.tensor([round_ == self._last_round + 1])
        steps = self._manifest.privacy.steps_per_round
        self._local.begin_round(arguments, factor, steps=steps, follows=follows)

    def score(self, vector: Vector, on: Patients) -> Score:
        """Score a model (float32[d]) on prepared patients, in one cell. It stays at the site.

        Raises PlanRefused if the text gives no score that is one."""
        batch, n = _fitting(on)
        self._cells.load(vector)
        task = wire.Task("score", {}, 0)
        raw = self._cells.ask(task, batch, wire.FRAME_BYTES_MAX, SCORE_S)
        return self._scored(wire.frame_in(raw), n)

    def _scored(self, said: Body, n: int) -> Score:
        """What a cell said of a model, checked: known names, their ranges, four digits."""
        assert self._manifest.code is not None, "cells run a text"
        measures, ranges = said.get("measures"), self._manifest.code.metrics
        found: dict[str, float] = {}
        for name, (low, high) in sorted(ranges.items()):
            value = measures.get(name) if isinstance(measures, dict) else None
            if not isinstance(value, float) or not low <= value <= high:
                raise PlanRefused(f'plan.py: "{name}" is not within {low:g} to {high:g}')
            found[name] = round(value, 4)
        auc, accuracy, loss = said.get("auc"), said.get("accuracy"), said.get("loss")
        is_auc = isinstance(auc, float) and 0.0 <= auc <= 1.0
        if not (isinstance(accuracy, float) and 0.0 <= accuracy <= 1.0):
            raise PlanRefused("plan.py: its score is no number from 0 to 1")
        if not isinstance(loss, float):
            raise PlanRefused("plan.py: its loss is no number")
        return Score(
            auc=round(float(auc), 4) if is_auc and isinstance(auc, float) else None,
            accuracy=round(accuracy, 4),
            loss=float(f"{loss:.4g}"),
            n=n,
            measures=found,
        )

    def losses(self, vector: Vector, on: Patients) -> NDArray[np.float64]:
        """Never: a private study has no hold-out guard. Raises PrivacyRefused."""
        raise PrivacyRefused("a private study has no hold-out guard")


def _generator(random_bytes: RandomBytes) -> np.random.Generator:
    words = np.frombuffer(hashlib.sha256(random_bytes(KEY_BYTES)).digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))


def _fitting(on: Patients) -> tuple[Batch, int]:
    """As many patients as one cell is given, from the first on."""
    first = on.batch(np.arange(1), None)
    each = sum(part.nbytes for part in (*first.inputs, first.target))
    n = max(1, min(on.size, SCORE_BYTES_MAX // max(1, each)))
    return on.batch(np.arange(n), None), n
