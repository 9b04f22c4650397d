"""The plans for images with an outcome: networks, what they learn, and what privacy refuses."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from learn_clipping import FULL, check_clipped_one_by_one
from learn_images import image_terms, look, save
from learn_manifests import PRIVATE, manifest, table

from p2pfl.core.manifest_terms import NO_PRIVACY, DataTerms, NumberColumn, Target
from p2pfl.learning.datasets.images import ImagePatients, open_images
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.private_steps import PrivateSteps
from p2pfl.learning.scoring import calibration_error
from p2pfl.learning.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

AGE = NumberColumn("age", 20.0, 90.0, 55.0, ())
SICK = Target("sick", 0.0)
SMALL = {"width": 4, "levels": 2, "batch_size": 4, "local_steps": 20, "learning_rate": 0.01}


def terms(*, with_table: bool = False) -> DataTerms:
    images = dataclasses.replace(image_terms(regions=()), target=SICK)
    return dataclasses.replace(images, columns=(AGE,)) if with_table else images


def windowed(window: tuple[int, ...]) -> DataTerms:
    images = terms().images
    assert images is not None
    return dataclasses.replace(terms(), images=dataclasses.replace(images, window=window))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients; the sick have a bright spot, and some of them are old."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(2)
    rows = ["participant_id,age,sick"]
    for number in range(12):
        name, sick = f"sub-{number:02d}", number % 2
        image = generator.normal(1.0, 0.2, (16, 16, 16)).astype(np.float32)
        image[5:11, 5:11, 5:11] += 2.0 * sick
        save(root / name / "T1" / f"{name}_a.nii.gz", image)
        save(root / name / "FLAIR" / f"{name}_b.nii.gz", 3.0 - image)
        rows.append(f"{name},{40 + 20 * sick + number},{sick}")
    (root / "participants.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path_factory.mktemp("look")
    look(root, out)
    return out


@pytest.fixture(scope="module")
def patients(folder: Path) -> ImagePatients:
    return open_images(folder / "images.json", terms())


@pytest.mark.parametrize(("network", "window"), [("densenet", (16, 16, 16)), ("resnet", (32, 32))])
def test_a_few_steps_tell_the_sick(
    patients: ImagePatients, network: str, window: tuple[int, ...]
) -> None:
    arguments = {**SMALL, "network": network}
    wide = windowed(window)
    chosen = manifest(wide, plan="image-classification", arguments=arguments, rounds=2)
    on = dataclasses.replace(patients, terms=wide.images)
    trainer = Trainer(chosen, on, denominator=1, random_bytes=os.urandom)
    model = initial_model(chosen)
    for round_ in range(2):
        model = trainer.train(model, round_, {}).vector
    found = trainer.score(model, on)
    assert found.auc == 1.0
    assert found.accuracy > 0.9
    assert found.measures["calibration error"] < 0.3


def test_a_table_s_columns_are_used_beside_the_images(folder: Path) -> None:
    both = open_images(folder / "images.json", terms(with_table=True))
    arguments = {**SMALL, "hidden": 4, "network": "densenet"}
    chosen = manifest(terms(with_table=True), plan="image-table-fusion", arguments=arguments)
    trainer = Trainer(chosen, both, denominator=1, random_bytes=os.urandom)
    start = initial_model(chosen)
    model = trainer.train(trainer.train(start, 0, {}).vector, 1, {}).vector
    assert trainer.score(model, both).auc == 1.0
    shuffled = dataclasses.replace(both, table=-both.table)
    assert trainer.score(model, shuffled).loss != trainer.score(model, both).loss


@pytest.mark.parametrize("network", ["densenet", "resnet"])
@pytest.mark.parametrize("norm", ["group", "instance"])
def test_each_patient_is_clipped_by_itself(
    patients: ImagePatients, network: str, norm: str
) -> None:
    """The hooks against plain autograd, one patient at a time."""
    given = {"network": network, "norm": norm, "width": 2, "levels": 2}
    wide = windowed((32, 32))
    some = dataclasses.replace(patients, terms=wide.images).rows(np.arange(12) < 3)
    check_clipped_one_by_one("image-classification", wide, given, some)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"norm": "batch"}, 'norm = "batch"'),
        ({"precision": "mixed"}, 'precision = "mixed"'),
        ({"clipping": "ghost"}, 'clipping = "ghost".*use clipping = "hooks"'),
    ],
)
def test_what_privacy_cannot_stand_on_is_refused_by_name(
    arguments: dict[str, str], problem: str
) -> None:
    plan = plan_named("image-classification")
    with pytest.raises(PrivacyRefused, match=problem):
        plan.check(terms(), plan.arguments(arguments), FULL)


def test_a_batch_norm_hidden_in_a_network_is_refused_all_the_same() -> None:
    plan = plan_named("image-classification")
    arguments = plan.arguments({"width": 2})
    module = plan.module(terms(), arguments)
    module.add_module("late", torch.nn.BatchNorm3d(1))
    from p2pfl.learning.flat_model import trained_schema

    model = FlatModel(module, trained_schema(module))
    with pytest.raises(PrivacyRefused, match='layer "late" is a batch norm'):
        PrivateSteps(plan, model, LocalOptimizer(model), FULL, denominator=1)


@pytest.mark.parametrize(
    ("plan", "data", "arguments", "problem"),
    [
        ("image-classification", table(2), {}, 'needs kind = "images"'),
        ("image-classification", terms(with_table=True), {}, 'see also "image-table-fusion"'),
        ("image-table-fusion", terms(), {}, 'see also "image-classification"'),
        ("image-classification", terms(), {"network": "resnet"}, "at least 32, not 16"),
        ("image-classification", terms(), {"levels": 4}, "fewer levels of a densenet"),
    ],
)
def test_what_does_not_go_together_is_refused(
    plan: str, data: DataTerms, arguments: dict[str, str | int], problem: str
) -> None:
    chosen = plan_named(plan)
    with pytest.raises(PlanRefused, match=problem):
        chosen.check(data, chosen.arguments(arguments), NO_PRIVACY)


def test_a_network_of_another_plan_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(PlanRefused, match='one of densenet, resnet; did you mean "densenet"'):
        plan_named("image-classification").arguments({"network": "densnet"})


def test_a_private_round_of_images_runs(patients: ImagePatients) -> None:
    chosen = manifest(
        terms(),
        plan="image-classification",
        arguments={"width": 2, "levels": 2},
        privacy={**PRIVATE, "noise_multiplier": 0.5},
    )
    trainer = Trainer(chosen, patients, denominator=12, random_bytes=os.urandom)
    start = initial_model(chosen)
    assert not np.array_equal(trainer.train(start, 0, {}).vector, start)


def test_calibration_compares_what_was_said_with_what_happened_bin_by_bin() -> None:
    generator = np.random.default_rng(4)
    chances = generator.random(500)
    labels = (generator.random(500) < chances**2).astype(np.float64)
    expected = 0.0
    for low in np.arange(10) / 10.0:
        inside = (chances >= low) & (chances < low + 0.1)
        expected += inside.mean() * abs(chances[inside].mean() - labels[inside].mean())
    assert calibration_error(chances, labels) == pytest.approx(expected)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.0
