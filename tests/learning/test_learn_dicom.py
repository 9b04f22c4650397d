"""DICOM series: pydicom's own test files load, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from learn_images import look
from pydicom.data import get_testdata_file

from p2pfl.learning.datasets.dicom import read_series
from p2pfl.learning.errors import DataRefused


def write_series(folder: Path, slices: int = 4, **tags: object) -> Path:
    """Slices 3 mm apart made from pydicom's CT, each darker than the one below it."""
    folder.mkdir(parents=True)
    for number in range(slices):
        one = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        one.ImagePositionPatient = [-100.0, -80.0, 10.0 + 3.0 * number]
        one.SOPInstanceUID = f"1.2.3.{number}"
        one.PatientName, one.BurnedInAnnotation = "", "NO"
        one.PixelData = (one.pixel_array // (number + 1)).astype("<i2").tobytes()
        for tag, value in tags.items():
            setattr(one, tag, value)
        one.save_as(folder / f"slice{slices - number}.dcm")  # names in the wrong order
    return folder


def test_slices_are_sorted_by_place_and_turned_to_nifti_s_axes(tmp_path: Path) -> None:
    voxels, affine = read_series(write_series(tmp_path / "ct"), "ct")
    original = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    assert voxels.shape == (128, 128, 4)
    assert affine[2, 2] == pytest.approx(3.0)
    assert affine[0, 0] == pytest.approx(-float(original.PixelSpacing[1]))
    assert affine[:3, 3] == pytest.approx([100.0, 80.0, 10.0])
    expected = original.pixel_array * original.RescaleSlope + original.RescaleIntercept
    assert np.array_equal(voxels[:, :, 0], expected.T.astype(np.float32))


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("MR_small.dcm", ""),
        ("CT_small.dcm", ""),
        ("rtplan.dcm", "has no Rows"),
        ("waveform_ecg.dcm", "has no Rows"),
        ("README.txt", "is not a DICOM file"),
    ],
)
def test_other_tools_files_load_or_are_refused_with_the_reason(
    tmp_path: Path, file: str, problem: str
) -> None:
    found = get_testdata_file(file, download=False)
    raw = Path(str(found)).read_bytes() if found else b"no image at all"
    (tmp_path / "one.dcm").write_bytes(raw)
    if not problem:
        voxels, _ = read_series(tmp_path, "series")
        assert voxels.ndim == 3
        assert np.isfinite(voxels).all()
    else:
        with pytest.raises(DataRefused, match=problem):
            read_series(tmp_path, "series")


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    gap = write_series(tmp_path / "gap")
    (gap / "slice2.dcm").unlink()
    with pytest.raises(DataRefused, match="even distances"):
        read_series(gap, "gap")
    mixed = write_series(tmp_path / "mixed")
    one = pydicom.dcmread(mixed / "slice1.dcm")
    one.SeriesInstanceUID = "1.2.3.4"
    one.save_as(mixed / "slice1.dcm")
    with pytest.raises(DataRefused, match="differ in SeriesInstanceUID"):
        read_series(mixed, "mixed")


def test_a_look_warns_of_tags_that_name_somebody_without_quoting_them(tmp_path: Path) -> None:
    for number in range(2):
        write_series(
            tmp_path / "own" / f"sub-0{number}" / "CT",
            PatientName="Doe^Jane",
            StudyInstanceUID=f"1.2.{number}",
            RescaleIntercept=str(number),
        )
    facts = look(tmp_path / "own", tmp_path / "look")
    warnings = " ".join(map(str, facts["warnings"]))  # type: ignore[call-overload]
    assert "2 series say PatientName" in warnings
    assert "Doe" not in warnings
    assert facts["shapes"] == {"128×128×4": 2}


def test_writing_burned_into_pictures_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "own" / "sub-01" / "CT", BurnedInAnnotation="YES")
    with pytest.raises(DataRefused, match="burned into its pictures"):
        look(tmp_path / "own", tmp_path / "look")
