"""One volume from disk: NIfTI or a DICOM series as float32 voxels in a known orientation.

Responsible for reading with bounds, orientation (RAS), resampling and the refusal of files that
are not what they are said to be. Errors name the file, never a patient's header fields.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.errors import DataRefused

VOXELS_MAX: Final = 1 << 28
"""Of one file: 1 GiB as float32. Whole-body CT at half a millimetre is larger, and is refused."""
NIFTI_ENDINGS: Final = (".nii", ".nii.gz")
AFFINE_TOLERANCE_MM: Final = 0.5

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself, without its voxels.

    shape: three axes; channels: 1, or the fourth axis; spacing: millimetres per voxel.
    """

    shape: tuple[int, int, int]
    channels: int
    spacing: tuple[float, float, float]
    affine: Affine


def read_header(path: Path, name: str) -> Header:
    """Look at a NIfTI file without reading its voxels. name: for messages. Raises DataRefused."""
    image = _opened(path, name)
    shape = tuple(int(side) for side in image.shape)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise DataRefused(
            name, f"has {len(shape)} axes {shape}", fix="export it as a volume of 3 axes, or 4"
        )
    if math.prod(shape) > VOXELS_MAX:
        raise DataRefused(
            name, f"has more than {VOXELS_MAX} voxels", fix="crop or resample it before registering"
        )
    sides = (*shape[:3], *([1] * (3 - len(shape[:3]))))
    affine = np.asarray(image.affine, dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0.0:
        raise DataRefused(
            name, "does not say how large its voxels are", fix="convert it again with its geometry"
        )
    millimetres = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Header(
        (sides[0], sides[1], sides[2]), shape[3] if len(shape) == 4 else 1, millimetres, affine
    )


def read_voxels(path: Path, name: str, *, channel: int = -1) -> tuple[Voxels, Affine]:
    """Voxels float32[x, y, z], turned so that the axes run right, front, up; and their affine.

    channel: of a file with four axes. Raises DataRefused.
    """
    if path.is_dir():
        from p2pfl.learning.datasets.dicom import read_series

        return turned(*read_series(path, name))
    header = read_header(path, name)
    if header.channels > 1 and channel < 0:
        raise DataRefused(
            name, f"holds {header.channels} volumes", fix="say which one is which modality"
        )
    image = _opened(path, name)
    try:
        data = image.dataobj[..., channel] if header.channels > 1 else image.dataobj
        voxels = np.asarray(data, dtype=np.float32).reshape(header.shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataRefused(
            name, f"its voxels cannot be read ({type(error).__name__})", fix="export it again"
        ) from None
    return turned(voxels, header.affine)


def turned(voxels: Voxels, affine: Affine) -> tuple[Voxels, Affine]:
    """The same volume with axes that run right, front, up."""
    import nibabel  # 0.4 s, which a table's training should not pay
    from nibabel.orientations import aff2axcodes

    if aff2axcodes(affine) == ("R", "A", "S"):
        return voxels, affine
    image: Any = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine))
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, np.float64)


def resampled(voxels: Voxels, affine: Affine, spacing: Sequence[float], *, nearest: bool) -> Voxels:
    """The volume at other millimetres per voxel; where two are given, the third axis stays.

    nearest: keep values as they are (masks), instead of blending neighbours.
    """
    import torch
    from torch.nn import functional

    shape = resampled_shape(voxels.shape, np.linalg.norm(affine[:3, :3], axis=0), spacing)
    if list(voxels.shape) == shape:
        return voxels
    tensor = torch.from_numpy(np.ascontiguousarray(voxels))[None, None]
    if nearest:
        found = functional.interpolate(tensor, size=shape, mode="nearest-exact")
    else:
        found = functional.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)
    made: Voxels = found[0, 0].numpy()
    return made


def resampled_shape(
    shape: Sequence[int], now: Sequence[float] | Affine, spacing: Sequence[float]
) -> list[int]:
    """Voxels along each axis after resampling. now, spacing: millimetres per voxel, before and
    wanted; axes that `spacing` does not name stay.
    """
    wanted = [*spacing, *list(now)[len(spacing) :]]
    return [
        max(1, round(side * have / want))
        for side, have, want in zip(shape, now, wanted, strict=True)
    ]


def is_nifti(path: Path) -> bool:
    """By its name."""
    return path.name.endswith(NIFTI_ENDINGS)


def _opened(path: Path, name: str) -> Any:
    """A NIfTI image of nibabel, which ships no types worth following."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if path.exists() and not is_nifti(path):  # its other readers fail in ways of their own
        raise DataRefused(name, "is not a NIfTI image", fix="convert it to .nii.gz")
    try:
        image: Any = nibabel.load(path)
    except FileNotFoundError:
        raise DataRefused(name, "is not there", fix="check the path") from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError) as error:
        raise DataRefused(
            name, f"is not a NIfTI image ({type(error).__name__})", fix="export it again"
        ) from None
    if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image):
        raise DataRefused(name, "is not a NIfTI image", fix="convert it to .nii.gz")
    return image
