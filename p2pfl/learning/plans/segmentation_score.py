"""How well regions are marked in whole volumes: Dice, and the 95th percentile of distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.datasets.patients import Patients, Values
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.scoring import Score

if TYPE_CHECKING:
    from p2pfl.learning.plans.segmentation import Segmentation

OVERLAP: Final = 0.5
WINDOWS_AT_ONCE: Final = 2
SLICES_AT_ONCE: Final = 16

Marks = NDArray[np.bool_]


def segmentation_score(
    module: torch.nn.Module, on: Patients, arguments: Arguments, plan: Segmentation
) -> Score:
    """Mean Dice over patients and regions as `accuracy`, per region in `measures`."""
    if not isinstance(on, ImagePatients):
        raise PlanRefused("segmentation is scored on images")
    names = [region.name for region in on.terms.regions]
    dice = np.zeros((on.size, len(names)))
    loss = 0.0
    for row in range(on.size):
        volume, mask = on.volume(row)
        truth = on.regions_of(mask)
        logits = volume_logits(module, volume, on.terms.window)
        dice[row] = [
            dice_of(found, true > 0.5) for found, true in zip(logits > 0.0, truth, strict=True)
        ]
        tensors = torch.from_numpy(logits)[None], torch.from_numpy(truth)[None]
        loss += float(plan.loss_sum(*tensors, arguments))
    measures: Mapping[str, float] = {
        f"dice {name}": float(mean) for name, mean in zip(names, dice.mean(axis=0), strict=True)
    }
    return Score(None, float(dice.mean()), loss / on.size, on.size, measures)


@torch.no_grad()
def volume_logits(module: torch.nn.Module, volume: Values, window: Sequence[int]) -> Values:
    """A model on a whole volume, in windows that overlap where it is larger than one.

    volume: float32[channels, x, y, z]. Returns float32[regions, x, y, z].
    """
    device = next(module.parameters()).device
    tensor = torch.from_numpy(np.array(volume, dtype=np.float32))
    if len(window) == 2:
        slices = tensor.permute(3, 0, 1, 2)
        parts = [
            _windows(module, slices[at : at + SLICES_AT_ONCE].to(device), window)
            for at in range(0, len(slices), SLICES_AT_ONCE)
        ]
        found = torch.cat(parts).permute(1, 2, 3, 0)
    else:
        found = _windows(module, tensor[None].to(device), window)[0]
    logits: Values = found.cpu().numpy()
    return logits


def _windows(module: torch.nn.Module, batch: torch.Tensor, window: Sequence[int]) -> torch.Tensor:
    if tuple(batch.shape[2:]) == tuple(window):
        whole: torch.Tensor = module(batch)
        return whole
    from monai.inferers import sliding_window_inference

    found: torch.Tensor = sliding_window_inference(
        batch, tuple(window), WINDOWS_AT_ONCE, module, overlap=OVERLAP, mode="gaussian"
    )
    return found


def dice_of(found: Marks, true: Marks) -> float:
    """2|A∩B| / (|A| + |B|), 1 where both are empty. bool[…] both.

    >>> dice_of(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    sizes = int(found.sum()) + int(true.sum())
    return 2.0 * int((found & true).sum()) / sizes if sizes else 1.0


def hd95_of(found: Marks, true: Marks, spacing: Sequence[float]) -> float | None:
    """The 95th percentile of surface distances in millimetres; None where one is empty.

    found, true: bool[x, y, z] or bool[x, y]; spacing: millimetres per voxel of each axis.
    """
    if not found.any() or not true.any():
        return None
    from monai.metrics import compute_hausdorff_distance

    marks = [torch.from_numpy(one)[None, None].float() for one in (found, true)]
    distance = compute_hausdorff_distance(
        *marks, include_background=True, percentile=95.0, spacing=list(spacing)
    )
    return float(distance[0, 0])
