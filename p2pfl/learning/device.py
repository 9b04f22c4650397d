"""Where a model is trained: on a GPU where there is one, else on the processor."""

from __future__ import annotations

import contextlib

import torch

from p2pfl.learning.plans.arguments import Arguments


def best_device() -> torch.device:
    """The first CUDA device, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision(
    arguments: Arguments, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """bfloat16 where the network gains from it, if the plan asks for it.

    bfloat16 has float32's range, so no gradient has to be scaled against underflow.
    """
    if arguments.precision != "mixed":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
