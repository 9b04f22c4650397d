"""Plans for prepared tables: logistic regression and a small multi-layer perceptron.

Both predict one binary target from p inputs in −1…1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import Arguments, Scalar, checked
from p2pfl.learning.vector import NamedShape, Schema, Vector, flatten

if TYPE_CHECKING:
    import torch


def _loss_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logistic loss for one logit, cross-entropy for two; both added up over samples."""
    from torch.nn import functional

    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="sum")
    return functional.cross_entropy(logits, labels.long(), reduction="sum")


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


@dataclass(frozen=True, slots=True)
class TabularLogistic:
    """Logistic regression: one linear layer with one logit; d = p + 1. Starts from zero."""

    name: str = "tabular-logistic"

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; `hidden` and `outputs` are known to the family and unused."""
        return checked(written)

    def schema(self, features: int, arguments: Arguments) -> Schema:
        """weight [1, p], bias [1]."""
        return Schema((NamedShape("weight", (1, features)), NamedShape("bias", (1,))))

    def initial(self, features: int, arguments: Arguments, seed: int) -> Vector:
        """All zeros: the loss is convex, so no seed is needed to leave a saddle."""
        return np.zeros(self.schema(features, arguments).parameters, dtype=np.float32)

    def module(self, features: int, arguments: Arguments) -> torch.nn.Module:
        """One linear layer."""
        from torch import nn

        return nn.Linear(features, 1)

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logistic loss, added up."""
        return _loss_sum(logits, labels)

    def log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """The logit itself."""
        return _log_odds(logits)


@dataclass(frozen=True, slots=True)
class TabularMlp:
    """p inputs → `hidden` units with ReLU → 1 or 2 logits."""

    name: str = "tabular-mlp"

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; the model's size has to be written out."""
        if "hidden" not in written:
            raise PlanRefused('argument "hidden" (hidden units of tabular-mlp) has to be written')
        return checked(written)

    def schema(self, features: int, arguments: Arguments) -> Schema:
        """Two layers, named as in torch's Sequential(Linear, ReLU, Linear)."""
        hidden, outputs = arguments.hidden, arguments.outputs
        return Schema(
            (
                NamedShape("0.weight", (hidden, features)),
                NamedShape("0.bias", (hidden,)),
                NamedShape("2.weight", (outputs, hidden)),
                NamedShape("2.bias", (outputs,)),
            )
        )

    def initial(self, features: int, arguments: Arguments, seed: int) -> Vector:
        """He's uniform initialisation with zero biases; the same seed gives the same model.

        Source: He et al. 2015, "Delving deep into rectifiers", section 2.2 (gain √2 for ReLU).
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        schema = self.schema(features, arguments)
        named: dict[str, Vector] = {}
        for tensor in schema.tensors:
            values = np.zeros(tensor.shape, dtype=np.float32)
            if len(tensor.shape) == 2:
                bound = float(np.sqrt(6.0 / tensor.shape[1]))
                values[:] = generator.uniform(-bound, bound, tensor.shape)
            named[tensor.name] = values
        return flatten(named, schema)

    def module(self, features: int, arguments: Arguments) -> torch.nn.Module:
        """Linear, ReLU, Linear."""
        from torch import nn

        return nn.Sequential(
            nn.Linear(features, arguments.hidden),
            nn.ReLU(),
            nn.Linear(arguments.hidden, arguments.outputs),
        )

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logistic loss or cross-entropy, added up."""
        return _loss_sum(logits, labels)

    def log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """The logit, or the second minus the first."""
        return _log_odds(logits)


LOGISTIC: Final = TabularLogistic()
MLP: Final = TabularMlp()
