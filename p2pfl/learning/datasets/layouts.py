"""Whose image is which: MONAI Decathlon lists, folders per patient (BIDS and alike), DICOM series.

Responsible for finding patients, modalities and masks by names alone; no file is opened but
`dataset.json`. Of a patient with several sessions or files of one modality the first counts: one
record per patient is what privacy, hold-out and weights stand on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from p2pfl.learning.datasets.volumes import NIFTI_ENDINGS
from p2pfl.learning.errors import DataRefused

DECATHLON_FILE: Final = "dataset.json"
JSON_BYTES_MAX: Final = 64 << 20
PATIENTS_MAX: Final = 1_000_000
DEPTH_MAX: Final = 4
MASK_NAMES: Final = frozenset(
    {"seg", "mask", "label", "labels", "segmentation", "dseg", "gt", "roi", "tumor", "tumour"}
)
DERIVATIVES: Final = frozenset({"derivatives", "sourcedata", "code", "cache"})
TABLES: Final = ("participants.csv", "participants.tsv", "demographics.csv", "demographics.tsv")
_CONTAINERS: Final = frozenset({"anat", "dwi", "perf", "func", "fmap", "pet", "ct", "mr"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A path relative to the root, a folder for a DICOM series; channel: -1 for all of it."""

    path: str
    channel: int = -1


@dataclass(slots=True)
class FoundPatient:
    """One patient's files by the site's own names."""

    name: str
    images: dict[str, FoundFile] = field(default_factory=dict)
    mask: FoundFile | None = None
    spare: int = 0
    """Files left out because there was one of the kind already."""

    def take(self, modality: str, file: FoundFile) -> None:
        """Add a file, unless there is one of its kind."""
        if modality.casefold() in MASK_NAMES:
            if self.mask is not None:
                self.spare += 1
                return
            self.mask = file
        elif modality in self.images:
            self.spare += 1
        else:
            self.images[modality] = file


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """What lies below a root."""

    root: Path
    layout: str
    patients: tuple[FoundPatient, ...]
    table: str
    """Relative to the root, "" if there is none."""
    unused: int
    """Files below patients' folders that are neither NIfTI nor DICOM."""


def find_patients(given: Path) -> FoundFolder:
    """Look through a folder, or through what `dataset.json` lists. Raises DataRefused."""
    if given.is_file() or (given / DECATHLON_FILE).is_file():
        return _decathlon(given if given.is_file() else given / DECATHLON_FILE)
    if not given.is_dir():
        raise DataRefused(str(given), "is no folder", fix="check the path")
    return _folders(given)


def _decathlon(file: Path) -> FoundFolder:
    root = file.parent
    try:
        with file.open("rb") as opened:
            raw = opened.read(JSON_BYTES_MAX + 1)
        document = json.loads(raw) if len(raw) <= JSON_BYTES_MAX else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataRefused(
            str(file), f"cannot be read ({type(error).__name__})", fix="check the file"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("training"), list):
        raise DataRefused(
            str(file), 'has no list "training"', fix="see the Medical Segmentation Decathlon"
        )
    modalities = _decathlon_modalities(document, file)
    patients: dict[str, FoundPatient] = {}
    for number, case in enumerate(document["training"][:PATIENTS_MAX]):
        place = f"{file.name}, training[{number}]"
        if not isinstance(case, dict) or "image" not in case:
            raise DataRefused(place, 'has no "image"', fix="name the patient's file")
        images = case["image"] if isinstance(case["image"], list) else [case["image"]]
        paths = [_inside(root, path, place) for path in images]
        name = _stem(PurePosixPath(paths[0]).name).removesuffix("_0000")
        patient = patients.setdefault(name, FoundPatient(name))
        for at, modality in enumerate(modalities):
            if len(paths) > 1 and at >= len(paths):
                continue
            channel = at if len(paths) == 1 and len(modalities) > 1 else -1
            patient.take(modality, FoundFile(paths[at if len(paths) > 1 else 0], channel))
        if case.get("label"):
            patient.take("label", FoundFile(_inside(root, case["label"], place)))
    return _found(root, "decathlon", list(patients.values()), unused=0)


