"""What a model marked in a patient's scan, as the files hospitals work with.

NIfTI: one uint8 volume of the study's labels on the scan's own voxels, its header made anew (a
scan's own may name the patient). DICOM-SEG: one binary segment per region, referring to the series
it was drawn on; as the standard wants it, patient and study are copied from there, so it is filed
with the patient and must not leave the house. Overlay: outlines on the scan's slices, for people.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from p2pfl.core.manifest_terms import Manifest, Region
from p2pfl.learning.datasets.volumes import Voxels
from p2pfl.learning.errors import DataRefused
from p2pfl.learning.scan_grid import Labels, ScanGrid

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

MILLIMETRES: Final = 2
SCANNER_CODE: Final = 1
"""NIfTI's words for units, and for an affine in the scanner's own space."""
SERIES_NUMBER: Final = 9100
CODING_SCHEME: Final = "99P2PFL"
"""Private by its first two digits, as DICOM PS3.16 section 8.2 has it."""
LABEL_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class MadeBy:
    """The model behind the marks, as a file names it."""

    study: str
    name: str
    plan: str

    @classmethod
    def of(cls, manifest: Manifest) -> MadeBy:
        """Of a study's manifest."""
        return cls(manifest.study_id.hex(), manifest.study.name, manifest.plan.name)


def write_labels(path: Path, labels: Labels, grid: ScanGrid) -> None:
    """labels: uint8[*grid.shape]. Raises OSError."""
    import nibabel

    image = nibabel.Nifti1Image(labels, grid.affine)
    image.header.set_xyzt_units(MILLIMETRES)
    image.set_sform(grid.affine, code=SCANNER_CODE)
    image.set_qform(grid.affine, code=SCANNER_CODE)
    nibabel.save(image, path)


def write_segmentation(
    path: Path, labels: Labels, series: Path, regions: Sequence[Region], made_by: MadeBy
) -> None:
    """DICOM-SEG of a series. labels: uint8[x, y, z] on its voxels. Raises DataRefused, OSError."""
    import highdicom
    from highdicom.seg import Segmentation

    from p2pfl.learning.datasets.dicom import ordered_slices, refusing_unreadable

    with refusing_unreadable(series.name):
        slices = ordered_slices(series, series.name, with_pixels=False)
        planes = np.stack(
            [np.isin(labels, region.labels).transpose(2, 1, 0) for region in regions], axis=-1
        ).astype(np.uint8)
        version = importlib.metadata.version("p2pfl-node")
        made: Any = Segmentation(
            source_images=slices,
            pixel_array=planes,
            segmentation_type="BINARY",
            segment_descriptions=[
                _described(number, region.name, made_by)
                for number, region in enumerate(regions, start=1)
            ],
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="p2pfl",
            manufacturer_model_name=made_by.plan,
            software_versions=version,
            device_serial_number=made_by.study[:16],
            series_description=f"p2pfl {made_by.name}"[:LABEL_CHARACTERS_MAX],
            content_label="P2PFL",
        )
    made.save_as(path)


def draw_marks(
    path: Path,
    title: str,
    image: Voxels,
    labels: Labels,
    regions: Sequence[Region],
    grid: ScanGrid,
) -> None:
    """The slice with most marks, outlined beside the plain one. Raises OSError.

    image: float32[x, y, z] as `read_voxels` gives it; labels: uint8[*grid.shape].
    """
    from p2pfl.learning.datasets.volumes import turned
    from p2pfl.learning.pictures import Overlay, draw_overlays

    upright, affine = turned(labels.astype(np.float32), grid.affine)
    marks = np.stack([np.isin(upright, region.labels) for region in regions])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ways = {"marked by the model": marks, "the scan": np.zeros_like(marks)}
    overlay = Overlay(title, image, ways, aspect=float(spacing[1] / spacing[0]))
    draw_overlays(path, [overlay], [region.name for region in regions])


def _described(number: int, name: str, made_by: MadeBy) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    region = CodedConcept(f"R{number}", CODING_SCHEME, name[:LABEL_CHARACTERS_MAX])
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:LABEL_CHARACTERS_MAX],
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=region,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=made_by.name[:LABEL_CHARACTERS_MAX],
            family=codes.DCM.ArtificialIntelligence,
            version=made_by.study[:16],
            source="p2pfl",
        ),
    )


def require_series(series: Path, name: str) -> None:
    """Raises DataRefused where a DICOM-SEG is wanted of what is no DICOM series."""
    if not series.is_dir():
        raise DataRefused(
            name,
            "is no DICOM series, so there is nothing a DICOM-SEG could refer to",
            fix="leave --format out, which writes NIfTI for NIfTI",
        )
