"""How good a researcher's model is on patients it was not trained on. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from p2pfl.learning.datasets.patients import Batch, Patients
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.scoring import Score, score

if TYPE_CHECKING:
    from p2pfl.learning.plans.code import CodePlan

ROWS_AT_ONCE: Final = 4096
"""Of a table; what a text measures is a mean over such batches, weighed by patients."""


@torch.no_grad()
def code_score(
    plan: CodePlan, module: torch.nn.Module, on: Patients, arguments: Arguments
) -> Score:
    """Loss and measures; `accuracy` is the first measure within 0 to 1 where there is no yes or no.

    Raises PlanRefused."""
    device = next(module.parameters()).device
    loss, odds = 0.0, []
    sums: dict[str, float] = dict.fromkeys(plan.measures, 0.0)
    for batch in batches(on, plan.batch_default or ROWS_AT_ONCE):
        outputs = module(*(torch.from_numpy(part).to(device) for part in batch.inputs))
        target = torch.from_numpy(batch.target).to(device)
        loss += float(plan.losses(outputs, target, arguments).sum())
        for name, value in plan.metrics(outputs, target).items():
            sums[name] += value * len(target)
        if plan.predicts:
            odds.append(plan.log_odds(outputs).cpu().numpy())
    measures = {name: round(value / on.size, 4) for name, value in sums.items()}
    if plan.predicts:
        found = score(np.concatenate(odds), on.labels)
        return Score(found.auc, found.accuracy, loss / on.size, on.size, measures)
    return Score(None, _headline(plan.measures, measures), loss / on.size, on.size, measures)


def batches(on: Patients, size: int) -> Iterator[Batch]:
    """All patients, a few at a time, in their order."""
    for start in range(0, on.size, size):
        yield on.batch(np.arange(start, min(on.size, start + size)), None)


def _headline(ranges: Mapping[str, tuple[float, float]], measures: Mapping[str, float]) -> float:
    for name, bounds in ranges.items():
        if bounds == (0.0, 1.0):
            return measures[name]
    return 0.0


def part_of(outputs: Any, one: slice) -> Any:
    """Some patients of a model's outputs, whether those are a tensor or several."""
    if isinstance(outputs, torch.Tensor):
        return outputs[one]
    if isinstance(outputs, Mapping):
        return {name: part_of(value, one) for name, value in outputs.items()}
    parts = [part_of(value, one) for value in outputs]
    return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
