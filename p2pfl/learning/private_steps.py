"""Differentially private gradient steps: clip each patient's gradient, add noise, divide.

Responsible for what the privacy accounting assumes about one step:
  1. each patient is in the batch by a secret coin of rate q, or always (q = 1);
  2. each patient's gradient is scaled down to norm ≤ C (Opacus, one record per patient);
  3. N(0, (σC)²) from a ChaCha20 stream is added to every coordinate of the *sum*, also when
     nobody was drawn;
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
from p2pfl.learning.errors import PrivacyRefused
from p2pfl.learning.flat_model import FlatModel, WorkerMomentum
from p2pfl.learning.opacus_parts import DPOptimizer, GradSampleModule
from p2pfl.learning.plans.plan import Plan
from p2pfl.privacy.noise import GaussianStream

GRADIENT_VALUES_MAX = 1 << 24
"""Per-sample gradients held at once: 64 MiB of float32. Larger batches are done in pieces."""


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus' optimizer with noise from our stream and a public denominator."""

    def __init__(
        self,
        momentum: WorkerMomentum,
        model: FlatModel,
        *,
        noise_multiplier: float,
        clip_norm: float,
        denominator: float,
    ) -> None:
        super().__init__(
            momentum,
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
        noisy = summed.numpy().astype(np.float64)
        noisy += self.stream.normal(noisy.size, std=self.noise_multiplier * self.max_grad_norm)
        noisy /= self._denominator
        self._model.gradient.copy_(torch.from_numpy(noisy))
        for parameter in self.params:
            parameter.summed_grad._processed = True  # Opacus refuses to use a sum twice


class PrivateSteps:
    """The private steps of every round of one study at one site."""

    def __init__(
        self,
        plan: Plan,
        model: FlatModel,
        momentum: WorkerMomentum,
        privacy: PrivacyTerms,
        *,
        denominator: int,
        gradient_values_max: int = GRADIENT_VALUES_MAX,
    ) -> None:
        """denominator: the public, rounded number of patients; gradient_values_max: held at once.

        Raises PrivacyRefused.
        """
        if denominator < 1:
            raise PrivacyRefused(f"the public number of patients is {denominator}, expected ≥ 1")
        self._plan = plan
        self._privacy = privacy
        self._piece = max(1, gradient_values_max // model.values.numel())
        self._sampled: Any = GradSampleModule(model.module, loss_reduction="sum")
        self.optimizer = NoisyOptimizer(
            momentum,
            model,
            noise_multiplier=privacy.noise_multiplier,
            clip_norm=privacy.clip_norm,
            denominator=denominator * privacy.sampling_rate,
        )

    def run(self, features: torch.Tensor, labels: torch.Tensor, stream: GaussianStream) -> int:
        """Take the round's steps. features: float32[n, p]; labels: float32[n]. Returns the steps.

        stream: under a fresh key of the operating system, for this round alone.
        """
        self.optimizer.stream = stream
        for _ in range(self._privacy.steps_per_round):
            if self._privacy.sampling == "poisson":
                drawn = torch.from_numpy(stream.chosen(len(labels), self._privacy.sampling_rate))
                self._step(features[drawn], labels[drawn])
            else:
                self._step(features, labels)
        self.optimizer.stream = None
        return self._privacy.steps_per_round

    def _step(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """One noisy step over a batch, which may be empty."""
        for start, end, is_last in _pieces(len(labels), self._piece):
            if not is_last:
                self.optimizer.signal_skip_step(do_skip=True)
            logits = self._sampled(features[start:end])
            loss = self._plan.loss_sum(logits, labels[start:end])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimizer.step()
            self.optimizer.zero_grad()


def _pieces(n: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Cut n samples into pieces (start, end, is_last) of at most `size`; at least one, if empty."""
    starts = range(0, max(n, 1), size)
    for start in starts:
        yield start, min(start + size, n), start == starts[-1]
