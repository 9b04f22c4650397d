"""Brain tumours that nobody has: `python -m p2pfl.learning.demo_tumours --out DIR`.

Responsible for folders of NIfTI volumes as hospitals keep them, `sub-NN/<modality>/*.nii.gz` with
a mask and a table of demographics, made from a seed. From there on the demonstration uses the
ordinary commands on ordinary folders.

Each patient is an ellipsoid of brain with smooth tissue and one tumour: oedema, in it a core, in
that a ring of enhancing tumour around dead tissue, bright or dark in T1, T1ce, T2 and FLAIR as
radiologists know them. Sites differ as scanners do (gain, noise, smoothness, a bias field, contrast
between tissues) and in their number of patients.

Prints JSON `{sites: [{name, folder, patients}], terms}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import DataTerms, ImageTerms, Region
from p2pfl.core.manifest_writing import render_data
from p2pfl.learning.datasets.volumes import Voxels
from p2pfl.learning.errors import DataRefused

SITES_MAX: Final = 8
MODALITIES: Final = ("T1", "T1ce", "T2", "FLAIR")
NECROSIS, OEDEMA, ENHANCING = 1, 2, 3
REGIONS: Final = (
    Region("whole tumour", (NECROSIS, OEDEMA, ENHANCING)),
    Region("tumour core", (NECROSIS, ENHANCING)),
    Region("enhancing tumour", (ENHANCING,)),
)
PATIENT_SHARES: Final = (0.32, 0.24, 0.18, 0.14, 0.12, 0.1, 0.08, 0.08)
"""Size skew: squared, and brought to a sum of 1, each site's share of what is to spare."""
PATIENTS_MIN: Final = 20
AGES: Final = (35, 85)

# Brightness of brain, necrosis, oedema, enhancing tumour: what each sequence shows.
_TISSUE: Final = {
    "T1": (0.60, 0.35, 0.48, 0.52),
    "T1ce": (0.58, 0.32, 0.50, 0.95),
    "T2": (0.45, 0.85, 0.75, 0.60),
    "FLAIR": (0.45, 0.60, 0.90, 0.68),
}


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one site's pictures differ from another's."""

    gain: float
    noise: float
    blur: float
    """Voxels."""
    bias: float
    contrast: float


def tumour_terms(window: int) -> DataTerms:
    """The [data] terms of the demonstration."""
    return DataTerms(
        kind="images",
        patients_min=PATIENTS_MIN,
        holdout=0.25,
        target=None,
        columns=(),
        images=ImageTerms(
            modalities=MODALITIES,
            modalities_min=len(MODALITIES),
            window=(window, window, window),
            placement="centre",
            spacing=(),
            intensity="zscore",
            intensity_range=(0.0, 0.0),
            regions=REGIONS,
        ),
    )


def site_sizes(sites: int, patients: int) -> list[int]:
    """How many patients each site has: few sites have most. Raises DataRefused."""
    if not 1 <= sites <= SITES_MAX or patients < sites * PATIENTS_MIN:
        raise DataRefused(
            "tumours",
            f"cannot give {patients} patients to {sites} sites",
            fix=f"choose up to {SITES_MAX} sites and {PATIENTS_MIN} patients for each, or more",
        )
    shares = np.array(PATIENT_SHARES[:sites]) ** 2
    spare = patients - sites * PATIENTS_MIN
    sizes = PATIENTS_MIN + np.floor(spare * shares / shares.sum()).astype(int)
    sizes[0] += patients - int(sizes.sum())
    return [int(size) for size in sizes]


def site_scanner(site: int, generator: np.random.Generator) -> Scanner:
    """The scanner of a site, 0 the reference; others are further away the later they come."""
    away = site / 4.0
    return Scanner(
        gain=float(np.exp(generator.normal(0.0, 0.4 * away))),
        noise=0.03 + 0.03 * away * float(generator.random()),
        blur=0.35 * away * float(generator.random()),
        bias=0.25 * away * float(generator.random()),
        contrast=1.0 - 0.3 * away * float(generator.random()),
    )


def patient_volumes(
    side: int, scanner: Scanner, generator: np.random.Generator
) -> tuple[dict[str, Voxels], NDArray[np.uint8]]:
    """Four modalities float32[side, side, side] and the labels of one patient."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, side)] * 3, indexing="ij"))
    head = generator.uniform(0.78, 0.9, 3)
    brain = ((grid / head[:, None, None, None]) ** 2).sum(axis=0) < 1.0
    labels = _tumour(grid, head, generator)
    labels[~brain] = 0
    texture = _smooth(generator.normal(size=(side,) * 3), side / 10.0)
    texture = 0.06 * texture / texture.std()
    bias = 1.0 + scanner.bias * np.tensordot(generator.uniform(-1.0, 1.0, 3), grid, axes=1)
    volumes: dict[str, Voxels] = {}
    for modality in MODALITIES:
        healthy = _TISSUE[modality][0]
        shades = np.array(_TISSUE[modality])
        shades = healthy + scanner.contrast * (shades - healthy)
        shades = shades + generator.normal(0.0, 0.02, 4)
        clean = shades[labels] + texture
        image = _smooth(clean, scanner.blur) if scanner.blur > 0.05 else clean
        image = scanner.gain * bias * (image + generator.normal(0.0, scanner.noise, image.shape))
        volumes[modality] = np.where(brain, np.maximum(image, 0.01), 0.0).astype(np.float32)
    return volumes, labels


