"""Losses of segmentation, each patient's share depending on that patient alone."""

from __future__ import annotations

from typing import Final

import torch
from torch.nn import functional

SMOOTH: Final = 1.0
"""Added above and below, so that a region that is not there has a loss and a gradient, too."""

FOCUS: Final = 2.0
"""γ of the focal loss: voxels that are right already weigh less (Lin et al. 2017)."""
TOO_MUCH_WEIGHT: Final = 0.3
MISSED_WEIGHT: Final = 0.7


def segmentation_loss_sum(logits: torch.Tensor, marked: torch.Tensor, kind: str) -> torch.Tensor:
    """The loss added up over samples. logits, marked: float32[n, regions, …], marked 0 or 1.

    "dice-batch" counts overlaps over the whole batch, as some published recipes do; it is the only
    one in which patients depend on each other. Source: Milletari et al. 2016 (soft Dice).
    """
    probability = torch.sigmoid(logits)
    if kind == "dice-batch":
        pooled = (1.0 - soft_dice(probability.transpose(0, 1), marked.transpose(0, 1))).mean()
        return pooled * len(logits)
    overlap = tversky if kind == "tversky" else soft_dice
    found = overlap(probability.flatten(0, 1), marked.flatten(0, 1)).view(logits.shape[:2])
    loss = (1.0 - found).mean(dim=1).sum()
    if kind in ("dice-ce", "dice-focal"):
        each = functional.binary_cross_entropy_with_logits(logits, marked, reduction="none")
        if kind == "dice-focal":
            each = each * (1.0 - torch.exp(-each)) ** FOCUS
        loss = loss + each.flatten(1).mean(dim=1).sum()
    return loss


def soft_dice(probability: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    """2|p·m| / (|p| + |m|), smoothed. float32[k, …] both; returns float32[k]."""
    probability, marked = probability.flatten(1), marked.flatten(1)
    overlap = (probability * marked).sum(dim=1)
    sizes = probability.sum(dim=1) + marked.sum(dim=1)
    return (2.0 * overlap + SMOOTH) / (sizes + SMOOTH)


def tversky(probability: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    """As `soft_dice`, but what is missed weighs more than what is marked too much.

    Source: Salehi et al. 2017, "Tversky loss function", α = 0.3 and β = 0.7.
    """
    probability, marked = probability.flatten(1), marked.flatten(1)
    overlap = (probability * marked).sum(dim=1)
    too_much, missed = probability.sum(dim=1) - overlap, marked.sum(dim=1) - overlap
    weighed = overlap + TOO_MUCH_WEIGHT * too_much + MISSED_WEIGHT * missed
    return (overlap + SMOOTH) / (weighed + SMOOTH)
