"""Local training of one study at one site: K gradient steps from a base model.

Responsible for a round's local work, with or without differential privacy, and for keeping model,
optimizer and momentum between rounds. Must not know files, frames, rounds of others.

Without DP the order of batches follows from the manifest's seed, the site (its patients' keys)
and the round, so that a simulation repeats itself. With DP nothing random has a seed: noise and
sampling come from a ChaCha20 stream under a fresh key of the operating system. Where a study
protects whole updates (unit "site"), training is as without DP: the node clips and noises what
comes out, and believes nothing that was said in here.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans
from p2pfl.learning.at_home import HomeLayers, home_positions
from p2pfl.learning.datasets.augmentation import augmentation_of
from p2pfl.learning.datasets.patients import Batch, Patients, Rows
from p2pfl.learning.device import best_device, mixed_precision
from p2pfl.learning.errors import Diverged, ModelRefused
from p2pfl.learning.fisher import fisher_diagonal
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.frozen import frozen_positions
from p2pfl.learning.local_work import LocalWork
from p2pfl.learning.plans.arguments import Arguments, Scalar, steered
from p2pfl.learning.plans.code import CodePlan
from p2pfl.learning.plans.code_score import part_of
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector
from p2pfl.privacy.noise import KEY_BYTES, GaussianStream

RandomBytes = Callable[[int], bytes]

FLOOR: Final = 0.01
"""What a falling schedule ends at."""
POWER: Final = 0.9
"""Of the polynomial schedule, as segmentation's reference recipes have it."""
_COMPARED_MAX: Final = 2000
_SMALL_WORK: Final = 50_000_000
"""Parameters times patients: above, the loss is that of the round's own steps."""


def schema_of(manifest: Manifest) -> Schema:
    """The model's tensors. Raises PlanRefused, ModelRefused if d is not the manifest's."""
    plan = plans.plan_of(manifest)
    schema = plan.schema(manifest.data, plan.arguments(manifest.plan.arguments))
    if schema.parameters != manifest.study.parameters:
        raise ModelRefused(
            f"the plan's model has {schema.parameters} parameters, the manifest says "
            f"{manifest.study.parameters}"
        )
    return schema


