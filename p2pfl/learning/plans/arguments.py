"""The arguments of a local round: names, ranges, defaults, and what may be steered.

Responsible for turning a manifest's free table (and a steering message's changes) into checked
values. Under differential privacy σ, the clip norm, sampling and the number of steps belong to
[privacy] and cannot be given or steered here.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.learning.errors import PlanRefused

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a local round of a tabular plan is run with.

    Momentum is the worker momentum of Karimireddy et al. 2021: its buffer stays in the training
    process from round to round (m ← β·m + g, θ ← θ − η·m, as torch's SGD writes it), because it
    also shrinks the honest variance an attacker hides in. `momentum_reset` forgets it each round.
    """

    learning_rate: float = 0.5
    local_steps: int = 10
    """Gradient steps per round without DP; with DP [privacy] steps_per_round counts instead."""
    momentum: float = 0.9
    momentum_reset: bool = False
    weight_decay: float = 0.0
    batch_size: int = 0
    """Patients per step without DP; 0 takes all of them."""
    hidden: int = 64
    """Hidden units (MLP only)."""
    outputs: int = 2
    """1: one logit with logistic loss; 2: two logits with cross-entropy (MLP only)."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The values an argument may take at all, whatever a manifest says."""

    low: float
    high: float
    steerable: bool


ALLOWED: Final[Mapping[str, Allowed]] = {
    "learning_rate": Allowed(1e-6, 100.0, steerable=True),
    "local_steps": Allowed(1, 10_000, steerable=True),
    "momentum": Allowed(0.0, 0.999, steerable=True),
    "momentum_reset": Allowed(0, 1, steerable=True),
    "weight_decay": Allowed(0.0, 1.0, steerable=True),
    "batch_size": Allowed(0, 1_000_000, steerable=True),
    "hidden": Allowed(1, 1_000_000, steerable=False),
    "outputs": Allowed(1, 2, steerable=False),
}

_DEFAULTS: Final = Arguments()


def checked(written: Mapping[str, Scalar]) -> Arguments:
    """The manifest's arguments over the defaults. Raises PlanRefused naming the argument."""
    return _replaced(_DEFAULTS, {name: _value(name, value) for name, value in written.items()})


def steered(
    base: Arguments,
    changes: Mapping[str, Scalar],
    ranges: Mapping[str, tuple[float, float]],
) -> Arguments:
    """Apply the proposer's changes, each inside the range every site approved.

    Raises PlanRefused for an argument without an approved range, outside it, or one that would
    change the model's shape.
    """
    values: dict[str, bool | int | float] = {}
    for name, change in changes.items():
        value = _value(name, change)
        if not ALLOWED[name].steerable:
            raise PlanRefused(f'argument "{name}" shapes the model and cannot be steered')
        if name not in ranges:
            raise PlanRefused(f'argument "{name}" has no approved range in the manifest')
        low, high = ranges[name]
        if not low <= value <= high:
            raise PlanRefused(f'argument "{name}" is {value:g}, approved are {low:g} to {high:g}')
        values[name] = value
    return _replaced(base, values)


def _replaced(base: Arguments, values: Mapping[str, bool | int | float]) -> Arguments:
    fields: dict[str, Any] = dict(values)  # each already has its field's type, see _value
    return dataclasses.replace(base, **fields)


def _value(name: str, value: Scalar) -> bool | int | float:
    """One argument in its own type and range. Raises PlanRefused."""
    if name not in ALLOWED:
        nearest = difflib.get_close_matches(name, ALLOWED, n=1)
        hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
        raise PlanRefused(f'no argument "{name}"{hint}')
    default = getattr(_DEFAULTS, name)
    if isinstance(value, str):
        raise PlanRefused(f'argument "{name}" is text, expected a number')
    if isinstance(default, int) and value != int(value):
        raise PlanRefused(f'argument "{name}" is {value:g}, expected a whole number')
    bounds = ALLOWED[name]
    if not bounds.low <= value <= bounds.high:  # refuses NaN, too
        raise PlanRefused(
            f'argument "{name}" is {value:g}, expected {bounds.low:g} to {bounds.high:g}'
        )
    if isinstance(default, bool):
        return bool(value)
    return int(value) if isinstance(default, int) else float(value)
