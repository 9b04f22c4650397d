"""Private steps whose gradients come from cells: clip each patient's, add noise, divide, step.

Keeps what `private_steps` promises (a secret coin for each patient; norm ≤ C; noise on the sum,
also when nobody was drawn; a public denominator), and two promises more, since here the gradients
are a stranger's:
  5. one cell runs at a time, and each has a *turn* of the same length whatever it does: a cell that
     is late is ended, its patient counts as zeros, and the next one starts when its turn comes.
     So neither the time a step takes nor the time a cell wakes up at depends on any patient.
  6. the length of turns is measured each round on a patient of zeros: it depends on no data.

Source: Abadi et al. 2016, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning.datasets.patients import Batch, Patients
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.flat_model import LocalOptimizer
from p2pfl.learning.gradient_cells import wire
from p2pfl.learning.gradient_cells.asking import Cells
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.vector import Vector
from p2pfl.privacy.noise import GaussianStream
from p2pfl.privacy.vectors import clipped, noisy

TURN_FACTOR: Final = 4.0
"""How much longer than for a patient of zeros a cell may take: machines have other work, too."""
TURN_MIN_S: Final = 0.02
TURN_MAX_S: Final = 60.0
TRIED: Final = 3
"""Cells that are timed; the slowest counts."""
WORKING_SHARE: Final = 0.9
"""Of a turn: the rest is for the kernel to clear away a cell that it had to end."""


@dataclass(slots=True)
class FlatVector:
    """A model as the optimizer moves it, without a module: the worker runs no foreign code."""

    values: torch.Tensor
    gradient: torch.Tensor
    parameters: list[torch.nn.Parameter]

    @classmethod
    def of(cls, parameters: int) -> FlatVector:
        """Zeros, float32[d]."""
        return cls(torch.zeros(parameters), torch.zeros(parameters), [])


@dataclass(frozen=True, slots=True)
class Met:
    """What a round's steps came to; it stays at the site."""

    steps: int
    loss: float
    """Mean over the gradients that counted."""
    patients: int
    without: int
    """Patients whose cells gave no gradient in time: they counted as zeros."""


class CellSteps:
    """The private steps of every round of one study at one site."""

    def __init__(
        self,
        cells: Cells,
        model: FlatVector,
        local: LocalOptimizer,
        privacy: PrivacyTerms,
        *,
        denominator: int,
        nobody: Batch,
    ) -> None:
        """denominator: the public, rounded number of patients; nobody: a patient of zeros.

        Raises PrivacyRefused."""
        if denominator < 1:
            raise PrivacyRefused(f"the public number of patients is {denominator}, expected ≥ 1")
        self._cells = cells
        self._model = model
        self._local = local
        self._privacy = privacy
        self._denominator = denominator * privacy.sampling_rate
        self._nobody = nobody
        self._d = len(model.values)

    def run(
        self,
        patients: Patients,
        stream: GaussianStream,
        places: np.random.Generator | None,
        seeds: np.random.Generator,
        steered: Mapping[str, Scalar],
    ) -> Met:
        """Take the round's steps.

        stream: under a fresh key of the operating system; places: of images' windows; seeds: of
        dropout in cells; steered: arguments as they are in this round. Raises CellsGone,
        PlanRefused if the plan gives nothing for a patient of zeros."""
        met, counted, total = 0, 0, 0.0
        turn_s = self._turn_s(seeds, steered)
        for _ in range(self._privacy.steps_per_round):
            rows = np.arange(patients.size)
            if self._privacy.sampling == "poisson":
                rows = np.flatnonzero(stream.chosen(patients.size, self._privacy.sampling_rate))
            self._cells.load(self._model.values.numpy())
            summed = np.zeros(self._d)
            drawn = (patients.batch(rows[i : i + 1], places) for i in range(len(rows)))
            for found in self._in_turns(drawn, turn_s, seeds, steered):
                if found is not None:
                    summed += clipped(found[0], self._privacy.clip_norm)
                    counted, total = counted + 1, total + found[1]
            met += len(rows)
            self._step(summed, stream)
        lost = met - counted
        return Met(self._privacy.steps_per_round, total / max(1, counted), met, lost)

    def _in_turns(
        self,
        drawn: Iterator[Batch],
        turn_s: float,
        seeds: np.random.Generator,
        steered: Mapping[str, Scalar],
    ) -> Iterator[tuple[Vector, float] | None]:
        """Each patient's gradient, one turn after the other, each from its own time on."""
        clock = self._cells.clock
        start_s = clock.now_s()
        for number, patient in enumerate(drawn, start=1):
            task = _gradient_task(seeds, steered)
            end_s = start_s + number * turn_s
            limit_s = max(0.001, WORKING_SHARE * (end_s - clock.now_s()))
            yield self._cells.gradient(task, patient, self._d, limit_s)
            clock.sleep_s(max(0.0, end_s - clock.now_s()))

    def _turn_s(self, seeds: np.random.Generator, steered: Mapping[str, Scalar]) -> float:
        """How long a turn is in this round. Raises PlanRefused, CellsGone."""
        clock, slowest_s = self._cells.clock, 0.0
        self._cells.load(self._model.values.numpy())
        for _ in range(TRIED):
            task, start_s = _gradient_task(seeds, steered), clock.now_s()
            if self._cells.gradient(task, self._nobody, self._d, TURN_MAX_S) is None:
                raise PlanRefused("plan.py: no finite gradient for a patient of zeros")
            slowest_s = max(slowest_s, clock.now_s() - start_s)
        return min(TURN_MAX_S, max(TURN_MIN_S, TURN_FACTOR * slowest_s))

    def _step(self, summed: NDArray[np.float64], stream: GaussianStream) -> None:
        """One noisy step: (Σ clipped gradients + noise) / denominator, whoever was there."""
        deviation = self._privacy.noise_multiplier * self._privacy.clip_norm
        released = noisy(summed, deviation, stream) / self._denominator
        self._model.gradient.copy_(torch.from_numpy(released.astype(np.float32)))
        self._local.step()
        self._local.zero_grad()


def _gradient_task(seeds: np.random.Generator, steered: Mapping[str, Scalar]) -> wire.Task:
    return wire.Task("gradient", steered, int(seeds.integers(1 << 62)))
