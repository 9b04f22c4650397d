"""Regions of images in 2D or 3D: a small U-shaped network and a soft Dice loss."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Sequential):
    def __init__(self, conv, channels, width):
        # GroupNorm looks at one patient at a time; a batch norm would be refused.
        super().__init__(conv(channels, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, axes, channels, regions, width):
        super().__init__()
        conv = nn.Conv3d if axes == 3 else nn.Conv2d
        self.pool = nn.MaxPool3d(2) if axes == 3 else nn.MaxPool2d(2)
        self.top = Block(conv, channels, width)
        self.bottom = Block(conv, width, 2 * width)
        self.joined = Block(conv, 3 * width, width)
        self.out = conv(width, regions, 1)

    def forward(self, images):
        top = self.top(images)
        below = functional.interpolate(self.bottom(self.pool(top)), size=top.shape[2:])
        return self.out(self.joined(torch.cat([top, below], dim=1)))


class Plan:
    arguments = {"width": 8}
    measures = ["dice"]

    def model(self, inputs, arguments):
        return UNet(len(inputs.window), inputs.channels, len(inputs.regions), arguments["width"])

    def loss(self, outputs, target):
        marked = outputs.sigmoid()
        dice = 1.0 - self.overlap(marked, target).mean(dim=1)
        voxels = functional.binary_cross_entropy_with_logits(outputs, target, reduction="none")
        return dice + voxels.flatten(1).mean(dim=1)

    def metrics(self, outputs, target):
        return {"dice": self.overlap((outputs > 0).float(), target).mean()}

    def overlap(self, marked, target):
        marked, target = marked.flatten(2), target.flatten(2)
        both = (marked * target).sum(dim=2)
        return (2.0 * both + 1.0) / (marked.sum(dim=2) + target.sum(dim=2) + 1.0)
