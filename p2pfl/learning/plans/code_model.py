"""What a researcher's text hands over in torch's terms, checked value by value. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from p2pfl.learning.code_lines import FILE
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.networks import without_sharing


def checked_model(made: object, line: int) -> nn.Module:
    """The text's model, if its parameters can be exchanged and nothing else of it is learnt.

    Raises PlanRefused."""
    if not isinstance(made, nn.Module):
        raise PlanRefused(f"{FILE} line {line}: model returned no torch.nn.Module")
    refuse_batch_norms(made, f"{FILE} line {line}")
    trained = [(name, one) for name, one in made.named_parameters() if one.requires_grad]
    if not trained:
        raise PlanRefused(f"{FILE} line {line}: the model has no parameters to train")
    for name, one in trained:
        if one.dtype != torch.float32 or one.device.type != "cpu":
            raise PlanRefused(
                f'{FILE} line {line}: the parameter "{name}" is {one.dtype} on {one.device}, '
                "expected float32 as the model is made, on the CPU"
            )
    return without_sharing(made)


def refuse_batch_norms(module: nn.Module, whose: str) -> None:
    """Raises PlanRefused where a layer keeps statistics of patients beside its parameters."""
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise PlanRefused(
                f'{whose}: the layer "{name}" is a batch norm, which keeps statistics of patients '
                "outside the model vector: use GroupNorm or InstanceNorm"
            )


def with_transform(module: nn.Module, transform: Callable[..., Any] | None) -> nn.Module:
    """The module whose inputs go through the text's transform first, if there is one."""
    if transform is not None:

        def before(_: nn.Module, given: tuple[Any, ...]) -> Any:
            return transform(*given)

        module.register_forward_pre_hook(before)
    return module


def checked_losses(losses: object, n: int, line: int) -> torch.Tensor:
    """One value for each of n patients, float[n]. Raises PlanRefused."""
    if not isinstance(losses, torch.Tensor) or losses.shape != (n,):
        shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise PlanRefused(
            f"{FILE} line {line}: loss returned {shape}, expected one value for each of {n} "
            'patients: with torch\'s losses write reduction="none" and average what is left of a '
            "patient"
        )
    if not losses.is_floating_point():
        raise PlanRefused(f"{FILE} line {line}: loss returned {losses.dtype}, expected floats")
    return losses


def checked_step(loss: object, line: int) -> torch.Tensor:
    """A batch's loss, one number. Raises PlanRefused."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        raise PlanRefused(
            f"{FILE} line {line}: training_step has to return the batch's loss, one number"
        )
    return loss.reshape(())


def checked_odds(odds: object, line: int) -> torch.Tensor:
    """How strongly each patient is predicted positive, float[n]. Raises PlanRefused."""
    if not isinstance(odds, torch.Tensor) or odds.dim() != 1 or not odds.is_floating_point():
        raise PlanRefused(f"{FILE} line {line}: log_odds has to return float[n]")
    return odds
