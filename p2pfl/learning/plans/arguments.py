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
    """What a local round is run with; each plan says which of these it knows.

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
    optimiser: str = "sgd"
    """Adam keeps its two buffers from round to round, as momentum is kept."""
    schedule: str = "constant"
    """Over the study's training rounds: cosine ends at a hundredth of the learning rate."""
    warmup_rounds: int = 0
    """Rounds over which the learning rate grows from a fraction to its full size."""
    proximal: float = 0.0
    """μ of FedProx: each step also pulls towards the round's base (Li et al. 2020)."""
    correction: str = "none"
    """Against drift: quasi-global (the consortium's momentum) or control (SCAFFOLD's variates)."""
    consolidation: float = 0.0
    """λ of elastic weight consolidation: how strongly training holds on to the first model."""
    at_home: str = "none"
    """Which layers are trained and used here and never leave: norm, threshold or head."""
    input_norm: bool = False
    """Scale and shift a table's columns by trained numbers first: a layer to keep at home."""
    network: str = "default"
    """Which network of the plan's family."""
    width: int = 8
    """Channels of an imaging network's first level; doubled at each level below."""
    levels: int = 3
    """Resolutions of an imaging network; the window is halved levels - 1 times."""
    blocks: int = 1
    """Residual units, or layers, of each level."""
    norm: str = "instance"
    dropout: float = 0.0
    loss: str = "default"
    augment: str = "none"
    """mri: flips, intensity shift and scale, a smooth bias field and noise, drawn each time."""
    precision: str = "full"
    """mixed: bfloat16 where the network gains from it."""


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
    "warmup_rounds": Allowed(0, 1000, steerable=False),
    "proximal": Allowed(0.0, 100.0, steerable=True),
    "consolidation": Allowed(0.0, 1e6, steerable=True),
    "input_norm": Allowed(0, 1, steerable=False),
    "width": Allowed(1, 256, steerable=False),
    "levels": Allowed(2, 6, steerable=False),
    "blocks": Allowed(0, 8, steerable=False),
    "dropout": Allowed(0.0, 0.9, steerable=False),
}

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "optimiser": ("sgd", "adam"),
    "schedule": ("constant", "cosine"),
    "network": ("default", "unet", "segresnet"),
    "norm": ("instance", "group", "batch"),
    "loss": ("default", "dice", "dice-ce", "dice-batch"),
    "augment": ("none", "mri"),
    "precision": ("full", "mixed"),
    "correction": ("none", "quasi-global", "control"),
    "at_home": ("none", "norm", "threshold", "head"),
}
"""Arguments that are words; none of them can be steered."""

TABULAR: Final = frozenset(
    {
        "learning_rate",
        "local_steps",
        "momentum",
        "momentum_reset",
        "weight_decay",
        "batch_size",
        "hidden",
        "outputs",
        "optimiser",
        "schedule",
        "warmup_rounds",
        "proximal",
        "correction",
        "consolidation",
        "at_home",
        "input_norm",
    }
)
"""What the plans for tables know."""

_DEFAULTS: Final = Arguments()


def checked(
    written: Mapping[str, Scalar],
    known: frozenset[str] = TABULAR,
    defaults: Arguments = _DEFAULTS,
) -> Arguments:
    """The manifest's arguments over the defaults. Raises PlanRefused naming the argument.

    known: the plan's own; another plan's argument would be approved and have no effect.
    """
    for name in written:
        if name not in known:
            nearest = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
            raise PlanRefused(f'no argument "{name}"{hint}')
    return _replaced(defaults, {name: _value(name, value) for name, value in written.items()})


def steered(
    base: Arguments,
    changes: Mapping[str, Scalar],
    ranges: Mapping[str, tuple[float, float]],
) -> Arguments:
    """Apply the proposer's changes, each inside the range every site approved.

    Raises PlanRefused for an argument without an approved range, outside it, or one that would
    change the model's shape.
    """
    values: dict[str, Scalar] = {}
    for name, change in changes.items():
        value = _value(name, change)
        if isinstance(value, str) or not ALLOWED[name].steerable:
            raise PlanRefused(f'argument "{name}" shapes the model and cannot be steered')
        if name not in ranges:
            raise PlanRefused(f'argument "{name}" has no approved range in the manifest')
        low, high = ranges[name]
        if not low <= value <= high:
            raise PlanRefused(f'argument "{name}" is {value:g}, approved are {low:g} to {high:g}')
        values[name] = value
    return _replaced(base, values)


def _replaced(base: Arguments, values: Mapping[str, Scalar]) -> Arguments:
    fields: dict[str, Any] = dict(values)  # each already has its field's type, see _value
    return dataclasses.replace(base, **fields)


def _value(name: str, value: Scalar) -> Scalar:
    """One argument in its own type and range. Raises PlanRefused."""
    if name in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[name]:
            choices = ", ".join(CHOICES[name])
            raise PlanRefused(f'argument "{name}" is {value!r}, expected one of {choices}')
        return value
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
