"""MONAI's networks as the imaging plans build them, and their seeded start.

Imports torch and MONAI (5 s): asked for by imaging plans only. Norms are instance or group norms:
a batch norm's running statistics are computed from patients and are no part of the model vector.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from torch import nn

from p2pfl.core.manifest_terms import DataTerms, ImageTerms
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.flat_model import trained_schema
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.vector import Schema, Vector, flatten

GROUPS_MAX: Final = 8
PRELU_START: Final = 0.25
"""As torch starts it."""


def segmentation_network(data: DataTerms, arguments: Arguments) -> nn.Module:
    """Channels of images → one logit per voxel and region. Raises PlanRefused."""
    from monai.networks.nets import SegResNet, UNet

    images = _images(data)
    axes, regions = len(images.window), len(images.regions)
    if arguments.network == "segresnet":
        network: nn.Module = SegResNet(
            spatial_dims=axes,
            init_filters=arguments.width,
            in_channels=images.channels,
            out_channels=regions,
            dropout_prob=arguments.dropout or None,
            norm=_norm(arguments, arguments.width),
            blocks_down=(max(1, arguments.blocks),) * arguments.levels,
            blocks_up=(1,) * (arguments.levels - 1),
        )
    else:
        network = UNet(
            spatial_dims=axes,
            in_channels=images.channels,
            out_channels=regions,
            channels=tuple(arguments.width * 2**level for level in range(arguments.levels)),
            strides=(2,) * (arguments.levels - 1),
            num_res_units=arguments.blocks,
            act="PRELU",
            norm=_norm(arguments, arguments.width),
            dropout=arguments.dropout,
        )
    return without_sharing(network)


def module_schema(module: nn.Module) -> Schema:
    """The tensors that are trained, in the vector's order."""
    return trained_schema(module)


def seeded_start(module: nn.Module, seed: int) -> Vector:
    """Where a network starts, float32[d]: the same numbers for the same seed, on any machine.

    He's uniform weights, no biases, norms that change nothing.
    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    schema = trained_schema(module)
    named: dict[str, Vector] = {}
    for tensor in schema.tensors:
        owner = module.get_submodule(tensor.name.rpartition(".")[0])
        is_weight = tensor.name.endswith("weight")
        values = np.zeros(tensor.shape, dtype=np.float32)
        if isinstance(owner, nn.PReLU):
            values[...] = PRELU_START
        elif len(tensor.shape) >= 2:
            bound = math.sqrt(6.0 / math.prod(tensor.shape[1:]))
            values[...] = generator.uniform(-bound, bound, tensor.shape)
        elif is_weight:
            values[...] = 1.0
        named[tensor.name] = values
    return flatten(named, schema)


def check_window(plan: str, images: ImageTerms, arguments: Arguments) -> None:
    """Raises PlanRefused where the window cannot be halved as often as the network does."""
    factor = 2 ** (arguments.levels - 1)
    wrong = [side for side in images.window if side % factor or side < 2 * factor]
    if wrong:
        raise PlanRefused(
            f'plan "{plan}" halves the window {arguments.levels - 1} times: its sides have to be '
            f"multiples of {factor}, at least {2 * factor}, not {wrong[0]}"
        )


def _images(data: DataTerms) -> ImageTerms:
    if data.images is None:
        raise PlanRefused('an imaging plan needs kind = "images"')
    return data.images


def _norm(arguments: Arguments, width: int) -> Any:
    """MONAI's own way to name a norm."""
    if arguments.norm == "group":
        groups = next(size for size in range(GROUPS_MAX, 0, -1) if width % size == 0)
        return ("group", {"num_groups": groups})
    return ("instance", {"affine": True})


def without_sharing(network: nn.Module) -> nn.Module:
    """Activations that write into their input hide it from the per-sample hooks."""
    for part in network.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]  # torch's activations all have it
    return network
