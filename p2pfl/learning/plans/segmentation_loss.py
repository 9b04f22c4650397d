"""Losses of segmentation, each patient's share depending on that patient alone."""

from __future__ import annotations

from typing import Final

import torch
from torch.nn import functional

SMOOTH: Final = 1.0
"""Added above and below, so that a region that is not there has a loss and a gradient, too."""


def segmentation_loss_sum(logits: torch.Tensor, marked: torch.Tensor, kind: str) -> torch.Tensor:
    """The loss added up over samples. logits, marked: float32[n, regions, …], marked 0 or 1.

    "dice-batch" counts overlaps over the whole batch, as some published recipes do; it is the only
    one in which patients depend on each other. Source: Milletari et al. 2016 (soft Dice).
    """
    probability = torch.sigmoid(logits)
    if kind == "dice-batch":
        pooled = (1.0 - soft_dice(probability.transpose(0, 1), marked.transpose(0, 1))).mean()
        return pooled * len(logits)
    dice = (1.0 - soft_dice(probability.flatten(0, 1), marked.flatten(0, 1))).view(logits.shape[:2])
    loss = dice.mean(dim=1).sum()
    if kind == "dice-ce":
        each = functional.binary_cross_entropy_with_logits(logits, marked, reduction="none")
        loss = loss + each.flatten(1).mean(dim=1).sum()
    return loss


def soft_dice(probability: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    """2|p·m| / (|p| + |m|), smoothed. float32[k, …] both; returns float32[k]."""
    probability, marked = probability.flatten(1), marked.flatten(1)
    overlap = (probability * marked).sum(dim=1)
    sizes = probability.sum(dim=1) + marked.sum(dim=1)
    return (2.0 * overlap + SMOOTH) / (sizes + SMOOTH)
