"""The arguments of a local round: names, ranges, defaults, and what may be steered.

Responsible for turning a manifest's free table (and a steering message's changes) into checked
values. Under differential privacy σ, the clip norm, sampling and the number of steps belong to
[privacy] and cannot be given or steered here.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from p2pfl.learning.errors import PlanRefused

Scalar = bool | int | float | str

AS_NAMED: Final = -1.0
"""Not written: `augment` says how strong."""


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
    """Over the study's training rounds: those that fall end at a hundredth."""
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
    frozen: str = "none"
    """backbone: all but the last block stays as in the study's initial model (images only)."""
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
    """mri: what `datasets.augmentation.MRI` says; each of the following overrides its part."""
    augment_flip: float = AS_NAMED
    """Chance of a flip along each axis."""
    augment_rotate: float = AS_NAMED
    """Up to so many degrees about each axis."""
    augment_zoom: float = AS_NAMED
    """Up to this share larger or smaller."""
    augment_scale: float = AS_NAMED
    """Intensities times 1 - x to 1 + x."""
    augment_shift: float = AS_NAMED
    """Intensities plus -x to x, in deviations of the volume."""
    augment_contrast: float = AS_NAMED
    """Gamma from 1 / (1 + x) to 1 + x."""
    augment_noise: float = AS_NAMED
    """Gaussian noise of up to so many deviations."""
    augment_blur: float = AS_NAMED
    """Gaussian blur of up to so many voxels."""
    augment_bias: float = AS_NAMED
    """A smooth bias field with coefficients of up to x, as coils give it."""
    precision: str = "full"
    """mixed: bfloat16 where the network gains from it."""
    clipping: str = "hooks"
    """How a patient's gradient is found under privacy; ghost is known so that it is refused."""
    latent: int = 2
    """Dimensions of what an autoencoder keeps of a patient."""
    beta: float = 1.0
    """Weight of an autoencoder's divergence from the standard normal."""
    horizon: float = 0.0
    """Survival: patients are followed up to this time, in the table's unit; agreed and public."""
    intervals: int = 10
    """Survival: equal parts of the horizon, each with a hazard of its own."""
    own: Mapping[str, Scalar] = field(default_factory=dict)
    """What a researcher's own plan knows beside these; each keeps the type of its default."""


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
    "augment_flip": Allowed(0.0, 1.0, steerable=False),
    "augment_rotate": Allowed(0.0, 180.0, steerable=False),
    "augment_zoom": Allowed(0.0, 0.5, steerable=False),
    "augment_scale": Allowed(0.0, 1.0, steerable=False),
    "augment_shift": Allowed(0.0, 5.0, steerable=False),
    "augment_contrast": Allowed(0.0, 4.0, steerable=False),
    "augment_noise": Allowed(0.0, 2.0, steerable=False),
    "augment_blur": Allowed(0.0, 5.0, steerable=False),
    "augment_bias": Allowed(0.0, 1.0, steerable=False),
    "latent": Allowed(1, 512, steerable=False),
    "beta": Allowed(0.0, 1000.0, steerable=True),
    "horizon": Allowed(1e-6, 1e9, steerable=False),
    "intervals": Allowed(1, 1000, steerable=False),
}

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "optimiser": ("sgd", "nesterov", "adam"),
    "schedule": ("constant", "cosine", "linear", "polynomial"),
    "network": ("default", "unet", "segresnet", "densenet", "resnet"),
    "norm": ("instance", "group", "batch"),
    "loss": (
        "default",
        "dice",
        "dice-ce",
        "dice-focal",
        "tversky",
        "dice-batch",
        "logistic",
        "focal",
        "partial",
        "piecewise",
        "gaussian",
        "bernoulli",
    ),
    "augment": ("none", "mri"),
    "precision": ("full", "mixed"),
    "clipping": ("hooks", "ghost"),
    "correction": ("none", "quasi-global", "control"),
    "at_home": ("none", "norm", "threshold", "head"),
    "frozen": ("none", "backbone"),
}
"""Arguments that are words; none of them can be steered."""

