"""A torch module whose parameters and gradients are views into two flat tensors.

Responsible for making "load a vector", "take a step" and "read the vector" single operations, so
that a round costs little more than its forward and backward passes. Creating a
torch.optim.Optimizer would also load torch._dynamo, which takes 3 s.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.vector import NamedShape, Schema, Vector


class FlatModel:
    """`module` with its parameters laid one after the other, as the schema orders them."""

    def __init__(self, module: torch.nn.Module, schema: Schema) -> None:
        """Take over the module's parameters. Raises ModelRefused if they are not the schema's."""
        found = Schema(
            tuple(
                NamedShape(name, tuple(parameter.shape))
                for name, parameter in module.named_parameters()
            )
        )
        if found != schema:
            raise ModelRefused(f"the module's tensors {found} are not the plan's {schema}")
        self.module = module
        self.values = torch.zeros(schema.parameters)
        self.gradient = torch.zeros(schema.parameters)
        self.parameters = list(module.parameters())
        start = 0
        for parameter in self.parameters:
            end = start + parameter.numel()
            parameter.data = self.values[start:end].view(parameter.shape)
            parameter.grad = self.gradient[start:end].view(parameter.shape)
            start = end

    def load(self, vector: Vector) -> None:
        """Set the parameters. vector: float32[d]."""
        self.values.copy_(torch.from_numpy(vector))

    def vector(self) -> Vector:
        """The parameters as a copy, float32[d]."""
        copied: Vector = self.values.numpy().copy()
        return copied


class WorkerMomentum:
    """Gradient descent with a momentum buffer that outlives the round.

    One step: m ← β·m + (g + λ·θ), θ ← θ − η·m, with g in `model.gradient`. The attributes are the
    ones Opacus' DPOptimizer expects of the optimizer it wraps.
    """

    def __init__(self, model: FlatModel) -> None:
        self._model = model
        self._buffer = torch.zeros_like(model.values)
        self.arguments = Arguments()
        self.param_groups: list[dict[str, Iterable[torch.nn.Parameter]]] = [
            {"params": model.parameters}
        ]
        self.state: dict[str, object] = {}
        self.defaults: dict[str, object] = {}

    def begin_round(self, arguments: Arguments) -> None:
        """Take the round's arguments; forget the momentum if they say so."""
        self.arguments = arguments
        if arguments.momentum_reset:
            self.forget()

    def forget(self) -> None:
        """Clear the momentum."""
        self._buffer.zero_()

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clear the gradient; the tensors stay, they are views."""
        self._model.gradient.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradient that is in place."""
        gradient = self._model.gradient
        if self.arguments.weight_decay:
            gradient.add_(self._model.values, alpha=self.arguments.weight_decay)
        self._buffer.mul_(self.arguments.momentum).add_(gradient)
        self._model.values.add_(self._buffer, alpha=-self.arguments.learning_rate)
