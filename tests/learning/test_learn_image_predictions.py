"""Predictions on scans: back on the scan's own voxels, in files that other tools read."""

from __future__ import annotations

import csv
import itertools
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from learn_images import KEY, REGIONS, balls, image_terms, look, write_patients
from learn_manifests import manifest_bytes
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff, ornt_transform
from pydicom.data import get_testdata_file

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest, Region, Target
from p2pfl.learning.datasets.images import open_images
from p2pfl.learning.datasets.prepared_volume import prepared_mask
from p2pfl.learning.errors import DataRefused
from p2pfl.learning.evaluation import Predictor
from p2pfl.learning.image_predictions import predict
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans.segmentation_score import dice_of
from p2pfl.learning.scan_grid import NOWHERE, back_on_scan, grid_of, labels_of
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector, write_vector
from p2pfl.runtime.image_index import file_facts

TINY = {"width": 4, "levels": 2, "batch_size": 4, "local_steps": 30}
NESTED = (Region("whole", (1, 2, 3)), Region("core", (1, 3)), Region("ring", (3,)))
AXES = ("RAS", "LPS", "PIR", "SLA")


def logits_for(labels: np.ndarray, regions: tuple[Region, ...]) -> np.ndarray:
    marks = np.stack([np.isin(labels, region.labels) for region in regions])
    return np.where(marks, 4.0, -4.0).astype(np.float32)


def test_labels_come_back_from_the_logits_of_nested_regions() -> None:
    labels = np.random.default_rng(1).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    assert np.array_equal(labels_of(logits_for(labels, NESTED), NESTED), labels)


def test_a_label_has_to_be_likelier_than_none() -> None:
    """The whole is there, its core is not; and a core outside the whole has to outweigh it."""
    logits = np.array([[3.0, -1.0, -5.0], [-2.0, -1.0, 6.0], [-9.0, -1.0, -9.0]], np.float32)
    found = labels_of(logits.reshape(3, 3, 1, 1), NESTED).ravel()
    assert found.tolist() == [2, 0, 1]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "window", [(12, 12, 12), (6, 8, 4), (16, 4, 8)], ids=["padded", "cut", "both"]
)
def test_what_is_prepared_goes_back_voxel_for_voxel(
    tmp_path: Path, axes: str, window: tuple[int, ...]
) -> None:
    """A mask prepared as training does, taken for a model's answer, lands where it came from."""
    labels = np.random.default_rng(3).integers(0, 3, (9, 10, 11)).astype(np.uint8)
    path = save_turned(tmp_path / "seg.nii.gz", labels, axes)
    terms = image_terms(window=window).images
    assert terms is not None
    grid = grid_of(path, "seg")
    upright = nibabel.as_closest_canonical(nibabel.load(path)).shape
    prepared = prepared_mask(
        terms,
        file_facts(tmp_path, "seg.nii.gz", KEY),
        shape=window,
        labels={},
        root=tmp_path,
        cache=tmp_path / "cache" / "mask.npy",
    )
    back = back_on_scan(logits_for(np.asarray(prepared), REGIONS), grid, terms)
    seen = back[0] != NOWHERE
    assert back.shape[1:] == grid.shape
    assert seen.sum() == np.prod(
        [min(side, size) for side, size in zip(upright, window, strict=True)]
    )
    own = np.asarray(nibabel.load(path).dataobj)
    assert np.array_equal(labels_of(back, REGIONS)[seen], own[seen])


@pytest.mark.parametrize("axes", AXES)
def test_what_is_resampled_goes_back_on_the_scan(tmp_path: Path, axes: str) -> None:
    _, labels = balls(np.random.default_rng(5), 24)
    path = save_turned(tmp_path / "seg.nii.gz", labels, axes)
    terms = image_terms(window=(16, 16, 16), spacing=(3.0, 3.0, 3.0)).images
    assert terms is not None
    prepared = prepared_mask(
        terms,
        file_facts(tmp_path, "seg.nii.gz", KEY),
        shape=(16, 16, 16),
        labels={},
        root=tmp_path,
        cache=tmp_path / "cache" / "mask.npy",
    )
    back = back_on_scan(logits_for(np.asarray(prepared), REGIONS), grid_of(path, "seg"), terms)
    own = np.asarray(nibabel.load(path).dataobj)
    assert dice_of(labels_of(back, REGIONS) > 0, own > 0) > 0.93