TRAINING: Final = frozenset(
    {
        "learning_rate",
        "local_steps",
        "momentum",
        "momentum_reset",
        "weight_decay",
        "batch_size",
        "optimiser",
        "schedule",
        "warmup_rounds",
        "proximal",
        "clipping",
        "correction",
        "at_home",
    }
)
"""What every plan knows."""

AUGMENTING: Final = frozenset(name for name in ALLOWED if name.startswith("augment_")) | {"augment"}

_NETWORK: Final = frozenset({"network", "width", "levels", "blocks", "norm", "dropout"})

IMAGING: Final = TRAINING | AUGMENTING | _NETWORK | {"frozen", "loss", "precision"}
"""What the plans for images know."""

TABULAR: Final = TRAINING | {"hidden", "outputs", "consolidation", "input_norm"}
"""What the plans for tables know."""

_DEFAULTS: Final = Arguments()
_NO_WORDS: Final[Mapping[str, tuple[str, ...]]] = {}


def checked(
    written: Mapping[str, Scalar],
    known: frozenset[str] = TABULAR,
    defaults: Arguments = _DEFAULTS,
    words: Mapping[str, tuple[str, ...]] = _NO_WORDS,
) -> Arguments:
    """The manifest's arguments over the defaults. Raises PlanRefused naming the argument.

    known: the plan's own; another plan's argument would be approved and have no effect. words:
    of those that are words, what the plan takes, where it takes less than all.
    """
    own = defaults.own
    values: dict[str, Scalar] = {}
    for name, value in written.items():
        if name in own:
            values[name] = own_value(name, value, own[name])
        elif name in known:
            values[name] = _value(name, value, words)
        else:
            raise PlanRefused(f'no argument "{name}"{_nearest(name, sorted({*known, *own}))}')
    return _replaced(defaults, values)


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
        is_own = name in base.own
        value = own_value(name, change, base.own[name]) if is_own else _value(name, change)
        if isinstance(value, str) or not (is_own or ALLOWED[name].steerable):
            raise PlanRefused(f'argument "{name}" shapes the model and cannot be steered')
        if name not in ranges:
            raise PlanRefused(f'argument "{name}" has no approved range in the manifest')
        low, high = ranges[name]
        if not low <= value <= high:
            raise PlanRefused(f'argument "{name}" is {value:g}, approved are {low:g} to {high:g}')
        values[name] = value
    return _replaced(base, values)


def _replaced(base: Arguments, values: Mapping[str, Scalar]) -> Arguments:
    own = {**base.own, **{name: value for name, value in values.items() if name in base.own}}
    # Each already has its field's type, see _value.
    fields: dict[str, Any] = {name: values[name] for name in values if name not in base.own}
    return dataclasses.replace(base, **fields, own=own)


def own_value(name: str, value: Scalar, default: Scalar) -> Scalar:
    """A plan's own argument in the type of its default. Raises PlanRefused."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if type(value) is not type(default):
        raise PlanRefused(
            f'argument "{name}" is {value!r}, expected {type(default).__name__}, as its default'
        )
    return value


def _value(name: str, value: Scalar, words: Mapping[str, tuple[str, ...]] = _NO_WORDS) -> Scalar:
    """One argument in its own type and range. Raises PlanRefused."""
    if name in CHOICES:
        choices = words.get(name, CHOICES[name])
        if not isinstance(value, str) or value not in choices:
            hint = _nearest(str(value), choices)
            raise PlanRefused(
                f'argument "{name}" is {value!r}, expected one of {", ".join(choices)}{hint}'
            )
        return value
    if name not in ALLOWED:
        raise PlanRefused(f'no argument "{name}"{_nearest(name, list(ALLOWED))}')
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


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""
