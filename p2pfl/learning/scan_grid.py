"""The way back from a prepared volume to the scan it was made from.

Preparing turns a scan to RAS, resamples it, pads it and cuts the window out; what a model says is
on that grid. Here it goes back: voxel for voxel onto the scan as the hospital keeps it, so that a
viewer lays one over the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import ImageTerms, Region
from p2pfl.learning.datasets.patients import Values
from p2pfl.learning.datasets.volumes import Affine, read_header, resampled_shape
from p2pfl.learning.errors import DataRefused

NOWHERE: Final = np.float32(-30.0)
"""The logit of what a model has not looked at: a chance of 1e-13."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ScanGrid:
    """A scan's own voxels: shape of three axes, and the affine to millimetres (NIfTI's)."""

    shape: tuple[int, int, int]
    affine: Affine


def grid_of(path: Path, name: str) -> ScanGrid:
    """The grid of a NIfTI file, or of a folder of DICOM slices. Raises DataRefused."""
    if path.is_dir():
        from p2pfl.learning.datasets.dicom import read_series

        voxels, affine = read_series(path, name)
        return ScanGrid((voxels.shape[0], voxels.shape[1], voxels.shape[2]), affine)
    header = read_header(path, name)
    return ScanGrid(header.shape, header.affine)


def back_on_scan(logits: Values, grid: ScanGrid, terms: ImageTerms) -> Values:
    """Logits on the prepared volume → logits on the scan's own voxels.

    logits: float32[regions, x, y, z]. Returns float32[regions, *grid.shape]; outside the window
    that the model saw they are `NOWHERE`. Raises DataRefused if the scan is not the prepared one.
    """
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        io_orientation,
        ornt_transform,
    )

    own = io_orientation(grid.affine)
    turned = [0, 0, 0]
    spacing = np.ones(3)
    lengths = np.linalg.norm(grid.affine[:3, :3], axis=0)
    for axis, (place, _) in enumerate(own):
        turned[int(place)], spacing[int(place)] = grid.shape[axis], lengths[axis]
    sampled = resampled_shape(turned, spacing, terms.spacing)
    whole = np.stack([_unfitted(one, sampled, terms) for one in logits])
    if list(sampled) != turned:
        whole = _interpolated(whole, turned)
    back = ornt_transform(axcodes2ornt("RAS"), own)
    made: Values = np.stack([apply_orientation(one, back) for one in whole])
    if made.shape[1:] != grid.shape:
        raise DataRefused("scan", "is not the one that was prepared", fix="predict again")
    return made


def labels_of(logits: Values, regions: Sequence[Region]) -> Labels:
    """The study's label of every voxel, 0 for none.

    logits: float32[regions, x, y, z]. Regions may lie inside each other, so each label is judged
    by all regions it belongs to: the likeliest label is the one whose regions' logits add up to
    most, and nothing is likelier than none if all sums are below 0. Labels that the same regions
    hold cannot be told apart, the lowest stands for them. Returns uint8[x, y, z].
    """
    known: dict[tuple[bool, ...], int] = {}
    for label in sorted({label for region in regions for label in region.labels}):
        known.setdefault(tuple(label in region.labels for region in regions), label)
    best = np.zeros(logits.shape[1:], dtype=np.float32)
    found = np.zeros(logits.shape[1:], dtype=np.uint8)
    for held_by, label in known.items():
        total = logits[np.array(held_by)].sum(axis=0)
        better = total > best
        best[better], found[better] = total[better], label
    return found


def _unfitted(volume: Values, sampled: Sequence[int], terms: ImageTerms) -> Values:
    """Undo `prepared_volume.fitted` for one region: sampled is the shape before it."""
    window = (*terms.window, 1)[:3]
    padded, before = list(sampled), [0, 0, 0]
    for axis, size in enumerate(terms.window):
        short = size - sampled[axis]
        if short > 0:
            padded[axis], before[axis] = size, short // 2
    start = [0, 0, 0]
    if terms.placement != "patches":
        start = [(side - size) // 2 for side, size in zip(padded, window, strict=True)]
    whole = np.full(padded, NOWHERE, dtype=np.float32)
    place = tuple(slice(at, at + size) for at, size in zip(start, volume.shape, strict=True))
    if whole[place].shape != volume.shape:
        raise DataRefused("scan", "is not the one that was prepared", fix="predict again")
    whole[place] = volume
    own = tuple(slice(at, at + size) for at, size in zip(before, sampled, strict=True))
    return whole[own]


def _interpolated(volumes: Values, shape: Sequence[int]) -> Values:
    import torch
    from torch.nn import functional

    tensor = torch.from_numpy(np.ascontiguousarray(volumes))[None]
    made: Values = functional.interpolate(
        tensor, size=list(shape), mode="trilinear", align_corners=False
    )[0].numpy()
    return made
