"""A few patients' middle slices as one picture, so that people see what they register.

Written with matplotlib in a child process; the picture shows patients and stays at the site.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from p2pfl.learning.datasets.layouts import FoundFile, FoundFolder, FoundPatient
from p2pfl.learning.datasets.volumes import Voxels, read_voxels

PATIENTS_SHOWN: Final = 6
MODALITIES_SHOWN: Final = 6
TILE_INCHES: Final = 1.6


def write_contact_sheet(found: FoundFolder, path: Path) -> None:
    """Draw rows of patients and columns of modalities, masks as outlines. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    step = max(1, len(found.patients) // PATIENTS_SHOWN)
    patients = found.patients[::step][:PATIENTS_SHOWN]
    names = sorted({name for patient in patients for name in patient.images})[:MODALITIES_SHOWN]
    figure = Figure(
        figsize=(TILE_INCHES * len(names) + 0.9, TILE_INCHES * len(patients) + 0.4),
        facecolor="black",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(patients), len(names), squeeze=False)
    for row, patient in enumerate(patients):
        mask = None if patient.mask is None else _read(found, patient.mask)
        height = _shown_slice(found, patient, mask)
        for column, name in enumerate(names):
            tile = axes[row][column]
            tile.set_xticks([])
            tile.set_yticks([])
            if row == 0:
                tile.set_title(name, color="white", fontsize=8)
            if column == 0:
                tile.set_ylabel(patient.name[:14], color="white", fontsize=7)
            file = patient.images.get(name)
            if file is None:
                tile.set_facecolor("black")
                tile.text(0.5, 0.5, "missing", color="grey", ha="center", transform=tile.transAxes)
                continue
            voxels = _read(found, file)
            shown = voxels[:, :, min(height, voxels.shape[2] - 1)]
            tile.imshow(shown.T, cmap="gray", origin="lower")
            if mask is not None and mask[:, :, height].any():
                tile.contour(
                    mask[:, :, height].T > 0, levels=[0.5], colors="orange", linewidths=0.8
                )
    figure.tight_layout(pad=0.4)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as drawn:
        figure.savefig(drawn, format="png", dpi=110, facecolor="black")


def _read(found: FoundFolder, file: FoundFile) -> Voxels:
    return read_voxels(found.root / file.path, file.path, channel=file.channel)[0]


def _shown_slice(found: FoundFolder, patient: FoundPatient, mask: Voxels | None) -> int:
    """Where most is marked, else the middle."""
    if mask is not None and mask.any():
        return int(np.argmax((mask > 0).sum(axis=(0, 1))))
    first = next(iter(patient.images.values()))
    return int(_read(found, first).shape[2] // 2)
