"""Looking at images before they are registered: are they what they are said to be?

Reads headers of every volume, and the voxels of a few: a thousand patients take seconds. What is
counted stays at the site. An error names file and fix; a warning is for the data manager to judge.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from p2pfl.core.manifest_terms import ImageTerms
from p2pfl.learning.datasets.dicom_checks import SeriesWarnings, check_series
from p2pfl.learning.datasets.layouts import FoundFile, FoundFolder, FoundPatient
from p2pfl.learning.datasets.prepared_volume import study_labels
from p2pfl.learning.datasets.volumes import (
    AFFINE_TOLERANCE_MM,
    Header,
    read_header,
    read_voxels,
)
from p2pfl.learning.errors import DataRefused
from p2pfl.runtime.image_index import ImageFile, ImageIndex, IndexedPatient, file_facts
from p2pfl.runtime.image_mapping import ImageMapping, is_same_modality

LOOKED_INTO: Final = 24
"""Patients whose voxels are read: labels, empty images, and whether a face may be seen."""
EMPTY_SHARE_STRIPPED: Final = 0.3
"""Of a volume's voxels that are exactly 0 where everything but the brain was removed."""
HEAD_MODALITIES: Final = ("T1", "T1ce", "T2", "FLAIR", "CT", "PET")
LISTED: Final = 3

_DATE: Final = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])(?!\d)")
_DAY_FIRST: Final = re.compile(r"(?<!\d)([0-2]\d|3[01])[-_.](0[1-9]|1[0-2])[-_.](19|20)\d\d(?!\d)")
_RECORD_NUMBER: Final = re.compile(r"(?<!\d)\d{7,10}(?!\d)|mrn", re.IGNORECASE)
_PERSON: Final = re.compile(r"[A-Z][a-zà-ÿ]{2,}[,_ ^]+[A-Z][a-zà-ÿ]{2,}")

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class ImageFacts:
    """What a data manager is shown; for this site's eyes only."""

    patients: int = 0
    volumes: int = 0
    modalities: Counter[str] = field(default_factory=Counter)
    """Patients with each."""
    shapes: Counter[str] = field(default_factory=Counter)
    spacings: Counter[str] = field(default_factory=Counter)
    masks: int = 0
    looked_into: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    """Patients with each label, of those looked into."""
    spare: int = 0
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Counts by name, the most frequent first."""
        return {
            "patients": self.patients,
            "volumes": self.volumes,
            "masks": self.masks,
            "looked_into": self.looked_into,
            "modalities": dict(self.modalities.most_common()),
            "shapes": dict(self.shapes.most_common()),
            "spacings": dict(self.spacings.most_common()),
            "labels": {str(label): count for label, count in sorted(self.labels.items())},
            "warnings": list(self.warnings),
        }


def check_images(
    found: FoundFolder,
    terms: ImageTerms | None,
    mapping: ImageMapping,
    key: bytes,
    *,
    progress: Progress,
) -> tuple[ImageIndex, ImageFacts]:
    """Look at every file, and into a few. terms: a study's, if one is known.

    key: 32 bytes, the site's own. Raises DataRefused naming the first file that cannot be used.
    """
    facts = ImageFacts(patients=len(found.patients))
    stepped = max(1, len(found.patients) // LOOKED_INTO)
    indexed: list[IndexedPatient] = []
    empty_shares: list[float] = []
    series = SeriesWarnings()
    for number, patient in enumerate(found.patients):
        headers = _headers(found.root, patient, series)
        _check_one_grid(headers)
        _count(facts, patient, headers)
        indexed.append(_indexed(found.root, patient, key))
        if number % stepped == 0 and facts.looked_into < LOOKED_INTO:
            facts.looked_into += 1
            empty_shares.append(_look_into(found.root, patient, facts, mapping))
        progress(number + 1, len(found.patients))
    index = ImageIndex(found.root, found.layout, tuple(indexed))
    _check_duplicates(indexed)
    _check_labels(facts, terms, found)
    facts.warnings += series.sentences()
    facts.warnings += _name_warnings(index)
    facts.warnings += _face_warning(facts.modalities, empty_shares)
    if facts.spare:
        facts.warnings.append(
            f"{facts.spare} more files of a kind that a patient has already: only the first of "
            "each is used, one record per patient"
        )
    return index, facts


def name_looks_personal(name: str) -> str:
    """What a name seems to tell of a person, "" if nothing.

    >>> name_looks_personal("sub-01_T1.nii.gz"), name_looks_personal("scan_1961-04-12")
    ('', 'a date')
    """
    if _DATE.search(name) or _DAY_FIRST.search(name):
        return "a date"
    if _RECORD_NUMBER.search(name):
        return "a record number"
    return "a person's name" if _PERSON.search(name) else ""


def _headers(
    root: Path, patient: FoundPatient, series: SeriesWarnings
) -> Mapping[FoundFile, Header]:
    headers: dict[FoundFile, Header] = {}
    for file in _files(patient):
        path = root / file.path
        if path.is_dir():
            headers[file] = check_series(path, file.path, series)
            continue
        header = read_header(path, file.path)
        series.look_at_nifti(path, file.path)
        if file.channel >= header.channels:
            raise DataRefused(
                file.path,
                f"has {header.channels} channels, its list names {file.channel + 1} or more",
                fix='correct "modality" in dataset.json',
            )
        headers[file] = header
    return headers


def _files(patient: FoundPatient) -> Sequence[FoundFile]:
    return [*patient.images.values(), *([patient.mask] if patient.mask is not None else [])]


def _check_one_grid(headers: Mapping[FoundFile, Header]) -> None:
    """Modalities and mask of a patient lie on one another."""
    (first, grid), *others = headers.items()
    for file, header in others:
        if header.shape != grid.shape:
            raise DataRefused(
                file.path,
                f"has {header.shape} voxels where {first.path} has {grid.shape}",
                fix="bring a patient's modalities and mask onto one grid (co-register them)",
            )
        away = np.abs(_corners(header) - _corners(grid)).max()
        if away > AFFINE_TOLERANCE_MM:
            raise DataRefused(
                file.path,
                f"lies {away:.1f} mm away from {first.path}",
                fix="export the mask with its image's geometry, or co-register them",
            )


def _corners(header: Header) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Where the first and the last voxel lie, millimetres."""
    last = [side - 1 for side in header.shape]
    corners = np.array([[0, 0, 0, 1], [*last, 1]], dtype=np.float64)
    return corners @ header.affine.T