def _tumour(
    grid: NDArray[np.float64], head: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """uint8[side, side, side]: oedema, in it enhancing tumour, in that necrosis."""
    middle = generator.uniform(-0.4, 0.4, 3) * head
    radii = generator.uniform(0.32, 0.5) * generator.uniform(0.8, 1.25, 3)
    waves = generator.uniform(2.0, 5.0, 3)
    wobble = 0.08 * np.sin(
        np.tensordot(waves, grid, axes=1) * 2.0 + generator.uniform(0.0, 2.0 * np.pi)
    )
    away = np.sqrt(
        (((grid - middle[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0)
    )
    away = away * (1.0 + wobble)
    core, ring = generator.uniform(0.55, 0.75), generator.uniform(0.45, 0.7)
    labels = np.zeros(away.shape, dtype=np.uint8)
    labels[away < 1.0] = OEDEMA
    labels[away < core] = ENHANCING
    labels[away < core * ring] = NECROSIS
    return labels


def _smooth(image: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    smoothed: NDArray[np.float64] = gaussian_filter(image, deviation)
    return smoothed


def write_site(
    folder: Path, patients: int, side: int, scanner: Scanner, generator: np.random.Generator
) -> None:
    """Write a site's folder. Raises OSError."""
    rows = ["participant_id\tage\tsex"]
    for number in range(1, patients + 1):
        name = f"sub-{number:03d}"
        volumes, labels = patient_volumes(side, scanner, generator)
        for modality, voxels in volumes.items():
            _write(folder / name / modality / f"{name}_{modality}.nii.gz", voxels)
        _write(folder / name / "seg" / f"{name}_seg.nii.gz", labels)
        age = int(generator.integers(*AGES))
        rows.append(f"{name}\t{age}\t{int(generator.integers(0, 2))}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write(path: Path, voxels: NDArray[np.float32] | NDArray[np.uint8]) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
    nibabel.save(image, path)


def main(arguments: Sequence[str]) -> int:
    """Write the folders and terms, and print where they are."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.demo_tumours")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--patients", type=int, default=140)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    try:
        sizes = site_sizes(given.sites, given.patients)
        written = []
        for site, patients in enumerate(sizes):
            generator = np.random.Generator(np.random.PCG64([given.seed, site]))
            name = f"hospital-{site + 1}"
            folder = given.out / name
            write_site(folder, patients, given.side, site_scanner(site, generator), generator)
            written.append({"name": name, "folder": str(folder), "patients": patients})
        terms_path = given.out / "data.toml"
        terms_path.write_bytes(render_data(tumour_terms(given.side)))
    except (DataRefused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"sites": written, "terms": str(terms_path)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
