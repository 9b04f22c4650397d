"""A torch module whose parameters and gradients are views into two flat tensors.

Responsible for making "load a vector", "take a step" and "read the vector" single operations, so
that a round costs little more than its forward and backward passes. Creating a
torch.optim.Optimizer would also load torch._dynamo, which takes 3 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.learning.corrections import Corrections, Memory
from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.vector import NamedShape, Schema, Vector

ADAM_SQUARE_DECAY: Final = 0.999
ADAM_EPSILON: Final = 1e-8
CPU: Final = torch.device("cpu")


class FlatModel:
    """`module` with its parameters laid one after the other, as the schema orders them."""

    def __init__(self, module: torch.nn.Module, schema: Schema, device: torch.device = CPU) -> None:
        """Take over the module's parameters. Raises ModelRefused if they are not the schema's.

        A frozen parameter (requires_grad False) stays as it is and is no part of the vector.
        """
        found = trained_schema(module)
        if found != schema:
            raise ModelRefused(f"the module's tensors {found} are not the plan's {schema}")
        self.module = module.to(device)
        self.device = device
        self.values = torch.zeros(schema.parameters, device=device)
        self.gradient = torch.zeros(schema.parameters, device=device)
        self.parameters = [one for one in module.parameters() if one.requires_grad]
        self._trained: torch.Tensor | None = None
        start = 0
        for parameter in self.parameters:
            end = start + parameter.numel()
            parameter.data = self.values[start:end].view(parameter.shape)
            parameter.grad = self.gradient[start:end].view(parameter.shape)
            start = end

    def freeze(self, positions: NDArray[np.int64]) -> None:
        """Train everything else alone. positions: of whole tensors in the vector, ascending."""
        if not len(positions):
            return
        is_trained = np.ones(len(self.values), dtype=np.bool_)
        is_trained[positions] = False
        start = 0
        for parameter in self.parameters:
            parameter.requires_grad_(bool(is_trained[start]))
            start += parameter.numel()
        self.parameters = [one for one in self.parameters if one.requires_grad]
        self._trained = torch.from_numpy(np.flatnonzero(is_trained)).to(self.device)

    def set_gradient(self, found: torch.Tensor) -> None:
        """found: one value for each coordinate that is trained."""
        if self._trained is None:
            self.gradient.copy_(found)
        else:
            self.gradient.zero_()
            self.gradient[self._trained] = found.to(self.gradient)

    def load(self, vector: Vector) -> None:
        """Set the parameters. vector: float32[d]."""
        self.values.copy_(torch.from_numpy(vector))

    def vector(self) -> Vector:
        """The parameters as a copy, float32[d]."""
        copied: Vector = self.values.cpu().numpy().copy()
        return copied


def trained_schema(module: torch.nn.Module) -> Schema:
    """The tensors of a module that are trained, in the order of the vector."""
    return Schema(
        tuple(
            NamedShape(name, tuple(parameter.shape))
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        )
    )


class Steppable(Protocol):
    """A model, or many of the same shape, as LocalOptimizer moves them.

    values, gradient: float32[d], or float32[n, d] of n sites at once.
    """

    values: torch.Tensor
    gradient: torch.Tensor
    parameters: list[torch.nn.Parameter]


class LocalOptimizer:
    """Gradient descent whose buffers outlive the round: worker momentum, or Adam.

    One step of "sgd": m ← β·m + (g + λ·θ), θ ← θ − η·m, with g in `model.gradient`. With "adam" the
    weight decay is decoupled. Everything is elementwise. The attributes are the ones Opacus'
    DPOptimizer expects of the optimizer it wraps.
    Source: Karimireddy et al. 2021; Kingma & Ba 2015; Loshchilov & Hutter 2019.
    """

    def __init__(self, model: Steppable) -> None:
        self._model = model
        self.memory: Memory = {"momentum": torch.zeros_like(model.values)}
        self.corrections = Corrections(self.memory)
        self.learning_rate = 0.0
        self.arguments = Arguments()
        self._held: tuple[torch.Tensor, torch.Tensor] | None = None
        self.param_groups: list[dict[str, Iterable[torch.nn.Parameter]]] = [
            {"params": model.parameters}
        ]
        self.state: dict[str, object] = {}
        self.defaults: dict[str, object] = {}

    def begin_round(
        self,
        arguments: Arguments,
        factor: float = 1.0,
        *,
        steps: int = 1,
        follows: torch.Tensor | None = None,
    ) -> None:
        """Take the round's arguments, from the base in `model.values`.

        factor: what the schedule makes of the learning rate in this round. steps: how many will be
        taken. follows: bool[…, 1], whether the site trained the round before.
        """
        self.arguments = arguments
        self.learning_rate = arguments.learning_rate * factor
        if arguments.momentum_reset:
            self._forget_steps()
        base = self._model.values
        known = torch.zeros_like(base[..., :1], dtype=torch.bool) if follows is None else follows
        self.corrections.begin_round(arguments, base, known, self.learning_rate * steps)

    def end_round(self) -> None:
        """The round's steps are taken, and what came of them is finite."""
        self.corrections.end_round(self.arguments, self._model.values)

    def forget(self) -> None:
        """Clear what earlier rounds left."""
        self._forget_steps()
        self.corrections.forget()

    def _forget_steps(self) -> None:
        self.memory["momentum"].zero_()
        self.memory.pop("square", None)
        self.memory.pop("steps", None)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clear the gradient; the tensors stay, they are views."""
        self._model.gradient.zero_()

    def hold(self, positions: NDArray[np.int64]) -> None:
        """Keep what `model.values` holds there now, whatever decay or momentum would make of it."""
        if len(positions):
            places = torch.from_numpy(positions).to(self._model.values.device)
            self._held = places, self._model.values[places].clone()

    def step(self) -> None:
        """Take one step with the gradient that is in place."""
        self._step()
        if self._held is not None:
            places, values = self._held
            self._model.values[places] = values

    @torch.no_grad()
    def _step(self) -> None:
        arguments, gradient = self.arguments, self._model.gradient
        self.corrections.add_to(gradient, self._model.values, arguments, self.learning_rate)
        if arguments.optimiser == "adam":
            self._adam_step(arguments, gradient)
            return
        if arguments.weight_decay:
            gradient.add_(self._model.values, alpha=arguments.weight_decay)
        momentum = self.memory["momentum"]
        momentum.mul_(arguments.momentum).add_(gradient)
        moved = momentum
        if arguments.optimiser == "nesterov":
            moved = gradient.add_(momentum, alpha=arguments.momentum)
        self._model.values.add_(moved, alpha=-self.learning_rate)

    def _adam_step(self, arguments: Arguments, gradient: torch.Tensor) -> None:
        memory = self.memory
        if "square" not in memory:
            memory["square"] = torch.zeros_like(gradient)
            memory["steps"] = torch.zeros_like(gradient[..., :1], dtype=torch.float64)
        memory["steps"] += 1.0
        first, second, steps = arguments.momentum, ADAM_SQUARE_DECAY, memory["steps"]
        memory["momentum"].mul_(first).add_(gradient, alpha=1.0 - first)
        memory["square"].mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        unbias = ((1.0 - second**steps).sqrt() / (1.0 - first**steps)).float()
        if arguments.weight_decay:
            self._model.values.mul_(1.0 - self.learning_rate * arguments.weight_decay)
        scale = memory["square"].sqrt().add_(ADAM_EPSILON)
        self._model.values.addcdiv_(memory["momentum"] * unbias, scale, value=-self.learning_rate)
