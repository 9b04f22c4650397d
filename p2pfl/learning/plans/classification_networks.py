"""MONAI's DenseNet and ResNet as the plans for images with an outcome build them.

MONAI's own ResNet keeps batch norms in its blocks whatever norm is asked for, so every norm is put
in place here, after the network was built. Imports torch and MONAI: asked for by imaging plans
only.
"""

from __future__ import annotations

import torch
from torch import nn

from p2pfl.core.manifest_terms import DataTerms, ImageTerms
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.plans.networks import GROUPS_MAX, without_sharing

RESNET_STAGES = 4
"""MONAI's ResNet has as many, whatever `levels` says."""


class ImagesWithTable(nn.Module):
    """What an image encoder and a table's columns say together: one logit."""

    def __init__(self, encoder: nn.Module, encoded: int, columns: int, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.joined = nn.Linear(encoded + columns, hidden)
        self.act = nn.ReLU()
        self.out = nn.Linear(hidden, 1)

    def forward(self, images: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """images: float32[n, channels, …]; columns: float32[n, p]. Returns float32[n, 1]."""
        both = torch.cat([self.act(self.encoder(images)), columns], dim=1)
        out: torch.Tensor = self.out(self.act(self.joined(both)))
        return out


def image_classifier(data: DataTerms, arguments: Arguments, outputs: int) -> nn.Module:
    """Channels of images → `outputs` values. Raises PlanRefused."""
    images = data.images
    if images is None:
        raise PlanRefused('an imaging plan needs kind = "images"')
    make = _resnet if arguments.network == "resnet" else _densenet
    network = make(images, arguments, outputs)
    _replace_norms(network, arguments)
    return without_sharing(network)


def fusion_network(data: DataTerms, arguments: Arguments) -> nn.Module:
    """Channels of images, and p columns → one logit. Raises PlanRefused."""
    encoder = image_classifier(data, arguments, arguments.hidden)
    return ImagesWithTable(encoder, arguments.hidden, data.features, arguments.hidden)


def halvings(arguments: Arguments) -> int:
    """How often the network halves its window before it averages over what is left."""
    return RESNET_STAGES if arguments.network == "resnet" else arguments.levels + 1


def _densenet(images: ImageTerms, arguments: Arguments, outputs: int) -> nn.Module:
    from monai.networks.nets import DenseNet

    network: nn.Module = DenseNet(
        spatial_dims=len(images.window),
        in_channels=images.channels,
        out_channels=outputs,
        init_features=2 * arguments.width,
        growth_rate=arguments.width,
        block_config=(max(1, arguments.blocks),) * arguments.levels,
        dropout_prob=arguments.dropout,
    )
    return network


def _resnet(images: ImageTerms, arguments: Arguments, outputs: int) -> nn.Module:
    from monai.networks.nets import ResNet
    from monai.networks.nets.resnet import ResNetBlock

    class Block(ResNetBlock):  # type: ignore[misc]  # MONAI ships no types
        """MONAI's block; its `+=` would hide a patient's gradient from the hooks."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
            passed = x if self.downsample is None else self.downsample(x)
            added: torch.Tensor = self.act(out + passed)
            return added

    network: nn.Module = ResNet(
        block=Block,
        layers=[max(1, arguments.blocks)] * RESNET_STAGES,
        block_inplanes=[arguments.width * 2**stage for stage in range(RESNET_STAGES)],
        spatial_dims=len(images.window),
        n_input_channels=images.channels,
        num_classes=outputs,
    )
    return network


def _replace_norms(network: nn.Module, arguments: Arguments) -> None:
    """A norm of one patient's channels in the place of every norm over a batch."""
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(parent, name, _norm(part.num_features, arguments, part))


def _norm(channels: int, arguments: Arguments, stands_for: nn.Module) -> nn.Module:
    if arguments.norm == "group":
        groups = next(size for size in range(GROUPS_MAX, 0, -1) if channels % size == 0)
        return nn.GroupNorm(groups, channels)
    kind = nn.InstanceNorm3d if isinstance(stands_for, nn.BatchNorm3d) else nn.InstanceNorm2d
    return kind(channels, affine=True)
