"""What every training plan offers to the trainer.

Must not import torch: a plan's schema and initial model are made where torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from p2pfl.learning.plans.arguments import Arguments, Scalar
from p2pfl.learning.vector import Schema, Vector

if TYPE_CHECKING:
    import torch


class Plan(Protocol):
    """A family of models with one loss, told apart by name in a manifest."""

    @property
    def name(self) -> str:
        """As written in [plan] name."""

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the manifest's arguments and fill in defaults. Raises PlanRefused."""

    def schema(self, features: int, arguments: Arguments) -> Schema:
        """The model's tensors for `features` inputs; names as in the torch module."""

    def initial(self, features: int, arguments: Arguments, seed: int) -> Vector:
        """The model every site starts from. Returns float32[d], the same for the same seed."""

    def module(self, features: int, arguments: Arguments) -> torch.nn.Module:
        """The torch module whose named parameters are the schema's tensors, in that order."""

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss added up over samples, each sample's share depending on that sample alone.

        logits: float32[n, outputs]; labels: float32[n], 0 or 1. Returns a scalar tensor.
        """

    def log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """How strongly each sample is predicted positive; 0 is undecided. Returns float32[n]."""
