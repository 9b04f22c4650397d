"""One patient's volumes brought to a study's terms, kept as plain arrays and mapped into memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import ImageTerms
from p2pfl.learning.datasets.patients import Values
from p2pfl.learning.datasets.volumes import (
    Voxels,
    read_voxels,
    resampled,
)
from p2pfl.learning.errors import DataRefused
from p2pfl.runtime.image_index import ImageFile

Masks = NDArray[np.uint8]
A = TypeVar("A", np.float32, np.uint8)

DEVIATION_MIN: Final = 1e-6


def prepared_volume(
    terms: ImageTerms, files: Sequence[ImageFile | None], *, root: Path, cache: Path
) -> Values:
    """float32[channels, x, y, z], from the cache or made now. Raises DataRefused."""

    def make() -> NDArray[np.generic]:
        volumes: list[Voxels | None] = []
        for file in files:
            volumes.append(None if file is None else _measured(terms, file, root))
        shape = _one_shape(files, volumes)
        present = [np.zeros(shape, np.float32) if one is None else one for one in volumes]
        if terms.channels > len(files):
            present += [np.full(shape, one is not None, np.float32) for one in volumes]
        return np.stack([fitted(one, terms) for one in present])

    return _kept(cache, np.float32, make)


def prepared_mask(
    terms: ImageTerms,
    file: ImageFile,
    *,
    shape: Sequence[int],
    labels: Mapping[int, int],
    root: Path,
    cache: Path,
) -> Masks:
    """uint8[x, y, z] in the study's labels. shape: of the volume it lies on. Raises DataRefused."""

    def make() -> NDArray[np.generic]:
        voxels, affine = read_voxels(root / file.path, file.path, channel=file.channel)
        if terms.spacing:
            voxels = resampled(voxels, affine, terms.spacing, nearest=True)
        mask: Masks = fitted(study_labels(voxels, labels, file.path), terms)
        if mask.shape != tuple(shape):
            raise DataRefused(
                file.path,
                f"the mask has {mask.shape} voxels where the image has {tuple(shape)}",
                fix="resample the mask to its image",
            )
        return mask

    return _kept(cache, np.uint8, make)


def study_labels(voxels: Voxels, labels: Mapping[int, int], name: str) -> Masks:
    """A mask's numbers as the study writes them. Raises DataRefused for what is no label."""
    rounded = np.rint(voxels)
    if not np.isfinite(voxels).all() or np.abs(rounded - voxels).max(initial=0.0) > 1e-3:
        raise DataRefused(
            name, "holds values that are no whole numbers", fix="save the mask as labels"
        )
    made = rounded.copy()
    for own, study in labels.items():
        made[rounded == own] = study
    if made.min(initial=0.0) < 0 or made.max(initial=0.0) > 255:
        raise DataRefused(name, "holds labels outside 0 to 255", fix="number the labels anew")
    return made.astype(np.uint8)


def scaled(voxels: Voxels, terms: ImageTerms) -> Voxels:
    """Intensities by the volume's own mean and deviation where it is not empty, or by the range."""
    if terms.intensity == "range":
        low, high = terms.intensity_range
        ranged = (voxels - low) * np.float32(2.0 / (high - low)) - np.float32(1.0)
        clipped: Voxels = np.clip(ranged, np.float32(-1.0), np.float32(1.0))
        return clipped
    inside = voxels != 0.0
    if not inside.any():
        return voxels
    values = voxels[inside].astype(np.float64)
    deviation = max(float(values.std()), DEVIATION_MIN)
    made = np.zeros_like(voxels)
    made[inside] = (values - values.mean()) / deviation
    return made


def fitted(voxels: NDArray[A], terms: ImageTerms) -> NDArray[A]:
    """The volume padded with zeros to the window, and cut to it where the window has one place."""
    for axis, size in enumerate(terms.window):
        short = size - voxels.shape[axis]
        if short > 0:
            around = [(0, 0)] * voxels.ndim
            around[axis] = (short // 2, short - short // 2)
            voxels = np.pad(voxels, around)
    if terms.placement == "patches":
        return voxels
    place = []
    for side, size in zip(voxels.shape, (*terms.window, 1)[:3], strict=True):
        place.append(slice((side - size) // 2, (side - size) // 2 + size))
    return voxels[tuple(place)]


def _measured(terms: ImageTerms, file: ImageFile, root: Path) -> Voxels:
    voxels, affine = read_voxels(root / file.path, file.path, channel=file.channel)
    if not np.isfinite(voxels).all():
        raise DataRefused(file.path, "holds values that are no numbers", fix="export it again")
    if terms.spacing:
        voxels = resampled(voxels, affine, terms.spacing, nearest=False)
    return scaled(voxels, terms)


def _one_shape(
    files: Sequence[ImageFile | None], volumes: Sequence[Voxels | None]
) -> tuple[int, ...]:
    found = [
        (file.path, volume.shape)
        for file, volume in zip(files, volumes, strict=True)
        if file is not None and volume is not None
    ]
    first = found[0]
    for path, shape in found[1:]:
        if shape != first[1]:
            raise DataRefused(
                path,
                f"has {shape} voxels where {first[0]} has {first[1]}",
                fix="bring a patient's modalities onto one grid (co-register them)",
            )
    return first[1]


def _kept(cache: Path, kind: type[A], make: Callable[[], NDArray[np.generic]]) -> NDArray[A]:
    """The array at `cache`, mapped; made and put there first if it is not there."""
    with contextlib.suppress(OSError, ValueError):
        return _mapped(cache, kind)
    made = make()
    cache.parent.mkdir(mode=0o700, exist_ok=True)
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        np.save(file, np.ascontiguousarray(made, dtype=kind), allow_pickle=False)
    partial.replace(cache)
    return _mapped(cache, kind)


def _mapped(cache: Path, kind: type[A]) -> NDArray[A]:
    """Raises OSError, or ValueError for a file that is no such array."""
    array = np.load(cache, mmap_mode="r", allow_pickle=False)
    if array.dtype != kind:
        raise ValueError("another type")
    found: NDArray[A] = array
    return found