def save_turned(path: Path, upright: np.ndarray, axes: str) -> Path:
    """The volume stored along other axes, with the affine that says so."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-7.0, 4.0, 11.0)
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    stored = nibabel.orientations.apply_orientation(upright, change)
    nibabel.save(nibabel.Nifti1Image(stored, affine @ inv_ornt_aff(change, upright.shape)), path)
    assert "".join(aff2axcodes(nibabel.load(path).affine)) == axes
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Vector]:
    """A study of regions, and a model that knows them."""
    terms = image_terms()
    manifest = parse_manifest(manifest_bytes(terms, plan="segmentation", arguments=TINY, rounds=3))
    root, out = tmp_path_factory.mktemp("train"), tmp_path_factory.mktemp("look")
    look(write_patients(root, 8), out)
    patients = open_images(out / "images.json", terms)
    trainer = Trainer(manifest, patients, denominator=1, random_bytes=os.urandom)
    model = initial_model(manifest)
    for round_ in range(3):
        model = trainer.train(model, round_, {}).vector
    return manifest, model


Asking = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(trained: tuple[Manifest, Vector], tmp_path: Path) -> Asking:
    """Predict into tmp_path/out with the trained model; words replace fields of the request."""
    manifest, model = trained
    (tmp_path / "manifest.toml").write_bytes(manifest.raw)
    write_vector(tmp_path / "model", model)

    def asked(given: Path, **words: object) -> dict[str, Any]:
        for name in ("out", "scratch"):
            (tmp_path / name).mkdir()
        request = {
            "manifest": str(tmp_path / "manifest.toml"),
            "model": str(tmp_path / "model"),
            "home_layers": str(tmp_path / "none"),
            "given": str(given),
            "mapping": "",
            "table": "",
            "patient_column": "",
            "out": str(tmp_path / "out"),
            "scratch": str(tmp_path / "scratch"),
            "format": "auto",
            "materials": {},
        }
        return predict(request | words)

    return asked


def test_what_is_marked_lies_on_the_scan_s_own_voxels(
    ask: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_patients(tmp_path / "new", 3, seed=99)
    truths = {path.parts[-3]: path for path in root.glob("*/seg/*.nii.gz")}
    facts = ask(root)
    out = tmp_path / "out"
    assert (facts["patients"], facts["refused"]) == (3, [])
    assert any("middle 16 x 16 x 16" in note for note in facts["notes"])
    with (out / "volumes.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        name = row["patient"]
        found, true = nibabel.load(out / f"{name}_seg.nii.gz"), nibabel.load(truths[name])
        assert np.array_equal(found.affine, true.affine)
        assert found.get_data_dtype() == np.uint8
        labels = np.asarray(found.dataobj)
        assert dice_of(labels > 0, np.asarray(true.dataobj) > 0) > 0.8
        assert float(row["core (ml)"]) == pytest.approx((labels == 2).sum() * 8 / 1000)
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert not (tmp_path / "scratch" / "prepared").exists()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1] == {"done": 3, "of": 3}


def test_one_unreadable_scan_stops_nobody_else(ask: Asking, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "new", 2, seed=5)
    broken = next((root / "sub-00" / "T1").iterdir())
    broken.write_bytes(b"no image")
    facts = ask(root)
    assert facts["patients"] == 1
    [refused] = facts["refused"]
    assert refused["patient"] == "sub-00"
    assert broken.name in refused["problem"]
    assert "sub-01_seg.nii.gz" in facts["files"]


def test_a_folder_without_the_study_s_modalities_is_refused_by_name(
    ask: Asking, tmp_path: Path
) -> None:
    root = write_patients(tmp_path / "new", 2, names={"T1": "T1", "FLAIR": "dark"})
    with pytest.raises(DataRefused, match=r"no images called FLAIR.*there are T1, dark"):
        ask(root)


def test_a_mapping_says_what_the_site_calls_its_modalities(ask: Asking, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "new", 1, names={"T1": "T1", "FLAIR": "dark"})
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[modalities]\nFLAIR = "dark"\n')
    assert ask(root, mapping=str(mapping))["patients"] == 1


def test_dicom_in_dicom_seg_out(
    tmp_path: Path, trained: tuple[Manifest, Vector], ask: Asking
) -> None:
    """Frames refer to the slices they lie on, and hold what the same scan gives as NIfTI."""
    root = tmp_path / "clinic"
    for modality in ("T1", "FLAIR"):
        write_ball_series(root / "sub-00" / modality, modality)
    facts = ask(root)
    assert "sub-00_seg.dcm" in facts["files"]
    made = pydicom.dcmread(tmp_path / "out" / "sub-00_seg.dcm")
    assert made.Modality == "SEG"
    assert [one.SegmentLabel for one in made.SegmentSequence] == ["whole", "core"]
    sources = {
        float(one.ImagePositionPatient[2]): one.SOPInstanceUID
        for one in map(pydicom.dcmread, (root / "sub-00" / "T1").iterdir())
    }
    for frame in made.PerFrameFunctionalGroupsSequence:
        place = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        referred = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert referred.ReferencedSOPInstanceUID == sources[place]
    # The patient's ball is brighter in T1: its middle slice must be marked in the middle.
    frames = made.pixel_array
    biggest = frames[int(np.argmax(frames.sum(axis=(1, 2))))]
    rows, columns = np.nonzero(biggest)
    assert (rows.mean(), columns.mean()) == pytest.approx((5.0, 9.0), abs=1.5)


def write_ball_series(folder: Path, modality: str) -> None:
    """16 slices of 16 × 16; a ball at row 5, column 9, slice 8."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(11)
    row, column, slice_ = np.meshgrid(*[np.arange(16)] * 3, indexing="ij")
    away = np.sqrt((row - 5.0) ** 2 + (column - 9.0) ** 2 + (slice_ - 8.0) ** 2)
    ball = (away < 4.8).astype(float) + (away < 2.4)
    image = 1.0 + 1.5 * ball + generator.normal(0.0, 0.2, ball.shape)
    if modality == "FLAIR":
        image = 3.0 - image
    series = pydicom.uid.generate_uid(entropy_srcs=[modality])
    for number in range(16):
        one = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
        one.SeriesInstanceUID, one.SOPInstanceUID = series, f"{series[:50]}.{number}"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.Rows = one.Columns = 16
        one.PixelSpacing, one.SliceThickness = [2.0, 2.0], 2.0
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0.0, 0.0, 2.0 * number]
        one.FrameOfReferenceUID = "1.2.3.4.5"
        one.PixelData = (image[:, :, number] * 1000).clip(0).astype("<u2").tobytes()
        one.PixelRepresentation, one.BurnedInAnnotation = 0, "NO"
        for tag in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
            if tag in one:
                delattr(one, tag)
        one.save_as(folder / f"{number:02d}.dcm")


