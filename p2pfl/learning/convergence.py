"""Training to convergence with everything in one place: the yardstick, not a way to collaborate.

Responsible for one number-cruncher: L-BFGS over the flat vector. Without privacy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.training import schema_of
from p2pfl.learning.vector import Vector

L2_MIN: Final = 1e-3
"""λ of λ/2·‖θ‖² beside the mean loss; without it separable patients have no best model."""
ITERATIONS_MAX: Final = 200
LOSS_CHANGE_MIN: Final = 1e-6
"""Relative; below this the model counts as converged."""


def converged(manifest: Manifest, train: Prepared, start: Vector) -> Vector:
    """Minimise the plan's mean loss + λ/2·‖θ‖² with λ = max(weight_decay, 0.001).

    start: float32[d]. Returns float32[d]. Raises PlanRefused, ModelRefused.
    """
    plan = plans.plan_of(manifest)
    arguments = plan.arguments(manifest.plan.arguments)
    module = plan.module(manifest.data, arguments)
    model = FlatModel(module, schema_of(manifest))
    features, labels = torch.from_numpy(train.features), torch.from_numpy(train.labels)
    l2 = max(arguments.weight_decay, L2_MIN)

    def loss_and_gradient(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        model.load(values.astype(np.float32))
        model.gradient.zero_()
        loss = plan.loss_sum(module(features), labels, arguments) / len(labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total = float(loss.detach()) + l2 / 2.0 * float(values @ values)
        return total, model.gradient.numpy().astype(np.float64) + l2 * values

    found = minimize(
        loss_and_gradient,
        start.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS_MAX, "ftol": LOSS_CHANGE_MIN},
    )
    best: Vector = found.x.astype(np.float32)
    return best