def _decathlon_modalities(document: Mapping[str, object], file: Path) -> list[str]:
    named = document.get("modality", document.get("channel_names"))
    if not isinstance(named, dict) or not named:
        raise DataRefused(
            str(file), 'has no "modality"', fix='write "modality": {"0": "FLAIR", "1": "T1", …}'
        )
    try:
        ordered = sorted(named.items(), key=lambda item: int(item[0]))
    except ValueError:
        raise DataRefused(
            str(file), '"modality" is not numbered', fix='write {"0": "FLAIR", "1": "T1", …}'
        ) from None
    return [str(name) for _, name in ordered]


def _folders(root: Path) -> FoundFolder:
    folders = sorted(
        Path(entry.path)
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in DERIVATIVES
    )
    patients, unused, is_dicom = [], 0, False
    for folder in folders[:PATIENTS_MAX]:
        patient = FoundPatient(folder.name)
        for path in _nifti_below(folder):
            patient.take(_modality(folder, path), FoundFile(path.relative_to(root).as_posix()))
        if not patient.images:
            for series in _series_below(folder):
                modality = series.name if series != folder else "image"
                patient.take(modality, FoundFile(series.relative_to(root).as_posix()))
                is_dicom = True
        if patient.images:
            patients.append(patient)
        else:
            unused += 1
    return _found(root, "dicom" if is_dicom else "folders", patients, unused=unused)


def _found(root: Path, layout: str, patients: list[FoundPatient], *, unused: int) -> FoundFolder:
    if not patients:
        raise DataRefused(
            str(root),
            "holds no patients' images",
            fix="name a folder with sub-XX/<modality>/*.nii.gz or DICOM series, or a dataset.json",
        )
    table = next((name for name in TABLES if (root / name).is_file()), "")
    return FoundFolder(root, layout, tuple(patients), table, unused)


def _nifti_below(folder: Path) -> list[Path]:
    return [path for path in _files_below(folder, DEPTH_MAX) if path.name.endswith(NIFTI_ENDINGS)]


def _series_below(folder: Path) -> list[Path]:
    """Folders whose first file is DICOM by its preamble."""
    found: list[Path] = []
    seen: set[Path] = set()
    for path in _files_below(folder, DEPTH_MAX):
        if path.parent not in seen:
            seen.add(path.parent)
            if is_dicom(path):
                found.append(path.parent)
    return found


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _files_below(folder: Path, depth: int) -> list[Path]:
    """Files in order of their names; folders reached through links are not entered."""
    found: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            found.append(Path(entry.path))
        elif depth > 0 and entry.is_dir(follow_symlinks=False) and entry.name not in DERIVATIVES:
            found += _files_below(Path(entry.path), depth - 1)
    return found


def _modality(patient: Path, file: Path) -> str:
    """The folder it lies in, or as in BIDS the last word of its name."""
    parent = file.parent.name
    is_container = (
        file.parent == patient or parent.casefold() in _CONTAINERS or parent.startswith("ses-")
    )
    if not is_container:
        return parent
    return _stem(file.name).removeprefix(f"{patient.name}_").rpartition("_")[2] or "image"


def _inside(root: Path, path: object, place: str) -> str:
    """A listed path that stays below the root. Raises DataRefused."""
    if not isinstance(path, str):
        raise DataRefused(place, "a path is no text", fix="correct it")
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts:
        raise DataRefused(place, "leads out of the folder", fix="list paths below dataset.json")
    if not (root / plain).is_file():
        raise DataRefused(f"{place}: {plain}", "is not there", fix="check the list")
    return plain.as_posix()


def _stem(name: str) -> str:
    for ending in reversed(NIFTI_ENDINGS):
        name = name.removesuffix(ending)
    return name
