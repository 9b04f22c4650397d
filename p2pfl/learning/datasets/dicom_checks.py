"""What DICOM and NIfTI headers tell of a person, and writing that is burned into pictures.

Warnings count files and name tags, never what stands in them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2pfl.learning.datasets.dicom import read_slice, refusing_unreadable, slice_files
from p2pfl.learning.datasets.volumes import Header
from p2pfl.learning.errors import DataRefused

PERSONAL_TAGS: Final = (
    "PatientName",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientMotherBirthName",
    "MilitaryRank",
    "InstitutionName",
    "InstitutionAddress",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "AccessionNumber",
)
"""Of DICOM PS3.15, annex E (basic confidentiality profile), those that name a person or place."""
_EMPTY_NAMES: Final = frozenset(
    {"", "anonymous", "anonymized", "anon", "unknown", "none", "removed"}
)
_NIFTI_TEXTS: Final = ("descrip", "aux_file", "intent_name", "db_name")


@dataclass(slots=True)
class SeriesWarnings:
    """Collects what a data manager has to know, over all files."""

    tags: Counter[str] = field(default_factory=Counter)
    private: int = 0
    unclear_annotation: int = 0
    nifti: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        """One per kind of trouble."""
        found = [
            f"{count} series say {tag}: remove it (DICOM PS3.15, annex E)"
            for tag, count in sorted(self.tags.items())
        ]
        if self.private:
            found.append(f"{self.private} series carry private tags of the manufacturer: drop them")
        if self.unclear_annotation:
            found.append(
                f"{self.unclear_annotation} series do not say whether writing is burned into the "
                "pictures: look at the contact sheet"
            )
        found += [
            f'{count} NIfTI files carry text in "{name}": make sure that it names nobody'
            for name, count in sorted(self.nifti.items())
        ]
        return found

    def look_at_nifti(self, path: Path, name: str) -> None:
        """Header texts that other programs fill in, and DICOM headers kept as an extension."""
        import nibabel

        header: Any = nibabel.load(path).header
        for key in _NIFTI_TEXTS:
            if key in header and bytes(np.asarray(header[key]).tobytes()).strip(b"\0 "):
                text = bytes(np.asarray(header[key]).tobytes()).strip(b"\0 ")
                if _may_name_somebody(text.decode("latin-1")):
                    self.nifti[key] += 1
        if len(getattr(header, "extensions", ())):
            self.nifti["extensions"] += 1


def check_series(folder: Path, name: str, warnings: SeriesWarnings) -> Header:
    """Look at a series by its first slice's tags. Raises DataRefused."""
    with refusing_unreadable(name):
        return _check_series(folder, name, warnings)


def _check_series(folder: Path, name: str, warnings: SeriesWarnings) -> Header:
    files = slice_files(folder, name)
    first: Any = read_slice(files[0], f"{name}/{files[0].name}", with_pixels=False)
    for tag in PERSONAL_TAGS:
        text = str(first.get(tag) or "").strip()
        if text.casefold() not in _EMPTY_NAMES:
            warnings.tags[tag] += 1
    warnings.private += any(element.tag.is_private for element in first)
    annotation = str(first.get("BurnedInAnnotation") or "").upper()
    if annotation == "YES":
        raise DataRefused(
            name,
            "says that writing is burned into its pictures, which may name the patient",
            fix="leave this series out, or have the writing removed",
        )
    kind = [str(part).upper() for part in first.get("ImageType") or ()]
    if annotation != "NO" and ("SECONDARY" in kind or "DERIVED" in kind):
        warnings.unclear_annotation += 1
    rows, columns = (float(value) for value in first.PixelSpacing)
    thickness = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    return Header(
        (int(first.Columns), int(first.Rows), len(files)),
        1,
        (columns, rows, thickness),
        _affine(first, (columns, rows, thickness)),
    )


def _affine(first: Any, spacing: tuple[float, float, float]) -> np.ndarray[Any, np.dtype[Any]]:
    """Good enough to compare a patient's series by: all start at their first file."""
    affine = np.diag([*spacing, 1.0])
    position = first.get("ImagePositionPatient")
    if position and len(position) == 3:
        affine[:2, 3] = [float(value) for value in position[:2]]
    return affine


def _may_name_somebody(text: str) -> bool:
    """Programs write their own name and version there; that names nobody."""
    from p2pfl.learning.datasets.image_checks import name_looks_personal

    return bool(name_looks_personal(text)) or "^" in text
