"""Plans for prepared tables: logistic regression and a small multi-layer perceptron.

Both predict one binary target from p inputs in −1…1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms, Target
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import Arguments, Scalar, checked
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.plans.privacy_checks import check_privacy
from p2pfl.learning.scoring import Score, score
from p2pfl.learning.vector import NamedShape, Schema, Vector, flatten

if TYPE_CHECKING:
    import torch

_SCALE: Final = "scale"
"""Tensor of a table's trained column scale; the layer is the model's first part."""


def binary_loss_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logistic loss for one logit, cross-entropy for two; both added up over samples."""
    from torch.nn import functional

    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="sum")
    # `cross_entropy` in its two steps: under vmap torch would take it apart in Python, and load its
    # compiler for that, a second.
    odds = functional.log_softmax(logits, dim=1)
    return -odds.gather(1, labels.long()[:, None]).sum()


def binary_log_odds(logits: torch.Tensor) -> torch.Tensor:
    """The logit, or the second minus the first. Returns float32[n]."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


WIDE: Final = 1_000_000
"""Parameters of a model whose activations for many patients the processor cannot hold on to."""
WIDE_ROWS: Final = 12
"""Patients that such a model looks at together. With 151,515 hidden units 48 patients take 16 ms in
twelves and 27 ms at once."""


def binary_score(module: torch.nn.Module, on: Patients) -> Score:
    """AUC, accuracy and loss of a module with one or two logits on one batch of everybody."""
    import torch

    batch = on.batch(None, None)
    n = len(batch.target)
    is_wide = sum(parameter.numel() for parameter in module.parameters()) > WIDE
    rows = WIDE_ROWS if is_wide else max(1, n)
    with torch.no_grad():
        device = next(module.parameters()).device
        inputs = [torch.from_numpy(part).to(device) for part in batch.inputs]
        logits = torch.cat(
            [module(*(part[at : at + rows] for part in inputs)) for at in range(0, max(1, n), rows)]
        )
    return score(binary_log_odds(logits).cpu().numpy(), batch.target)


def check_table(plan: str, data: DataTerms) -> None:
    """Raises PlanRefused unless there is a table with a yes-or-no target."""
    if data.images is not None or not isinstance(data.target, Target):
        raise PlanRefused(
            f'plan "{plan}" needs kind = "tabular" and a [data.target] with column and '
            "positive_above"
        )


def _scale_tensors(data: DataTerms, arguments: Arguments) -> tuple[NamedShape, ...]:
    if not arguments.input_norm:
        return ()
    p = (data.features,)
    return (NamedShape(f"0.{_SCALE}", p), NamedShape("0.shift", p))


def _scale_started(named: dict[str, Vector]) -> dict[str, Vector]:
    """The columns' scale starts at 1: nothing is changed."""
    if f"0.{_SCALE}" in named:
        named[f"0.{_SCALE}"][:] = 1.0
    return named


def _scale(data: DataTerms) -> torch.nn.Module:
    from p2pfl.learning.column_scale import ColumnScale

    return ColumnScale(data.features)


@dataclass(frozen=True, slots=True)
class _YesOrNo:
    """What plans for a table with a yes-or-no target share: one or two logits for each patient."""

    name: str
    batch_default: int = 0

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """A table with a target."""
        check_table(self.name, data)
        check_privacy(arguments, privacy)
        check_options(self.name, arguments, privacy)

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """Logistic loss or cross-entropy, added up."""
        return binary_loss_sum(outputs, target)

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """AUC, accuracy, loss."""
        return binary_score(module, on)

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logit, or the second minus the first."""
        return binary_log_odds(outputs)


@dataclass(frozen=True, slots=True)
class TabularLogistic(_YesOrNo):
    """Logistic regression: one linear layer with one logit; d = p + 1. Starts from zero."""

    name: str = "tabular-logistic"

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; `hidden` and `outputs` are known to the family and unused."""
        return checked(written)

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """weight [1, p], bias [1]; after the columns' scale, if there is one, named as its part."""
        p, inner = data.features, "1." if arguments.input_norm else ""
        linear = (NamedShape(f"{inner}weight", (1, p)), NamedShape(f"{inner}bias", (1,)))
        return Schema((*_scale_tensors(data, arguments), *linear))

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """All zeros: the loss is convex, so no seed is needed to leave a saddle."""
        schema = self.schema(data, arguments)
        named = {t.name: np.zeros(t.shape, dtype=np.float32) for t in schema.tensors}
        return flatten(_scale_started(named), schema)

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """One linear layer."""
        from torch import nn

        linear = nn.Linear(data.features, 1)
        return nn.Sequential(_scale(data), linear) if arguments.input_norm else linear


@dataclass(frozen=True, slots=True)
class TabularMlp(_YesOrNo):
    """p inputs → `hidden` units with ReLU → 1 or 2 logits."""

    name: str = "tabular-mlp"

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; the model's size has to be written out."""
        if "hidden" not in written:
            raise PlanRefused('argument "hidden" (hidden units of tabular-mlp) has to be written')
        return checked(written)

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """Two layers, named as in torch's Sequential([scale,] Linear, ReLU, Linear)."""
        hidden, outputs = arguments.hidden, arguments.outputs
        first = 1 if arguments.input_norm else 0
        return Schema(
            (
                *_scale_tensors(data, arguments),
                NamedShape(f"{first}.weight", (hidden, data.features)),
                NamedShape(f"{first}.bias", (hidden,)),
                NamedShape(f"{first + 2}.weight", (outputs, hidden)),
                NamedShape(f"{first + 2}.bias", (outputs,)),
            )
        )

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """He's uniform initialisation with zero biases; the same seed gives the same model.

        Source: He et al. 2015, "Delving deep into rectifiers", section 2.2 (gain √2 for ReLU).
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        schema = self.schema(data, arguments)
        named: dict[str, Vector] = {}
        for tensor in schema.tensors:
            values = np.zeros(tensor.shape, dtype=np.float32)
            if len(tensor.shape) == 2:
                bound = float(np.sqrt(6.0 / tensor.shape[1]))
                values[:] = generator.uniform(-bound, bound, tensor.shape)
            named[tensor.name] = values
        return flatten(_scale_started(named), schema)

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """Linear, ReLU, Linear."""
        from torch import nn

        return nn.Sequential(
            *([_scale(data)] if arguments.input_norm else []),
            nn.Linear(data.features, arguments.hidden),
            nn.ReLU(),
            nn.Linear(arguments.hidden, arguments.outputs),
        )


LOGISTIC: Final = TabularLogistic()
MLP: Final = TabularMlp()
