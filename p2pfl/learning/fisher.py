"""How much each parameter matters to what a model says of patients: the Fisher information.

Its diagonal, under the model's own predictions, so that no label of earlier patients is needed.
It is computed from patients and stays in the training process.
"""

from __future__ import annotations

import torch

from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.plans.plan import Plan

PIECE: int = 256
"""Patients whose gradients are held at once."""


def fisher_diagonal(
    plan: Plan, model: FlatModel, patients: Patients, arguments: Arguments
) -> torch.Tensor:
    """Mean over patients of Σ_y p(y|x) (∂ log p(y|x)/∂θ)², for y in 0, 1. Returns float32[d].

    model: holds the parameters at which it is taken. Raises PlanRefused where the plan predicts
    something else than a yes or no. Source: Kirkpatrick et al. 2017; Kunstner et al. 2019 on why
    not the observed labels.
    """
    module, device = model.module, model.device
    named = dict(module.named_parameters())
    inputs = torch.from_numpy(patients.batch(None, None).inputs[0]).to(device)

    def loss_of(
        values: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        outputs = torch.func.functional_call(module, values, (row[None],))
        return plan.loss_sum(outputs, label[None], arguments)

    each = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))
    total = torch.zeros_like(model.values)
    detached = {name: one.detach() for name, one in named.items()}
    with torch.no_grad():
        positive = torch.sigmoid(plan.log_odds(module(inputs)))
    for label, chance in ((0.0, 1.0 - positive), (1.0, positive)):
        for start in range(0, len(inputs), PIECE):
            rows = inputs[start : start + PIECE]
            labels = torch.full((len(rows),), label, device=device)
            gradients = each(detached, rows, labels)
            flat = torch.cat([g.reshape(len(rows), -1) for g in gradients.values()], dim=1)
            total += (chance[start : start + PIECE, None] * flat**2).sum(dim=0)
    return total / len(inputs)
