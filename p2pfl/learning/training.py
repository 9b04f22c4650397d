"""Local training of one study at one site: K gradient steps from a base model.

Responsible for a round's local work, with or without differential privacy, and for keeping model,
optimizer and momentum between rounds. Must not know files, frames, rounds of others.

Without DP the order of batches follows from the manifest's seed, the site (its patients' keys)
and the round, so that a simulation repeats itself. With DP nothing random has a seed: noise and
sampling come from a ChaCha20 stream under a fresh key of the operating system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans, scoring
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import Diverged, ModelRefused
from p2pfl.learning.flat_model import FlatModel, WorkerMomentum
from p2pfl.learning.plans.arguments import Arguments, Scalar, steered
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector
from p2pfl.privacy.noise import KEY_BYTES, GaussianStream

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class LocalWork:
    """What one round of local training ends with.

    vector: float32[d]; loss: mean over the own training patients after the work, in nats (local
    only, computed from patients); steps: gradient steps taken.
    """

    vector: Vector
    loss: float
    steps: int


def schema_of(manifest: Manifest) -> Schema:
    """The model's tensors. Raises PlanRefused, ModelRefused if d is not the manifest's."""
    plan = plans.plan_named(manifest.plan.name)
    schema = plan.schema(manifest.data.features, plan.arguments(manifest.plan.arguments))
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
        train: Prepared,
        *,
        denominator: int,
        random_bytes: RandomBytes,
    ) -> None:
        """Build model and optimizer once.

        denominator: public rounded number of patients (used with DP only); random_bytes:
        os.urandom in production. Raises PlanRefused, ModelRefused, PrivacyRefused.
        """
        self.schema = schema_of(manifest)
        self._manifest = manifest
        self._plan = plans.plan_named(manifest.plan.name)
        self._arguments = self._plan.arguments(manifest.plan.arguments)
        self._features = torch.from_numpy(train.features)
        self._labels = torch.from_numpy(train.labels)
        self._random_bytes = random_bytes
        self._site = hashlib.sha256(b"".join(train.patients)).digest()
        module = self._plan.module(manifest.data.features, self._arguments)
        self._model = FlatModel(module, self.schema)
        self._momentum = WorkerMomentum(self._model)
        self._private = None
        if manifest.privacy.is_private:
            from p2pfl.learning.private_steps import PrivateSteps  # loads Opacus

            self._private = PrivateSteps(
                self._plan,
                self._model,
                self._momentum,
                manifest.privacy,
                denominator=denominator,
            )

    def train(self, base: Vector, round_: int, changes: Mapping[str, Scalar]) -> LocalWork:
        """Do one round's local work from `base` (float32[d]).

        changes: what the proposer steered, inside the manifest's ranges. Raises PlanRefused,
        ModelRefused, Diverged; the momentum is then as before or cleared.
        """
        arguments = steered(self._arguments, changes, self._manifest.plan.ranges)
        if base.shape != (self.schema.parameters,):
            raise ModelRefused(f"expected {self.schema.parameters} parameters, got {base.shape}")
        self._model.load(base)
        self._momentum.begin_round(arguments)
        if self._private is not None:
            stream = GaussianStream(self._random_bytes(KEY_BYTES))
            steps = self._private.run(self._features, self._labels, stream)
        else:
            steps = self._plain_steps(arguments, round_)
        vector = self._model.vector()
        if not np.isfinite(vector).all():
            self._momentum.forget()
            raise Diverged(f"training in round {round_} ended in values that are not finite")
        return LocalWork(vector, self._mean_loss(), steps)

    def score(self, vector: Vector, on: Prepared) -> Score:
        """Score a model (float32[d]) on prepared patients."""
        return scoring.score(self.log_odds(vector, on), on.labels)

    @torch.no_grad()
    def log_odds(self, vector: Vector, on: Prepared) -> Vector:
        """Predict with a model (float32[d]). Returns float32[n]."""
        self._model.load(vector)
        logits = self._model.module(torch.from_numpy(on.features))
        predicted: Vector = self._plan.log_odds(logits).numpy()
        return predicted

    def _plain_steps(self, arguments: Arguments, round_: int) -> int:
        for batch in self._batches(arguments, round_):
            features, labels = self._features, self._labels
            if batch is not None:
                features, labels = features[batch], labels[batch]
            self._momentum.zero_grad()
            loss = self._plan.loss_sum(self._model.module(features), labels) / len(labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._momentum.step()
        return arguments.local_steps

    def _batches(self, arguments: Arguments, round_: int) -> Iterator[torch.Tensor | None]:
        """The rows of each step, walking through shuffled epochs; None means all of them."""
        n, size = len(self._labels), arguments.batch_size
        if size == 0 or size >= n:
            for _ in range(arguments.local_steps):
                yield None
            return
        seed = f"{self._manifest.study.seed}/{round_}/".encode() + self._site
        words = np.frombuffer(hashlib.sha256(seed).digest(), dtype="<u4")
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))
        order = np.empty(0, dtype=np.int64)
        for _ in range(arguments.local_steps):
            if len(order) < size:
                order = generator.permutation(n)
            yield torch.from_numpy(order[:size])
            order = order[size:]

    @torch.no_grad()
    def _mean_loss(self) -> float:
        logits = self._model.module(self._features)
        return float(self._plan.loss_sum(logits, self._labels)) / len(self._labels)
