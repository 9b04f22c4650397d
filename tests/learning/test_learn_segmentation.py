"""The plan `segmentation`: it learns, it is scored on whole volumes, and privacy holds for it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from learn_clipping import FULL, check_clipped_one_by_one
from learn_images import image_terms, look, write_patients
from learn_manifests import PRIVATE, manifest_bytes, table

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import NO_PRIVACY, DataTerms, Manifest
from p2pfl.learning.datasets.images import ImagePatients, open_images
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.segmentation_loss import segmentation_loss_sum, soft_dice
from p2pfl.learning.plans.segmentation_score import dice_of, hd95_of, volume_logits
from p2pfl.learning.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

TINY = {"width": 4, "levels": 2, "batch_size": 4, "local_steps": 30}


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> ImagePatients:
    root = write_patients(tmp_path_factory.mktemp("images"), 8)
    out = tmp_path_factory.mktemp("look")
    look(root, out)
    return open_images(out / "images.json", image_terms())


def study(terms: DataTerms, **changes: object) -> Manifest:
    return parse_manifest(
        manifest_bytes(terms, plan="segmentation", **{"arguments": TINY, **changes})  # type: ignore[arg-type]
    )


def test_a_few_steps_find_most_of_the_regions(patients: ImagePatients) -> None:
    chosen = study(image_terms(), rounds=3)
    trainer = Trainer(chosen, patients, denominator=1, random_bytes=os.urandom)
    start = initial_model(chosen)
    assert np.array_equal(start, initial_model(chosen))
    before = trainer.score(start, patients)
    model = start
    for round_ in range(3):
        model = trainer.train(model, round_, {}).vector
    after = trainer.score(model, patients)
    assert after.accuracy > max(0.75, before.accuracy + 0.2)
    assert set(after.measures) == {"dice whole", "dice core"}
    assert after.auc is None
    with pytest.raises(PlanRefused, match="marks regions"):
        trainer.log_odds(model, patients)


def test_each_patient_s_gradient_is_clipped_by_itself(patients: ImagePatients) -> None:
    """The hooks against plain autograd, one patient at a time: MONAI's UNet, instance norm."""
    some = patients.rows(np.arange(patients.size) < 5)
    check_clipped_one_by_one("segmentation", image_terms(), TINY, some)


def test_noise_goes_out_also_when_nobody_was_drawn(patients: ImagePatients) -> None:
    rare = {**PRIVATE, "sampling": "poisson", "sampling_rate": 1e-6}
    arguments = {**TINY, "optimiser": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    chosen = study(image_terms(), privacy=rare, arguments=arguments)
    trainer = Trainer(chosen, patients, denominator=100, random_bytes=os.urandom)
    start = initial_model(chosen)
    moved = trainer.train(start, 0, {}).vector - start
    assert moved.std() == pytest.approx(9.1 * 2.0 / (100 * 1e-6), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"norm": "batch"}, 'norm = "batch".*use norm = "instance"'),
        ({"loss": "dice-batch"}, 'loss = "dice-batch" ties.*use loss = "dice"'),
        ({"precision": "mixed"}, 'precision = "mixed"'),
    ],
)
def test_what_privacy_cannot_stand_on_is_refused_by_name(
    arguments: dict[str, str], problem: str
) -> None:
    plan = plan_named("segmentation")
    chosen = plan.arguments(arguments)
    with pytest.raises(PrivacyRefused, match=problem):
        plan.check(image_terms(), chosen, FULL)
    if "norm" in arguments:
        with pytest.raises(PlanRefused, match="running statistics"):
            plan.check(image_terms(), chosen, NO_PRIVACY)
    else:
        plan.check(image_terms(), chosen, NO_PRIVACY)


def test_data_that_do_not_go_with_the_plan_are_refused() -> None:
    plan = plan_named("segmentation")
    arguments = plan.arguments({})
    for terms, problem in (
        (table(3), 'needs kind = "images"'),
        (image_terms(regions=()), "regions"),
        (image_terms(window=(18, 16, 16)), "multiples of 4"),
        (dataclasses.replace(image_terms(), columns=table(1).columns), "no columns"),
    ):
        with pytest.raises(PlanRefused, match=problem):
            plan.check(terms, arguments, NO_PRIVACY)
    with pytest.raises(PlanRefused, match='no argument "hidden"'):
        plan.arguments({"hidden": 3})


def test_soft_dice_is_dice_where_everything_is_sure() -> None:
    found = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    true = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert float(soft_dice(found, true)[0]) == pytest.approx((2 * 1 + 1) / (3 + 1))
    logits, marked = torch.randn(3, 2, 4, 4, 4), (torch.rand(3, 2, 4, 4, 4) > 0.5).float()
    together = segmentation_loss_sum(logits, marked, "dice-ce")
    apart = sum(
        segmentation_loss_sum(logits[i : i + 1], marked[i : i + 1], "dice-ce") for i in range(3)
    )
    assert float(together) == pytest.approx(float(apart), rel=1e-5)


def test_distances_of_surfaces_are_in_millimetres() -> None:
    one = np.zeros((12, 12, 12), dtype=np.bool_)
    other = one.copy()
    one[2:8, 2:8, 2:8], other[4:10, 2:8, 2:8] = True, True
    assert hd95_of(one, other, (1.5, 1.0, 1.0)) == pytest.approx(3.0)
    assert hd95_of(one, np.zeros_like(one), (1.0, 1.0, 1.0)) is None
    assert dice_of(one, other) == pytest.approx(2 * 4 / 12)


def test_a_larger_volume_is_marked_in_overlapping_windows() -> None:
    module = torch.nn.Conv3d(2, 1, 1)
    volume = np.random.default_rng(0).normal(size=(2, 20, 20, 12)).astype(np.float32)
    with torch.no_grad():
        whole = module(torch.from_numpy(volume)[None])[0].numpy()
    assert volume_logits(module, volume, (8, 8, 8)) == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("changes", [{"network": "segresnet"}, {"norm": "group", "blocks": 0}])
def test_other_networks_start_from_their_seed(changes: dict[str, str | int]) -> None:
    plan = plan_named("segmentation")
    arguments = plan.arguments({"width": 8, "levels": 2, **changes})
    terms = image_terms()
    vector = plan.initial(terms, arguments, 1)
    model = FlatModel(plan.module(terms, arguments), plan.schema(terms, arguments))
    model.load(vector)
    with torch.no_grad():
        assert model.module(torch.zeros(1, 2, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_two_dimensional_studies_see_slices(patients: ImagePatients, tmp_path: Path) -> None:
    terms = image_terms(window=(16, 16), placement="patches")
    flat = dataclasses.replace(patients, terms=terms.images, cache=tmp_path / "cache")
    chosen = study(terms, rounds=1, arguments={**TINY, "local_steps": 2})
    trainer = Trainer(chosen, flat, denominator=1, random_bytes=os.urandom)
    model = trainer.train(initial_model(chosen), 0, {}).vector
    assert 0.0 <= trainer.score(model, flat).accuracy <= 1.0
