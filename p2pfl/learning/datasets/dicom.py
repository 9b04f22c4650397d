"""A DICOM series as one volume: slices sorted by position, values rescaled, geometry checked.

Reads with pydicom, compressed pixel data as far as its installed decoders go. What cannot be one
volume is refused with the reason: mixed series, several slices at one place, uneven distances.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.errors import DataRefused

SLICES_MAX: Final = 4096
PIXELS_MAX: Final = 1 << 28
UNEVEN_SHARE: Final = 0.05
"""How much the distance of two slices may differ from the others'."""

Affine = NDArray[np.float64]


def read_series(folder: Path, name: str) -> tuple[NDArray[np.float32], Affine]:
    """Voxels float32[x, y, z] and their affine in NIfTI's directions. Raises DataRefused."""
    with refusing_unreadable(name):
        return _read_series(folder, name)


@contextlib.contextmanager
def refusing_unreadable(name: str) -> Iterator[None]:
    """pydicom decodes a tag where it is asked for: one that is malformed raises only there."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise DataRefused(
            name, f"has a tag that cannot be read ({type(error).__name__})", fix="export it again"
        ) from None


def _read_series(folder: Path, name: str) -> tuple[NDArray[np.float32], Affine]:
    slices = ordered_slices(folder, name)
    first = slices[0]
    across, along, normal = _directions(first, name)
    gaps = np.diff([float(np.dot(normal, _position(one, name))) for one in slices])
    depth = float(np.median(gaps)) if len(gaps) else float(first.get("SliceThickness") or 1.0)
    planes = [_values(one, name) for one in slices]
    rows_mm, columns_mm = (float(value) for value in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * columns_mm, along * rows_mm
    affine[:3, 2] = normal * depth
    affine[:3, 3] = _position(first, name)
    affine[:2] *= -1.0  # DICOM counts towards left and back, NIfTI towards right and front
    return np.stack([plane.T for plane in planes], axis=2), affine


def ordered_slices(folder: Path, name: str, *, with_pixels: bool = True) -> list[Any]:
    """The slices of one volume in the order of `read_series`' third axis. Raises DataRefused."""
    slices = [
        read_slice(path, f"{name}/{path.name}", with_pixels=with_pixels)
        for path in slice_files(folder, name)
    ]
    first = slices[0]
    for key in ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient", "PixelSpacing"):
        if any(one.get(key) != first.get(key) for one in slices):
            raise DataRefused(
                name, f"its slices differ in {key}", fix="keep one series in each folder"
            )
    _, _, normal = _directions(first, name)
    places = np.array([float(np.dot(normal, _position(one, name))) for one in slices])
    order = np.argsort(places)
    gaps = np.diff(places[order])
    if len(gaps) and (gaps.min() <= 0.0 or np.ptp(gaps) > UNEVEN_SHARE * float(np.median(gaps))):
        raise DataRefused(
            name,
            "its slices do not lie at even distances",
            fix="look for missing or doubled slices, and keep one acquisition in each folder",
        )
    return [slices[int(at)] for at in order]


def slice_files(folder: Path, name: str) -> Sequence[Path]:
    """The files right inside a folder, sorted by name. Raises DataRefused."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files or len(files) > SLICES_MAX:
        raise DataRefused(
            name, f"holds {len(files)} files", fix=f"keep 1 to {SLICES_MAX} slices in a folder"
        )
    return files


def read_slice(path: Path, name: str, *, with_pixels: bool = True) -> Any:
    """One file as pydicom reads it, which ships no types. Raises DataRefused."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        found = pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise DataRefused(
            name, f"is not a DICOM file ({type(error).__name__})", fix="remove it from the folder"
        ) from None
    for key in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        if not found.get(key):
            raise DataRefused(name, f"has no {key}", fix="export it as CT or MR images")
    if int(found.Rows) * int(found.Columns) * int(found.get("NumberOfFrames") or 1) > PIXELS_MAX:
        raise DataRefused(name, "is too large", fix="export it in slices")
    if int(found.get("NumberOfFrames") or 1) != 1:
        raise DataRefused(
            name, "holds several frames", fix="export it as one file per slice, or as NIfTI"
        )
    return found


def _values(one: Any, name: str) -> NDArray[np.float32]:
    """float32[rows, columns], in the units the scanner means."""
    try:
        pixels = np.asarray(one.pixel_array, dtype=np.float32)
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        raise DataRefused(
            name,
            f"its pixels cannot be read ({type(error).__name__})",
            fix="export it uncompressed (Explicit VR Little Endian)",
        ) from None
    if pixels.ndim != 2:
        raise DataRefused(name, "is a colour picture", fix="export the original images")
    slope, intercept = one.get("RescaleSlope"), one.get("RescaleIntercept")
    values: NDArray[np.float32] = pixels * np.float32(1.0 if slope is None else slope) + np.float32(
        intercept or 0.0
    )
    return values


def _directions(one: Any, name: str) -> tuple[Affine, Affine, Affine]:
    """Unit vectors of a row, a column, and of the way through the slices."""
    both = np.array([float(value) for value in one.ImageOrientationPatient])
    across, along = both[:3], both[3:]
    normal = np.cross(across, along)
    if not np.isfinite(both).all() or abs(float(np.linalg.norm(normal)) - 1.0) > 1e-2:
        raise DataRefused(
            name, "its orientation is no right angle", fix="export the original images"
        )
    return across, along, normal


def _position(one: Any, name: str) -> Affine:
    written = one.get("ImagePositionPatient")
    if not written or len(written) != 3:
        raise DataRefused(name, "has no ImagePositionPatient", fix="export CT or MR images")
    return np.array([float(value) for value in written])
