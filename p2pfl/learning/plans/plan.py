"""What every training plan offers to the trainer.

Must not import torch: a table's schema and initial model are made where torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.plans.arguments import Arguments, Scalar
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector

if TYPE_CHECKING:
    import torch


class Plan(Protocol):
    """A family of models with one loss, told apart by name in a manifest."""

    @property
    def name(self) -> str:
        """As written in [plan] name."""

    @property
    def batch_default(self) -> int:
        """Patients per step where `batch_size` is 0; 0: all of them, they lie in memory."""

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the manifest's arguments and fill in defaults. Raises PlanRefused."""

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """Refuse what does not go together. Raises PlanRefused, PrivacyRefused."""

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """The model's tensors for such data; names as in the torch module."""

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """The model every site starts from. Returns float32[d], the same for the same seed."""

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """The torch module whose trained parameters are the schema's tensors, in that order."""

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """The loss added up over samples, each sample's share depending on that sample alone.

        outputs: float32[n, …] of the module; target: of the batch. Returns a scalar tensor.
        """

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """How good the module is on patients it was not trained on; without gradients."""

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """How strongly each sample is predicted positive; 0 is undecided. Returns float32[n].

        Raises PlanRefused where the plan predicts something else than a yes or no.
        """
