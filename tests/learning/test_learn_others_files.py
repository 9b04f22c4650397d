"""Every test file that nibabel and pydicom ship: it loads, or is refused with file and reason.

They are written by scanners and by other programs, and some are damaged on purpose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from p2pfl.learning.datasets.dicom import read_series
from p2pfl.learning.datasets.dicom_checks import SeriesWarnings, check_series
from p2pfl.learning.datasets.volumes import read_header, read_voxels
from p2pfl.learning.errors import DataRefused

NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
PYDICOM = Path(pydicom.__file__).parent / "data"

pytestmark = pytest.mark.filterwarnings("ignore")


def files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    if not found:
        pytest.skip("this installation carries no test files")
    return found


def outcome(look: Callable[[], np.ndarray], name: str) -> str:
    """What the look ended with: "loaded", or the refusal without the file's name."""
    refusal: DataRefused | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            voxels = look()
    except DataRefused as refused:
        refusal = refused
    if refusal is not None:
        assert refusal.place.startswith(name)
        assert refusal.problem
        assert refusal.fix
        return refusal.problem
    assert voxels.ndim == 3
    assert voxels.dtype == np.float32
    return "loaded"


def nifti(path: Path) -> np.ndarray:
    header = read_header(path, path.name)
    return read_voxels(path, path.name, channel=0 if header.channels > 1 else -1)[0]


def test_nibabel_s_files_load_or_say_why_not() -> None:
    found = {
        path.name: outcome(lambda path=path: nifti(path), path.name) for path in files(NIBABEL)
    }
    loaded = {name for name, said in found.items() if said == "loaded"}
    assert {
        "anatomical.nii",
        "functional.nii",
        "example4d.nii.gz",
        "example_nifti2.nii.gz",
        "standard.nii.gz",
    } <= loaded
    assert all(name.endswith((".nii", ".nii.gz")) for name in loaded)
    assert found["tiny.mnc"] == "is not a NIfTI image"
    assert found["test.mgz"] == "is not a NIfTI image"


def test_pydicom_s_files_load_or_say_why_not(tmp_path: Path) -> None:
    found = {}
    for number, path in enumerate(files(PYDICOM)):
        series = tmp_path / str(number)
        series.mkdir()
        (series / path.name).symlink_to(path)

        def look(series: Path = series, name: str = path.name) -> np.ndarray:
            check_series(series, name, SeriesWarnings())
            return read_series(series, name)[0]

        found[path.name] = outcome(look, path.name)
    loaded = {name for name, said in found.items() if said == "loaded"}
    assert {"CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"} <= loaded
    assert found["rtplan.dcm"] == "has no Rows"
    assert found["MR_truncated.dcm"].startswith("its pixels cannot be read")
    assert found["README.txt"].startswith("is not a DICOM file")
