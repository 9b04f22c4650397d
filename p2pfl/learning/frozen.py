"""The part of a model that a study leaves as it was: fine-tuning of the last layer alone.

Responsible for which coordinates stay. They are part of the model vector like all others, so that
models stay whole, averaging needs no exception and a released model is used as any other. At every
round of training they are set to the study's initial model again: a neighbour who moved them has
moved nothing. Under privacy noise is added to the trained coordinates alone, which are few.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from p2pfl.learning.at_home import Positions
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.vector import Schema

HEAD_DEPTH: Final = 2
"""Parts of a tensor's name that tell the network's last block: "model.2" of a UNet."""


def frozen_positions(schema: Schema, arguments: Arguments) -> Positions:
    """Which coordinates of the vector stay as they were, ascending; empty where all are trained."""
    if arguments.frozen == "none":
        return np.empty(0, dtype=np.int64)
    head = _block(schema.tensors[-1].name)
    chosen: list[Positions] = []
    start = 0
    for tensor in schema.tensors:
        if _block(tensor.name) != head:
            chosen.append(np.arange(start, start + tensor.size))
        start += tensor.size
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)


def _block(name: str) -> tuple[str, ...]:
    """The block a tensor belongs to.

    >>> _block("model.2.0.conv.weight"), _block("fc.bias")
    (('model', '2'), ('fc',))
    """
    return tuple(name.split(".")[:-1][:HEAD_DEPTH])
