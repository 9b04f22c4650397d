"""Fine-tuning of the last block: the rest stays, is not noised, and counts for nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from learn_images import image_terms, look, write_patients
from learn_manifests import PRIVATE, manifest_bytes

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest, PrivacyTerms
from p2pfl.learning.datasets.images import ImagePatients, open_images
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.frozen import frozen_positions
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.private_steps import PrivateSteps
from p2pfl.learning.training import Trainer, schema_of
from p2pfl.learning.vector import Vector
from p2pfl.privacy.noise import GaussianStream

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

TINY = {
    "width": 4,
    "levels": 2,
    "blocks": 0,
    "batch_size": 2,
    "local_steps": 3,
    "frozen": "backbone",
    "weight_decay": 0.1,
}
SGD = {**TINY, "optimiser": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> ImagePatients:
    root, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("look")
    look(write_patients(root, 4), out)
    return open_images(out / "images.json", image_terms())


def study(arguments: dict[str, object], **changes: object) -> Manifest:
    return parse_manifest(
        manifest_bytes(image_terms(), plan="segmentation", arguments=arguments, **changes)  # type: ignore[arg-type]
    )


def places(manifest: Manifest) -> np.ndarray:
    arguments = plan_named("segmentation").arguments(manifest.plan.arguments)
    return frozen_positions(schema_of(manifest), arguments)


def moved_by_neighbours(start: Vector) -> Vector:
    return start + np.random.default_rng(1).normal(0.0, 0.1, len(start)).astype(np.float32)


def test_the_last_block_alone_is_trained() -> None:
    manifest = study(TINY)
    names = []
    at, kept = 0, set(places(manifest).tolist())
    for tensor in schema_of(manifest).tensors:
        inside = {place in kept for place in range(at, at + tensor.size)}
        assert len(inside) == 1, "whole tensors"
        names += [tensor.name] if inside == {False} else []
        at += tensor.size
    assert names == ["model.2.conv.weight", "model.2.conv.bias"]
    assert len(places(study({**TINY, "frozen": "none"}))) == 0


@pytest.mark.parametrize("privacy", [None, PRIVATE], ids=["plain", "private"])
def test_what_is_frozen_leaves_as_it_was_whatever_arrived(
    patients: ImagePatients, privacy: dict[str, object] | None
) -> None:
    """Weight decay, momentum, noise and neighbours move the last block only."""
    manifest = study(TINY, privacy=privacy)
    start = initial_model(manifest)
    trainer = Trainer(
        manifest, patients, denominator=4, random_bytes=os.urandom, initial=lambda: start
    )
    frozen = places(manifest)
    trained = np.setdiff1d(np.arange(len(start)), frozen)
    for round_ in range(2):
        base = moved_by_neighbours(start)
        vector = trainer.train(base, round_, {}).vector
        assert np.array_equal(vector[frozen], start[frozen])
        assert (vector[trained] != base[trained]).all()


def test_a_patient_s_norm_is_that_of_the_trained_coordinates(patients: ImagePatients) -> None:
    """Clipped sums against plain autograd, one patient at a time."""
    plan = plan_named("segmentation")
    arguments = plan.arguments(SGD)
    schema, start = schema_of(study(SGD)), initial_model(study(SGD))
    privacy = PrivacyTerms("gaussian", 3.0, "1e-3", 0.05, "patient", "full", 1.0, 0.0, 1)
    model = FlatModel(plan.module(image_terms(), arguments), schema)
    frozen = frozen_positions(schema, arguments)
    model.freeze(frozen)
    local = LocalOptimizer(model)
    steps = PrivateSteps(plan, model, local, privacy, denominator=1)
    model.load(start)
    local.begin_round(arguments)
    steps.run(patients, GaussianStream(bytes(32)), None)
    found = start.astype(np.float64) - model.vector()
    plain = FlatModel(plan.module(image_terms(), arguments), schema)
    plain.load(start)
    expected = np.zeros(len(start))
    for row in range(patients.size):
        batch = patients.batch(np.array([row]), None)
        plain.gradient.zero_()
        outputs = plain.module(torch.from_numpy(batch.inputs[0]))
        plan.loss_sum(outputs, torch.from_numpy(batch.target), arguments).backward()
        one = plain.gradient.numpy().astype(np.float64)
        one[frozen] = 0.0
        assert np.linalg.norm(one) > privacy.clip_norm
        expected += one * privacy.clip_norm / np.linalg.norm(one)
    assert found == pytest.approx(expected, abs=1e-5)


def test_frozen_and_at_home_together_are_refused(tmp_path: Path) -> None:
    manifest = study({**TINY, "at_home": "norm"})
    plan = plan_named("segmentation")
    arguments = plan.arguments(manifest.plan.arguments)
    with pytest.raises(PlanRefused, match="choose one"):
        plan.check(manifest.data, arguments, manifest.privacy)
    assert dataclasses.replace(arguments, at_home="none").frozen == "backbone"
