"""Differentially private gradient steps: clip each patient's gradient, add noise, divide.

Responsible for what the privacy accounting assumes about one step:
  1. each patient is in the batch by a secret coin of rate q, or always (q = 1);
  2. each patient's gradient is scaled down to norm ≤ C (Opacus, one record per patient);
  3. N(0, (σC)²) from a ChaCha20 stream is added to every trained coordinate of the *sum*, also
     when nobody was drawn; a coordinate that the study freezes does not depend on patients;
  4. the sum is divided by q · (a public, rounded number of patients), never by an exact count.
Must not account: ε is made from the manifest by the node, and no Opacus accountant is attached.

Source: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning.datasets.patients import Patients, Rows
from p2pfl.learning.errors import PrivacyRefused
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.opacus_parts import DPOptimizer, GradSampleModule, prepare_convolutions
from p2pfl.learning.plans.plan import Plan
from p2pfl.privacy.noise import GaussianStream

GRADIENT_VALUES_MAX = 1 << 24
"""Per-sample gradients held at once: 64 MiB of float32. Larger batches are done in pieces."""


VOXELS_AT_ONCE = 1 << 18
"""Of images' windows: each layer unfolds them for its per-sample gradients, 27 floats a voxel."""


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' optimizer with noise from our stream and a public denominator."""

    def __init__(
        self,
        local: LocalOptimizer,
        model: FlatModel,
        *,
        noise_multiplier: float,
        clip_norm: float,
        denominator: float,
    ) -> None:
        super().__init__(
            local,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",  # the division by the public denominator is ours
        )
        self._model = model
        self._denominator = denominator
        self.stream: GaussianStream | None = None

    def clip_and_accumulate(self) -> None:
        """Clip, after turning what is not finite into zeros.

        A neighbour's extreme but finite model can make single gradients overflow; as NaN they
        would pass the clipping and show in the sum who caused them.
        """
        for parameter in self.params:
            gradients = parameter.grad_sample
            if not torch.isfinite(gradients.sum()):
                torch.nan_to_num_(gradients, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Write (Σ clipped gradients + noise) / denominator to the model's gradient.

        Added in float64 and rounded afterwards: rounding is post-processing.
        """
        if self.stream is None:
            raise PrivacyRefused("a private step without a noise stream")
        summed = torch.cat([parameter.summed_grad.reshape(-1) for parameter in self.params])
        noisy = summed.cpu().numpy().astype(np.float64)
        noisy += self.stream.normal(noisy.size, std=self.noise_multiplier * self.max_grad_norm)
        noisy /= self._denominator
        self._model.set_gradient(torch.from_numpy(noisy))
        for parameter in self.params:
            parameter.summed_grad._processed = True  # Opacus refuses to use a sum twice


class PrivateSteps:
    """The private steps of every round of one study at one site."""

    def __init__(
        self,
        plan: Plan,
        model: FlatModel,
        local: LocalOptimizer,
        privacy: PrivacyTerms,
        *,
        denominator: int,
        gradient_values_max: int = GRADIENT_VALUES_MAX,
        voxels: int = 0,
    ) -> None:
        """denominator: the public, rounded number of patients; gradient_values_max: held at once.

        voxels: of one patient's window, 0 for a table. Raises PrivacyRefused.
        """
        _refuse_batch_norms(model.module)
        if denominator < 1:
            raise PrivacyRefused(f"the public number of patients is {denominator}, expected ≥ 1")
        self._plan = plan
        self._model = model
        self._local = local
        self._privacy = privacy
        self._piece = max(1, gradient_values_max // sum(one.numel() for one in model.parameters))
        if plan.batch_default:  # volumes: their activations weigh more than their gradients
            prepare_convolutions()
            fitting = VOXELS_AT_ONCE // voxels if voxels else 0
            self._piece = min(self._piece, max(plan.batch_default, fitting))
        self._sampled: Any = GradSampleModule(model.module, loss_reduction="sum")
        self.optimizer = NoisyOptimizer(
            local,
            model,
            noise_multiplier=privacy.noise_multiplier,
            clip_norm=privacy.clip_norm,
            denominator=denominator * privacy.sampling_rate,
        )

    def run(
        self, patients: Patients, stream: GaussianStream, generator: np.random.Generator | None
    ) -> tuple[int, float]:
        """Take the round's steps. Returns their number, and the mean loss of whom they met.

        stream: under a fresh key of the operating system, for this round alone; generator: of
        places and augmentation. The mean loss stays at the site.
        """
        self.optimizer.stream = stream
        met, total = 0, 0.0
        for _ in range(self._privacy.steps_per_round):
            rows = np.arange(patients.size)
            if self._privacy.sampling == "poisson":
                rows = np.flatnonzero(stream.chosen(patients.size, self._privacy.sampling_rate))
            total += self._step(patients, rows, generator)
            met += len(rows)
        self.optimizer.stream = None
        return self._privacy.steps_per_round, total / max(1, met)

    def _step(self, patients: Patients, rows: Rows, generator: np.random.Generator | None) -> float:
        """One noisy step over some patients, who may be nobody. Returns the sum of their losses."""
        total = 0.0
        if len(rows) == 0:
            self._noise_alone()
        for start, end, is_last in _pieces(len(rows), self._piece):
            if not is_last:
                self.optimizer.signal_skip_step(do_skip=True)
            batch = patients.batch(rows[start:end], generator)
            inputs = (torch.from_numpy(part).to(self._model.device) for part in batch.inputs)
            target = torch.from_numpy(batch.target).to(self._model.device)
            outputs = self._sampled(*inputs)
            loss = self._plan.loss_sum(outputs, target, self._local.arguments)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimizer.step()
            self.optimizer.zero_grad()
            total += float(loss.detach())
        return total

    def _noise_alone(self) -> None:
        """A step in which nobody was drawn: the noise goes out all the same."""
        for parameter in self.optimizer.params:
            parameter.summed_grad = torch.zeros_like(parameter)
        self.optimizer.add_noise()
        self._local.step()
        self.optimizer.zero_grad()


def _refuse_batch_norms(module: torch.nn.Module) -> None:
    """Whatever a plan's check believed: no layer may look at several patients at once."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            raise PrivacyRefused(
                f'the layer "{name}" is a batch norm, which computes with several patients at '
                'once: use norm = "instance" or norm = "group"'
            )


def _pieces(n: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Cut n samples into pieces (start, end, is_last) of at most `size`."""
    starts = range(0, n, size)
    for start in starts:
        yield start, min(start + size, n), start == starts[-1]
