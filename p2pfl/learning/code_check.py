"""A researcher's text tried before anybody reads it: `python -m p2pfl.learning.code_check`.

Responsible for finding, on patients who do not exist, what would fail or mislead in a study: each
mistake is one sentence with its line. Runs the text, so it is started confined and without data.

In:  {manifest: path}
Out: {arguments: {name: default}, steerable: [name], measures: {name: [low, high]},
      parameters, tensors: [{name, shape}], has_step}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.code_lines import FILE, line_in_text
from p2pfl.learning.datasets.synthetic import synthetic_patients
from p2pfl.learning.errors import PlanRefused, RequestRefused
from p2pfl.learning.json_request import answer_request
from p2pfl.learning.plans import plan_of
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.plans.code import CodePlan
from p2pfl.learning.plans.code_declared import refused_at
from p2pfl.learning.plans.code_score import part_of

PATIENTS: Final = 6
TIED: Final = 1e-3
"""How far a patient's loss may move, relatively, when others in the batch change."""


def check_plan(plan: CodePlan, manifest: Manifest) -> dict[str, object]:
    """Try everything that a study would ask of the plan. Raises PlanRefused, PrivacyRefused."""
    arguments = plan.arguments(manifest.plan.arguments)
    plan.check(manifest.data, arguments, manifest.privacy)
    torch.manual_seed(manifest.study.seed)
    module = plan.module(manifest.data, arguments)
    batch = synthetic_patients(manifest.data, PATIENTS, 1).batch(None, None)
    inputs = tuple(torch.from_numpy(part) for part in batch.inputs)
    target = torch.from_numpy(batch.target)
    module.eval()
    outputs = module(*inputs)
    losses = plan.losses(outputs, target, arguments)
    if not bool(torch.isfinite(losses).all()):
        raise PlanRefused(f"{FILE}: the loss of an untrained model is not finite")
    if manifest.privacy.clips_patients:
        _check_alone(plan, module, inputs, target, arguments)
    _check_gradient(plan, module, inputs, target, arguments)
    with torch.no_grad():
        plan.metrics(outputs, target)
        if plan.predicts and plan.log_odds(outputs).shape != (PATIENTS,):
            raise PlanRefused(f"{FILE}: log_odds has to return one value for each patient")
    schema = plan.schema(manifest.data, arguments)
    return {
        "arguments": dict(plan.own_arguments),
        "steerable": sorted(plan.steerable),
        "measures": {name: list(pair) for name, pair in plan.measures.items()},
        "parameters": schema.parameters,
        "tensors": [{"name": one.name, "shape": list(one.shape)} for one in schema.tensors],
        "has_step": plan.has_step,
    }


@torch.no_grad()
def _check_alone(
    plan: CodePlan,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    target: torch.Tensor,
    arguments: Arguments,
) -> None:
    """A patient's loss is the same whoever else is in the batch: else no share can be clipped."""
    together = plan.losses(module(*inputs), target, arguments)
    for row in range(2):
        one = slice(row, row + 1)
        outputs = module(*(part[one] for part in inputs))
        alone = plan.losses(part_of(outputs, slice(0, 1)), target[one], arguments)
        if not np.isclose(float(alone[0]), float(together[row]), rtol=TIED, atol=TIED):
            raise PlanRefused(
                f"{FILE} line {plan.line('loss')}: a patient's loss changes with who else is in "
                "the batch: a layer or the loss computes over the batch"
            )


def _check_gradient(
    plan: CodePlan,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    target: torch.Tensor,
    arguments: Arguments,
) -> None:
    """Everything that is exchanged is also trained."""
    module.train()
    own = plan.step_loss(module, inputs, target, arguments)
    loss = plan.loss_sum(module(*inputs), target, arguments) if own is None else own
    if not loss.requires_grad:
        raise PlanRefused(f"{FILE} line {plan.line('loss')}: the loss does not depend on the model")
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, one in module.named_parameters():
        if one.requires_grad and one.grad is None:
            raise PlanRefused(
                f'{FILE} line {plan.line("model")}: the parameter "{name}" does not reach the '
                "loss: leave it out, or set requires_grad to False"
            )


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    torch.set_num_threads(1)
    return answer_request(_answered)


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    if manifest.code is None:
        raise RequestRefused("the study's plan is a shipped one: there is no text to try")
    plan: Any = plan_of(manifest)
    try:
        return check_plan(plan, manifest)
    except PlanRefused:
        raise
    except Exception as error:
        # Nobody's data is here, so what the error says may be told.
        if not line_in_text(error):
            raise PlanRefused(
                f"{FILE}: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from None
        raise refused_at(error, "fails") from None


if __name__ == "__main__":
    sys.exit(main())
