"""Each patient's gradient clipped by itself, beside an oracle that knows no hooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms
from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.plans import plan_named
from p2pfl.learning.private_steps import PrivateSteps
from p2pfl.privacy.noise import GaussianStream

FULL = PrivacyTerms("gaussian", 3.0, "1e-3", 0.1, "patient", "full", 1.0, 2.0, 1)


def check_clipped_one_by_one(
    plan_name: str, terms: DataTerms, given: Mapping[str, object], some: ImagePatients
) -> None:
    """A step without noise moves the model by the sum of the clipped gradients of these patients,
    each computed by plain autograd alone. given: the plan's arguments."""
    plan = plan_named(plan_name)
    step = {"optimiser": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    arguments = plan.arguments({**given, **step})
    schema, start = plan.schema(terms, arguments), plan.initial(terms, arguments, 7)
    model = FlatModel(plan.module(terms, arguments), schema)
    local = LocalOptimizer(model)
    silent = dataclasses.replace(FULL, noise_multiplier=0.0)
    steps = PrivateSteps(plan, model, local, silent, denominator=1)
    model.load(start)
    local.begin_round(arguments)
    steps.run(some, GaussianStream(bytes(32)), None)
    found = start.astype(np.float64) - model.vector()
    plain = FlatModel(plan.module(terms, arguments), schema)
    plain.load(start)
    expected = np.zeros(len(start))
    for row in range(some.size):
        batch = some.batch(np.array([row]), None)
        plain.gradient.zero_()
        outputs = plain.module(torch.from_numpy(batch.inputs[0]))
        plan.loss_sum(outputs, torch.from_numpy(batch.target), arguments).backward()
        one = plain.gradient.numpy().astype(np.float64)
        expected += one * min(1.0, FULL.clip_norm / np.linalg.norm(one))
    assert found == pytest.approx(expected, abs=1e-5)