def _count(facts: ImageFacts, patient: FoundPatient, headers: Mapping[FoundFile, Header]) -> None:
    facts.modalities.update(patient.images.keys())
    facts.masks += patient.mask is not None
    facts.volumes += len(headers)
    facts.spare += patient.spare
    header = next(iter(headers.values()))
    facts.shapes["×".join(map(str, header.shape))] += 1
    facts.spacings["×".join(f"{size:.2g}" for size in header.spacing)] += 1


def _indexed(root: Path, patient: FoundPatient, key: bytes) -> IndexedPatient:
    def facts_of(file: FoundFile) -> ImageFile:
        return file_facts(root, file.path, key, channel=file.channel)

    return IndexedPatient(
        patient.name,
        {name: facts_of(file) for name, file in patient.images.items()},
        None if patient.mask is None else facts_of(patient.mask),
    )


def _look_into(
    root: Path, patient: FoundPatient, facts: ImageFacts, mapping: ImageMapping
) -> float:
    """Read one patient's first image and mask; returns the share of voxels that are exactly 0."""
    file = next(iter(patient.images.values()))
    voxels, _ = read_voxels(root / file.path, file.path, channel=file.channel)
    if not np.isfinite(voxels).all() or not np.ptp(voxels) > 0.0:
        raise DataRefused(file.path, "is empty or holds no numbers", fix="export it again")
    if patient.mask is not None:
        marked, _ = read_voxels(root / patient.mask.path, patient.mask.path)
        labels = np.unique(study_labels(marked, mapping.labels, patient.mask.path))
        facts.labels.update(int(label) for label in labels)
    return float(np.mean(voxels == 0.0))


def _check_duplicates(patients: Iterable[IndexedPatient]) -> None:
    owner: dict[tuple[str, int], str] = {}
    for patient in patients:
        for file in patient.images.values():
            earlier = owner.setdefault((file.digest, file.channel), patient.name)
            if earlier != patient.name:
                raise DataRefused(
                    file.path,
                    f'is the same image as one of "{earlier}"',
                    fix="keep one of the two: a patient counts once",
                )


def _check_labels(facts: ImageFacts, terms: ImageTerms | None, found: FoundFolder) -> None:
    if terms is None or not terms.regions:
        return
    if facts.masks == 0:
        raise DataRefused(
            str(found.root),
            "has no masks, and the study marks regions",
            fix="put each patient's mask into sub-XX/seg/, or list it in dataset.json",
        )
    allowed = {0} | {label for region in terms.regions for label in region.labels}
    others = sorted(set(facts.labels) - allowed)
    if others:
        raise DataRefused(
            str(found.root),
            f"masks hold the labels {', '.join(map(str, others))}; the study knows "
            f"{', '.join(map(str, sorted(allowed)))}",
            fix="say which is which in a mapping file, like [labels] 4 = 3, and give --mapping",
        )


def _name_warnings(index: ImageIndex) -> Sequence[str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for patient in index.patients:
        names = [patient.name, *(Path(file.path).name for file in patient.files)]
        for what in filter(None, map(name_looks_personal, names)):
            seen[what].add(patient.name)
    return [
        f"names of {len(patients)} patients' folders or files look like {what}: rename them before "
        "anybody else sees them"
        for what, patients in sorted(seen.items())
    ]


def _face_warning(modalities: Iterable[str], empty_shares: Sequence[float]) -> Sequence[str]:
    is_head = any(is_same_modality(name, known) for name in modalities for known in HEAD_MODALITIES)
    whole = sum(share < EMPTY_SHARE_STRIPPED for share in empty_shares)
    if not is_head or whole == 0:
        return []
    return [
        f"{whole} of {len(empty_shares)} volumes looked into are not cut to the organ: if they are "
        "heads, a face can be drawn from them; deface or skull-strip them"
    ]
