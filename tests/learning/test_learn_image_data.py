"""Registering and opening images: whose they are, that they fit, and that nothing is read early."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from learn_images import KEY, SIDE, balls, image_terms, look, save, write_patients

from p2pfl.core.manifest_writing import render_data
from p2pfl.learning.datasets.augmentation import MRI
from p2pfl.learning.datasets.image_checks import name_looks_personal
from p2pfl.learning.datasets.images import open_images
from p2pfl.learning.datasets.layouts import find_patients
from p2pfl.learning.errors import DataRefused, TooFewPatients
from p2pfl.runtime.image_index import FileChanged, check_files, read_index

SCHEMA = render_data(image_terms())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patients(tmp_path_factory.mktemp("images"), 4)


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_a_look_counts_and_leaves_index_mapping_and_picture(folder: Path, tmp_path: Path) -> None:
    facts = look(folder, tmp_path, schema=SCHEMA)
    assert facts["patients"] == 4
    assert facts["modalities"] == {"FLAIR": 4, "T1": 4}
    assert facts["shapes"] == {"16×16×16": 4}
    assert facts["labels"] == {"0": 4, "1": 4, "2": 4}
    assert (tmp_path / "contact.png").read_bytes().startswith(b"\x89PNG")
    assert 'T1 = "T1"' in (tmp_path / "mapping.toml").read_text()
    assert all(oct(path.stat().st_mode)[-3:] == "600" for path in tmp_path.glob("[!s]*.*"))


def test_a_site_s_own_names_become_the_study_s(tmp_path: Path) -> None:
    own = write_patients(tmp_path / "own", 3, names={"T1": "t1w", "FLAIR": "dark_fluid"})
    with pytest.raises(DataRefused, match=r"no images called FLAIR.*mapping\.toml"):
        look(own, tmp_path / "look", schema=SCHEMA)
    mapping = '[modalities]\nFLAIR = "dark_fluid"\n'
    look(own, tmp_path / "look", schema=SCHEMA, mapping=mapping)
    patients = open_images(tmp_path / "look" / "images.json", image_terms())
    volume, mask = patients.volume(0)
    assert volume.shape == (2, SIDE, SIDE, SIDE)
    t1, flair = volume[0][mask == 2].mean(), volume[1][mask == 2].mean()
    assert t1 > 1.0 > flair  # the ball is bright in one and dark in the other


def test_opening_reads_no_volume_and_keeps_prepared_ones_in_its_own_directory(
    folder: Path, tmp_path: Path
) -> None:
    own = copied(folder, tmp_path / "own")
    look(own, tmp_path / "look", schema=SCHEMA)
    patients = open_images(tmp_path / "look" / "images.json", image_terms())
    assert not (tmp_path / "look" / "cache").exists()
    batch = patients.batch(np.array([2, 0]), None)
    assert batch.inputs[0].shape == (2, 2, SIDE, SIDE, SIDE)
    assert batch.target.shape == (2, 2, SIDE, SIDE, SIDE)
    assert abs(float(batch.inputs[0][0, 0].mean())) < 1e-3
    assert len(list((tmp_path / "look" / "cache").iterdir())) == 4
    shutil.rmtree(own)
    again = patients.batch(np.array([2, 0]), None)  # from the cache
    assert np.array_equal(again.inputs[0], batch.inputs[0])
    with pytest.raises(DataRefused, match="is not there"):
        patients.batch(np.array([1]), None)


def test_a_missing_modality_is_zeros_and_said_to_the_model(folder: Path, tmp_path: Path) -> None:
    own = copied(folder, tmp_path / "own")
    shutil.rmtree(own / "sub-01" / "FLAIR")
    terms = image_terms(modalities_min=1)
    look(own, tmp_path / "look", schema=render_data(terms))
    patients = open_images(tmp_path / "look" / "images.json", terms)
    volume, _ = patients.volume(1)
    assert volume.shape[0] == 4
    assert not volume[1].any()
    assert volume[2].min() == 1.0
    assert volume[3].max() == 0.0
    assert "1 patients with some modality missing" in patients.notes[0]
    strict = open_images(tmp_path / "look" / "images.json", image_terms())
    assert strict.size == 3


def test_patches_are_drawn_and_small_volumes_padded(folder: Path, tmp_path: Path) -> None:
    look(folder, tmp_path, schema=SCHEMA)
    terms = image_terms(window=(8, 8, 8), placement="patches")
    patients = open_images(tmp_path / "images.json", terms)
    drawn = [
        patients.batch(np.array([0]), np.random.default_rng(seed)).inputs[0] for seed in (1, 1, 2)
    ]
    assert drawn[0].shape == (1, 2, 8, 8, 8)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    wide = open_images(tmp_path / "images.json", image_terms(window=(24, 24, 24)))
    assert wide.volume(0)[0].shape == (2, 24, 24, 24)
    flat = open_images(tmp_path / "images.json", image_terms(window=(8, 8), placement="patches"))
    assert flat.batch(None, np.random.default_rng(0)).inputs[0].shape == (4, 2, 8, 8)


def test_augmentation_turns_image_and_mask_together(folder: Path, tmp_path: Path) -> None:
    look(folder, tmp_path, schema=SCHEMA)
    patients = open_images(tmp_path / "images.json", image_terms()).augmented(MRI)
    batch = patients.batch(np.array([0]), np.random.default_rng(3))
    image, core = batch.inputs[0][0, 0], batch.target[0, 1] > 0.5
    assert image[core].mean() > image[~core].mean() + 1.0
    assert not np.array_equal(image, patients.batch(np.array([0]), None).inputs[0][0, 0])


def test_too_few_patients_are_refused(folder: Path, tmp_path: Path) -> None:
    look(folder, tmp_path)
    from dataclasses import replace

    with pytest.raises(TooFewPatients, match="4 patients"):
        open_images(tmp_path / "images.json", replace(image_terms(), patients_min=5))


def spoil_shape(own: Path) -> None:
    save(own / "sub-02" / "FLAIR" / "sub-02_b.nii.gz", np.ones((8, 8, 8), np.float32))


def spoil_place(own: Path) -> None:
    save(own / "sub-02" / "seg" / "sub-02_seg.nii.gz", np.ones((SIDE,) * 3, np.uint8), shift=40.0)


def spoil_labels(own: Path) -> None:
    save(own / "sub-02" / "seg" / "sub-02_seg.nii.gz", np.full((SIDE,) * 3, 4, np.uint8))


def spoil_values(own: Path) -> None:
    save(own / "sub-02" / "seg" / "sub-02_seg.nii.gz", np.full((SIDE,) * 3, 0.5, np.float32))


def spoil_file(own: Path) -> None:
    (own / "sub-02" / "T1" / "sub-02_a.nii.gz").write_bytes(b"no image")


def spoil_twice(own: Path) -> None:
    shutil.copytree(own / "sub-01", own / "sub-99")


def spoil_empty(own: Path) -> None:
    save(own / "sub-00" / "FLAIR" / "sub-00_b.nii.gz", np.zeros((SIDE,) * 3, np.float32))


@pytest.mark.parametrize(
    ("spoil", "place", "problem"),
    [
        (spoil_shape, "sub-02/", "voxels where"),
        (spoil_place, "sub-02/seg", r"lies 40\.0 mm away"),
        (spoil_labels, "own", r"masks hold the labels 4; the study knows 0, 1, 2"),
        (spoil_values, "sub-02/seg", "no whole numbers"),
        (spoil_file, "sub-02/T1", "is not a NIfTI image"),
        (spoil_twice, "sub-99", 'is the same image as one of "sub-01"'),
        (spoil_empty, "sub-00", "is empty"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_fix(
    folder: Path, tmp_path: Path, spoil: object, place: str, problem: str
) -> None:
    own = copied(folder, tmp_path / "own")
    spoil(own)  # type: ignore[operator]
    with pytest.raises(DataRefused, match=problem) as refused:
        look(own, tmp_path / "look", schema=SCHEMA)
    assert place in refused.value.place
    assert refused.value.fix


def test_labels_are_mapped_at_the_site(folder: Path, tmp_path: Path) -> None:
    own = copied(folder, tmp_path / "own")
    spoil_labels(own)
    facts = look(own, tmp_path / "look", schema=SCHEMA, mapping="[labels]\n4 = 2\n")
    assert facts["labels"] == {"0": 3, "1": 3, "2": 4}


def test_a_changed_volume_is_noticed_and_a_touched_one_is_not(folder: Path, tmp_path: Path) -> None:
    own = copied(folder, tmp_path / "own")
    look(own, tmp_path / "look")
    index = read_index(tmp_path / "look" / "images.json")
    (own / "sub-00" / "T1" / "sub-00_a.nii.gz").touch()
    check_files(index, KEY)
    save(own / "sub-00" / "T1" / "sub-00_a.nii.gz", balls(np.random.default_rng(9))[0])
    with pytest.raises(FileChanged, match="sub-00_a"):
        check_files(index, KEY)


def test_a_decathlon_list_names_channels_and_stays_in_its_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(2):
        image, labels = balls(generator)
        save(tmp_path / "imagesTr" / f"B_{number}.nii.gz", np.stack([image, -image], axis=3))
        save(tmp_path / "labelsTr" / f"B_{number}.nii.gz", labels)
    listed = {
        "modality": {"0": "FLAIR", "1": "T1"},
        "training": [
            {"image": f"./imagesTr/B_{number}.nii.gz", "label": f"./labelsTr/B_{number}.nii.gz"}
            for number in range(2)
        ],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    look(tmp_path / "dataset.json", tmp_path / "look", schema=SCHEMA)
    patients = open_images(tmp_path / "look" / "images.json", image_terms())
    volume, mask = patients.volume(0)
    assert volume[1][mask == 2].mean() > 1.0  # FLAIR is the first channel of the file
    listed["training"][0]["image"] = "../secret.nii.gz"  # type: ignore[index]
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    with pytest.raises(DataRefused, match="leads out of the folder"):
        find_patients(tmp_path)


def test_bids_names_tell_the_modality(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        for modality in ("T1w", "FLAIR"):
            save(
                tmp_path / "sub-01" / session / "anat" / f"sub-01_{session}_{modality}.nii.gz",
                np.ones((4, 4, 4), np.float32),
            )
    (patient,) = find_patients(tmp_path).patients
    assert sorted(patient.images) == ["FLAIR", "T1w"]
    assert patient.spare == 2  # the second session: one record per patient


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("sub-01_T1.nii.gz", ""),
        ("BraTS20_Training_001_flair.nii.gz", ""),
        ("scan_19610412", "a date"),
        ("12.04.1961_T1", "a date"),
        ("MRN0012", "a record number"),
        ("Meier_Anna_T1", "a person's name"),
    ],
)
def test_names_that_tell_of_a_person_are_noticed(name: str, what: str) -> None:
    assert name_looks_personal(name) == what
