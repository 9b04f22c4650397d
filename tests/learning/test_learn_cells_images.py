"""Images through gradient cells: one patient's image, its marked regions, and nothing else."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from learn_cells import PRIVATE, gradient, kept, parsed, study
from learn_images import image_terms

from p2pfl.learning.datasets.synthetic import synthetic_patients
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.gradient_cells.trainer import CellTrainer
from p2pfl.learning.plans.code import code_plan

MARKING = """\
from torch import nn
from torch.nn import functional


class Plan:
    measures = {"right": (0.0, 1.0)}

    def model(self, inputs, arguments):
        return nn.Sequential(
            nn.Conv2d(inputs.channels, 4, 3, padding=1),
            nn.InstanceNorm2d(4, affine=True),
            nn.ReLU(),
            nn.Conv2d(4, len(inputs.regions), 1),
        )

    def loss(self, outputs, target):
        losses = functional.binary_cross_entropy_with_logits(outputs, target, reduction="none")
        return losses.flatten(1).mean(1)

    def metrics(self, outputs, target):
        return {"right": ((outputs > 0) == (target > 0.5)).float().mean()}
"""
TERMS = image_terms(window=(12, 12))


@pytest.mark.nodes
def test_images_are_trained_on_and_scored_patient_by_patient() -> None:
    plan = code_plan(MARKING, has_images=True)
    arguments = plan.arguments({"learning_rate": 1.0, "momentum": 0.0})
    schema = plan.schema(TERMS, arguments)
    d = schema.parameters
    start = plan.initial(TERMS, arguments, 3)
    data = synthetic_patients(TERMS, 6, 1)
    raw = study(MARKING, parameters=d, terms=TERMS, privacy={**PRIVATE, "clip_norm": 1.0})
    with kept() as (cells_of, _):
        cells = cells_of(raw)
        trainer = CellTrainer(parsed(raw), data, cells, denominator=20, random_bytes=os.urandom)
        work = trainer.train(start, 0, {})
        found = trainer.score(start, data)
        cells.load(start)
        one = data.batch(np.array([2]), None)
        from_cell = gradient(cells, one, d)
    assert work.steps == 1
    assert not np.array_equal(work.vector, start)
    assert found.n == 6
    assert 0.0 <= found.measures["right"] <= 1.0
    assert from_cell is not None
    model = FlatModel(plan.module(TERMS, arguments), schema)
    model.load(start)
    inputs = [torch.from_numpy(part) for part in one.inputs]
    plan.loss_sum(model.module(*inputs), torch.from_numpy(one.target), arguments).backward()
    assert np.abs(model.gradient.numpy()).max() > 1e-4
    assert from_cell[0] == pytest.approx(model.gradient.numpy(), abs=1e-6)