def test_dicom_seg_of_nifti_is_refused(ask: Asking, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "new", 1)
    with pytest.raises(DataRefused, match=r"no DICOM series.*leave --format out"):
        ask(root, format="dicom-seg")


def test_names_of_patients_never_leave_the_folder(ask: Asking, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "new", 2)
    for old, new in (("sub-00", "a b"), ("sub-01", "a&b")):
        (root / old).rename(root / new)
    ask(root)
    made = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert made == {"a_b_1_seg.nii.gz", "a_b_2_seg.nii.gz"}


def test_prediction_is_made_without_dropout(tmp_path: Path) -> None:
    """A model with dropout says the same twice."""
    terms = replace(image_terms(regions=()), target=Target("sick", 0.0))
    arguments = {"network": "densenet", "width": 4, "levels": 2, "blocks": 1, "dropout": 0.5}
    manifest = parse_manifest(
        manifest_bytes(terms, plan="image-classification", arguments=arguments)
    )
    predictor = Predictor(manifest, initial_model(manifest))
    one = np.random.default_rng(0).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    torch.manual_seed(0)
    said = [predictor.log_odds(one).tolist() for _ in range(3)]
    assert all(first == second for first, second in itertools.pairwise(said))


def test_a_probability_for_each_patient_s_scans(tmp_path: Path) -> None:
    terms = replace(image_terms(regions=()), target=Target("sick", 0.0))
    arguments = {"network": "densenet", "width": 4, "levels": 2, "blocks": 1}
    manifest = parse_manifest(
        manifest_bytes(terms, plan="image-classification", arguments=arguments)
    )
    (tmp_path / "manifest.toml").write_bytes(manifest.raw)
    write_vector(tmp_path / "model", initial_model(manifest))
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    request = {
        "manifest": str(tmp_path / "manifest.toml"),
        "model": str(tmp_path / "model"),
        "home_layers": str(tmp_path / "none"),
        "given": str(write_patients(tmp_path / "new", 3)),
        "out": str(tmp_path / "out"),
        "scratch": str(tmp_path / "scratch"),
        "format": "auto",
        "materials": {},
    }
    request |= dict.fromkeys(("mapping", "table", "patient_column"), "")
    assert predict(request)["files"] == ["predictions.csv"]
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["sub-00", "sub-01", "sub-02"]
    assert all(0.0 <= float(row["probability"]) <= 1.0 for row in rows)