class Trainer:
    """One study's training at one site; keeps worker momentum from round to round.

    >>> work = Trainer(manifest, train, denominator=100, random_bytes=os.urandom).train(base, 0, {})
    ... # doctest: +SKIP
    """

    def __init__(
        self,
        manifest: Manifest,
        train: Patients,
        *,
        denominator: int,
        random_bytes: RandomBytes,
        home_layers: Path | None = None,
        initial: Callable[[], Vector] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build model and optimizer once.

        denominator: public rounded number of patients (used with DP only); random_bytes:
        os.urandom in production; home_layers: file of the layers that stay here; initial: the
        study's initial model, asked for when training holds on to it (default: the first base);
        clock: seconds that never go back, for a study that boxes local work in time.
        Raises PlanRefused, ModelRefused, PrivacyRefused.
        """
        self.schema = schema_of(manifest)
        self._manifest = manifest
        self._plan = plans.plan_of(manifest)
        self._arguments = self._plan.arguments(manifest.plan.arguments)
        self._plan.check(manifest.data, self._arguments, manifest.privacy)
        self._patients = train.augmented(augmentation_of(self._arguments))
        self._random_bytes = random_bytes
        self._site = hashlib.sha256(b"".join(train.patients)).digest()
        module = self._plan.module(manifest.data, self._arguments)
        self._model = FlatModel(module, self.schema, best_device())
        self._frozen = frozen_positions(self.schema, self._arguments)
        self._model.freeze(self._frozen)
        self._local = LocalOptimizer(self._model)
        self._home = HomeLayers(home_positions(module, self.schema, self._arguments), home_layers)
        self._initial = initial
        self._clock = clock
        self._start: Vector | None = None
        self._is_anchored = False
        self._last_round = -2
        self._private = None
        if manifest.privacy.is_private and not manifest.privacy.is_by_update:
            from p2pfl.learning.private_steps import PrivateSteps  # loads Opacus

            images = manifest.data.images

            self._private = PrivateSteps(
                self._plan,
                self._model,
                self._local,
                manifest.privacy,
                denominator=denominator,
                voxels=0 if images is None else math.prod(images.window),
            )

    def train(self, base: Vector, round_: int, changes: Mapping[str, Scalar]) -> LocalWork:
        """Do one round's local work from `base` (float32[d]).

        changes: what the proposer steered, inside the manifest's ranges. Raises PlanRefused,
        ModelRefused, Diverged; the momentum is then as before or cleared.
        """
        began_s = self._clock()
        arguments = steered(self._arguments, changes, self._manifest.plan.ranges)
        if base.shape != (self.schema.parameters,):
            raise ModelRefused(f"expected {self.schema.parameters} parameters, got {base.shape}")
        if arguments.consolidation and not self._is_anchored:
            self._anchor(arguments, base)
        self._begin_round(arguments, base, round_)
        if self._private is not None:
            stream = GaussianStream(self._random_bytes(KEY_BYTES))
            # Images are drawn anew each time; a table's record is what it is.
            is_drawn = self._plan.batch_default > 0
            generator = _generator(self._random_bytes(KEY_BYTES)) if is_drawn else None
            torch.manual_seed(int.from_bytes(self._random_bytes(8), "little"))
            steps, loss = self._private.run(self._patients, stream, generator)
            planned = steps
        else:
            steps, loss = self._plain_steps(arguments, round_, began_s)
            planned = arguments.local_steps
            if self._manifest.privacy.is_by_update:
                steps = planned = self._manifest.privacy.steps_per_round
        vector = self._model.vector()
        if not np.isfinite(vector).all():
            self._local.forget()
            raise Diverged(f"training in round {round_} ended in values that are not finite")
        self._local.end_round()
        self._last_round = round_
        vector = self._home.keep_from(vector, base)
        if not self._plan.batch_default and self._is_small:
            loss = self._mean_loss(arguments)
        return LocalWork(vector, loss, steps, planned)

    @property
    def _is_small(self) -> bool:
        """Whether one more pass over a table costs next to nothing."""
        return self.schema.parameters * self._patients.size <= _SMALL_WORK

    def _begin_round(self, arguments: Arguments, base: Vector, round_: int) -> None:
        """Load the base with the own layers, and tell the optimizer what came of the last round."""
        self._model.load(self._home.put_into(self._as_it_was(base)))
        self._local.hold(self._frozen)
        factor = scheduled(arguments, round_, self._manifest.study.rounds)
        privacy = self._manifest.privacy
        steps = arguments.local_steps if self._private is None else privacy.steps_per_round
        follows = torch.tensor([round_ == self._last_round + 1], device=self._model.device)
        self._local.begin_round(arguments, factor, steps=steps, follows=follows)

    def _as_it_was(self, base: Vector) -> Vector:
        """The base with what is frozen as in the initial model, whatever neighbours made of it."""
        if not len(self._frozen):
            return base
        if self._start is None:
            self._start = base if self._initial is None else self._initial()
        whole = base.copy()
        whole[self._frozen] = self._start[self._frozen]
        return whole

    def _anchor(self, arguments: Arguments, base: Vector) -> None:
        """Hold on to the model that the study started from, as far as it matters to patients."""
        self._is_anchored = True
        self._model.load(base if self._initial is None else self._initial())
        importance = fisher_diagonal(self._plan, self._model, self._patients, arguments)
        self._local.corrections.consolidate(self._model.values.clone(), importance)

    def at_home(self, vector: Vector) -> Vector:
        """A model as it is used here: with the layers that stay here. vector: float32[d]."""
        return self._home.put_into(vector)

    def score(self, vector: Vector, on: Patients) -> Score:
        """Score a model (float32[d]), with the own layers, on prepared patients."""
        self._model.load(self._home.put_into(vector))
        self._model.module.eval()
        try:
            with torch.no_grad():
                return self._plan.score(self._model.module, on, self._arguments)
        finally:
            self._model.module.train()

    @torch.no_grad()
    def losses(self, vector: Vector, on: Patients) -> NDArray[np.float64]:
        """Loss of a model (float32[d]) on each of the first prepared patients. Returns float64[n].

        n: at most 2,000, enough to tell chance from change. Images are looked at in one place.
        """
        self._model.load(self._home.put_into(vector))
        self._model.module.eval()
        n, at_once = min(on.size, _COMPARED_MAX), self._plan.batch_default or _COMPARED_MAX
        found = np.zeros(n)
        try:
            for start in range(0, n, at_once):
                rows = np.arange(start, min(n, start + at_once))
                outputs, target = self._outputs(on.batch(rows, None))
                for row in range(len(rows)):
                    one = slice(row, row + 1)
                    said = part_of(outputs, one)
                    loss = self._plan.loss_sum(said, target[one], self._arguments)
                    found[start + row] = float(loss)
        finally:
            self._model.module.train()
        return found

    @torch.no_grad()
    def log_odds(self, vector: Vector, on: Patients) -> Vector:
        """Predict with a model (float32[d]). Returns float32[n]. Raises PlanRefused."""
        self._model.load(self._home.put_into(vector))
        outputs, _ = self._outputs(on.batch(None, None))
        predicted: Vector = self._plan.log_odds(outputs).cpu().numpy()
        return predicted

    def _plain_steps(self, arguments: Arguments, round_: int, began_s: float) -> tuple[int, float]:
        """Gradient steps over shuffled batches, or over everyone. began_s: of the local work.

        Returns how many there were, at least one, and the mean of losses."""
        seed = f"{self._manifest.study.seed}/{round_}/".encode() + self._site
        order, places = _generator(seed), _generator(seed + b"/places")
        torch.manual_seed(int(_generator(seed + b"/torch").integers(1 << 62)))  # dropout, latents
        total, done = 0.0, 0
        for rows in self._batches(arguments, order):
            batch = self._patients.batch(rows, places)
            self._local.zero_grad()
            with mixed_precision(arguments, self._model.device):
                loss = self._batch_loss(batch, arguments)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._local.step()
            total, done = total + float(loss.detach()), done + 1
            if self._is_time_over(began_s):
                break
        return done, total / done

    def _is_time_over(self, began_s: float) -> bool:
        """Whether a round's local work has taken as long as the study allows."""
        limit_s = self._manifest.study.work_limit_s
        return limit_s > 0.0 and self._clock() - began_s >= limit_s

    def _batches(
        self, arguments: Arguments, generator: np.random.Generator
    ) -> Iterator[Rows | None]:
        """The rows of each step, walking through shuffled epochs; None means all of them."""
        n, size = self._patients.size, arguments.batch_size or self._plan.batch_default
        if size == 0 or (size >= n and not self._plan.batch_default):
            for _ in range(arguments.local_steps):
                yield None
            return
        order = np.empty(0, dtype=np.int64)
        for _ in range(arguments.local_steps):
            if len(order) < min(size, n):
                order = generator.permutation(n)
            yield order[:size]
            order = order[size:]

    def _batch_loss(self, batch: Batch, arguments: Arguments) -> torch.Tensor:
        """The mean loss of a batch, or what a researcher's own step makes of it."""
        if isinstance(self._plan, CodePlan):
            inputs, target = self._tensors(batch)
            own = self._plan.step_loss(self._model.module, inputs, target, arguments)
            if own is not None:
                return own
        outputs, target = self._outputs(batch)
        return self._plan.loss_sum(outputs, target, arguments) / len(target)

    def _tensors(self, batch: Batch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        device = self._model.device
        inputs = tuple(torch.from_numpy(part).to(device) for part in batch.inputs)
        return inputs, torch.from_numpy(batch.target).to(device)

    def _outputs(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model says to a batch, and what it should say."""
        inputs, target = self._tensors(batch)
        return self._model.module(*inputs), target

    @torch.no_grad()
    def _mean_loss(self, arguments: Arguments) -> float:
        outputs, target = self._outputs(self._patients.batch(None, None))
        return float(self._plan.loss_sum(outputs, target, arguments)) / len(target)


def scheduled(arguments: Arguments, round_: int, rounds: int) -> float:
    """What the schedule makes of the learning rate in a round: a factor in 0…1.

    >>> from p2pfl.learning.plans.arguments import Arguments
    >>> [scheduled(Arguments(warmup_rounds=2), round_, 10) for round_ in (0, 1, 5)]
    [0.5, 1.0, 1.0]
    """
    if round_ < arguments.warmup_rounds:
        return (round_ + 1) / arguments.warmup_rounds
    if arguments.schedule == "constant":
        return 1.0
    left = max(1, rounds - arguments.warmup_rounds)
    done = min(1.0, (round_ - arguments.warmup_rounds) / left)
    shapes = {
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        "linear": 1.0 - done,
        "polynomial": (1.0 - done) ** POWER,
    }
    return float(FLOOR + (1.0 - FLOOR) * shapes[arguments.schedule])


def _generator(seed: bytes) -> np.random.Generator:
    words = np.frombuffer(hashlib.sha256(seed).digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))
