"""Folders of images that cannot be registered as they are; each look is a process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mistakes_stage import Stage
from mistakes_table import Row

SIDE = 8
PATIENTS = 3


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with four modalities and a mask each, and a study that marks regions."""
    import numpy as np

    from p2pfl.core.manifest_writing import render_data
    from p2pfl.learning.demo_tumours import Scanner, tumour_terms, write_site

    root = tmp_path_factory.mktemp("images")
    scanner = Scanner(gain=1.0, noise=0.03, blur=0.0, bias=0.0, contrast=1.0)
    write_site(root / "own", PATIENTS, SIDE, scanner, np.random.default_rng(1))
    (root / "study.toml").write_bytes(render_data(tumour_terms(SIDE)))
    return root


def volume(folder: Path, number: int, kind: str) -> Path:
    name = f"sub-{number:03d}"
    return folder / name / kind / f"{name}_{kind}.nii.gz"


def no_image(folder: Path) -> None:
    volume(folder, 2, "T2").write_bytes(b"junk")


def another_grid(folder: Path) -> None:
    _write_mask(folder, side=SIDE // 2, label=1)


def a_foreign_label(folder: Path) -> None:
    _write_mask(folder, side=SIDE, label=9)


def one_image_twice(folder: Path) -> None:
    shutil.copy(volume(folder, 1, "T1"), volume(folder, 2, "T1"))


def _write_mask(folder: Path, *, side: int, label: int) -> None:
    import nibabel
    import numpy as np

    voxels = np.full((side, side, side), label, dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 2, 2, 1])), volume(folder, 2, "seg"))


CASES: dict[str, Callable[[Path], None]] = {
    "volume_is_no_image": no_image,
    "mask_on_another_grid": another_grid,
    "mask_with_an_unknown_label": a_foreign_label,
    "one_image_for_two_patients": one_image_twice,
}


@pytest.mark.parametrize("break_it", CASES.values(), ids=CASES.keys())
def test_each_folder(row: Row, stage: Stage, sound: Path, break_it: Callable[[Path], None]) -> None:
    own = stage.path / "own"
    shutil.copytree(sound / "own", own)
    break_it(own)
    words = ("data", "add", own, "--name", "scans", "--schema", sound / "study.toml")
    stage.refused(row, *words)
    assert not (stage.home / "data" / "scans").exists()
