"""Small folders of images as hospitals keep them, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from p2pfl.core.manifest_terms import DataTerms, ImageTerms, Region
from p2pfl.learning.datasets.registration import register

SIDE = 16
KEY = bytes(range(32))
REGIONS = (Region("whole", (1, 2)), Region("core", (2,)))


def image_terms(
    modalities: tuple[str, ...] = ("T1", "FLAIR"),
    *,
    modalities_min: int = 0,
    window: tuple[int, ...] = (SIDE, SIDE, SIDE),
    placement: str = "centre",
    regions: tuple[Region, ...] = REGIONS,
    spacing: tuple[float, ...] = (),
) -> DataTerms:
    """Terms that fit what `write_patients` writes."""
    images = ImageTerms(
        modalities=modalities,
        modalities_min=modalities_min or len(modalities),
        window=window,
        placement=placement,  # type: ignore[arg-type]
        spacing=spacing,
        intensity="zscore",
        intensity_range=(0.0, 0.0),
        regions=regions,
    )
    return DataTerms("images", 2, 0.3, None, (), images)


def balls(generator: np.random.Generator, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy volume with a ball of label 1 and a brighter core of label 2 in it."""
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    middle = generator.uniform(side * 0.35, side * 0.65, 3)
    away = np.sqrt(((grid - middle[:, None, None, None]) ** 2).sum(axis=0))
    labels = (away < side * 0.3).astype(np.uint8) + (away < side * 0.15).astype(np.uint8)
    image = 1.0 + 1.5 * labels + generator.normal(0.0, 0.2, labels.shape)
    return image.astype(np.float32), labels


def save(path: Path, voxels: np.ndarray, *, spacing: float = 2.0, shift: float = 0.0) -> None:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def write_patients(
    root: Path,
    count: int,
    *,
    seed: int = 0,
    names: Mapping[str, str] | None = None,
    side: int = SIDE,
) -> Path:
    """sub-NN/<modality>/*.nii.gz with masks. names: a study's modality → the folder's name."""
    generator = np.random.default_rng(seed)
    called = names or {"T1": "T1", "FLAIR": "FLAIR"}
    for number in range(count):
        name = f"sub-{number:02d}"
        image, labels = balls(generator, side)
        save(root / name / called["T1"] / f"{name}_a.nii.gz", image)
        save(root / name / called["FLAIR"] / f"{name}_b.nii.gz", 3.0 - image)
        save(root / name / "seg" / f"{name}_seg.nii.gz", labels)
    return root


def look(given: Path, out: Path, *, schema: bytes = b"", mapping: str = "") -> dict[str, object]:
    """Have a folder looked at in this process; returns the facts."""
    out.mkdir(parents=True, exist_ok=True)
    if schema:
        (out / "schema.toml").write_bytes(schema)
    if mapping:
        (out / "given.toml").write_text(mapping)
    request = {
        "given": str(given),
        "schema": str(out / "schema.toml") if schema else "",
        "mapping": str(out / "given.toml") if mapping else "",
        "table": "",
        "patient_column": "",
        "key": KEY.hex(),
        "out": str(out),
    }
    facts = register(request).to_json()
    assert json.dumps(facts)
    return facts
