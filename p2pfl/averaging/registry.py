"""The one list of averaging rules, and the one way to call them by name.

A new rule is a function in `rules.py` and a row in RULES; the shared tests then run on it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from p2pfl.averaging import rules
from p2pfl.averaging.errors import ParameterOutOfRange, UnknownParameter, UnknownRule
from p2pfl.averaging.evidence import Averaged
from p2pfl.averaging.inputs import Neighbours, Vector
from p2pfl.averaging.packed import Model

DEFAULT_RULE = "gm_clip"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A rule's parameter and its inclusive range. An int default means: whole numbers only."""

    name: str
    default: float | int
    minimum: float | int
    maximum: float | int


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule.

    needs_byzantine_share: it takes the share of hostile weight that the study declares as
    `byzantine`; the others need no such number.
    """

    name: str
    function: Callable[..., Averaged]
    parameters: tuple[Parameter, ...]
    needs_byzantine_share: bool
    summary: str


_BYZANTINE = Parameter("byzantine", rules.BYZANTINE, 0.0, 0.49)
_STEPS = Parameter("steps", rules.STEPS, 1, 64)
_QUANTILE = Parameter("quantile", rules.QUANTILE, 0.1, 0.5)
_MEDIAN_STEPS = Parameter("steps", rules.STEPS_CONVERGED, 1, 1000)
_CLIPPING_STEPS = Parameter("steps", rules.CLIPPING_STEPS, 1, 64)
_RADIUS = Parameter("radius", 0.0, 0.0, 1e30)
_AFTER_MIXING = "nnm+"


def _plain(name: str, summary: str, *parameters: Parameter) -> Rule:
    function: Callable[..., Averaged] = getattr(rules, name)
    return Rule(name, function, parameters, _BYZANTINE in parameters, summary)


_ROWS = (
    _plain("gossip", "weighted mean, no defence"),
    _plain("mean", "plain mean per coordinate, weights ignored; for exact sums"),
    _plain("gm_clip", "clip around the geometric median", _STEPS, _QUANTILE),
    _plain("cs_plus", "clip around the own model", _BYZANTINE),
    _plain("cs_redescending", "cs_plus that ignores the very far; for sparse graphs", _BYZANTINE),
    _plain("clipped_gossip", "clip at a radius from the spread", _BYZANTINE, _RADIUS),
    _plain("nna", "mean of the models nearest to the own one", _BYZANTINE),
    _plain("trimmed_mean", "mean without the ends, per coordinate", _BYZANTINE),
    _plain("median", "median per coordinate, weights ignored"),
    _plain("geometric_median", "point nearest to all models together", _MEDIAN_STEPS),
    _plain("krum", "the most central model, weights ignored", _BYZANTINE),
    _plain("multi_krum", "mean of the most central models", _BYZANTINE),
    _plain(
        "centered_clipping",
        "clip around a centre that moves",
        _BYZANTINE,
        _RADIUS,
        _CLIPPING_STEPS,
    ),
    _plain("nnm", "mix with the nearest, then trimmed_mean", _BYZANTINE),
)


def _mixed(row: Rule) -> Rule:
    """The same rule after nearest-neighbour mixing; both take the one declared share."""
    own_parameters = tuple(p for p in row.parameters if p != _BYZANTINE)
    return Rule(
        _AFTER_MIXING + row.name,
        rules.after_mixing(row.name, row.needs_byzantine_share),
        (_BYZANTINE, *own_parameters),
        True,
        f"mix with the nearest, then {row.name}",
    )


RULES: Mapping[str, Rule] = MappingProxyType(
    {row.name: row for row in (*_ROWS, *(_mixed(row) for row in _ROWS if row.name != "nnm"))}
)
"""The fourteen rules, then nnm+RULE for each of the others."""


def average(
    rule: str, own: Model, neighbours: Neighbours, weights: Vector, **parameters: float
) -> Averaged:
    """Run a rule by name; parameters that are not given take their defaults.

    own: float32[d]. neighbours: float32[m, d], or m models float32[d]. weights: float32[m].
    Raises: UnknownRule, UnknownParameter, ParameterOutOfRange and those of `check_inputs`.

    >>> import numpy as np
    >>> own, weights = np.zeros(1, dtype=np.float32), np.full(2, 0.25, dtype=np.float32)
    >>> average("median", own, np.array([[1.0], [9.0]], dtype=np.float32), weights).value
    array([1.], dtype=float32)
    """
    resolved = resolve_parameters(rule, parameters)
    return RULES[rule].function(own, neighbours, weights, **resolved)


def resolve_parameters(
    rule: str, parameters: Mapping[str, object], *, byzantine: float | None = None
) -> dict[str, float]:
    """Check parameters and fill in defaults: what a manifest's table means for a rule.

    byzantine: the study's declared share; used by rules that need one and did not get their own,
    ignored by the others.
    Raises: UnknownRule, UnknownParameter, ParameterOutOfRange.

    >>> resolve_parameters("cs_plus", {}, byzantine=0.1)
    {'byzantine': 0.1}
    """
    row = RULES.get(rule)
    if row is None:
        raise UnknownRule(rule, tuple(RULES))
    given = dict(parameters)
    if byzantine is not None and row.needs_byzantine_share:
        given.setdefault("byzantine", byzantine)
    known = {parameter.name: parameter for parameter in row.parameters}
    for name in given:
        if name not in known:
            raise UnknownParameter(rule, name, tuple(known))
    return {
        name: _checked(rule, parameter, given.get(name, parameter.default))
        for name, parameter in known.items()
    }


def _checked(rule: str, parameter: Parameter, value: object) -> float:
    whole = isinstance(parameter.default, int)
    kind = "a whole number" if whole else "a number"
    expected = f"{kind} in {parameter.minimum}…{parameter.maximum}"
    allowed = int if whole else (int, float)
    # bool is an int to Python; as a parameter it can only be a mistake.
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise ParameterOutOfRange(rule, parameter.name, expected, value)
    if not math.isfinite(value) or not parameter.minimum <= value <= parameter.maximum:
        raise ParameterOutOfRange(rule, parameter.name, expected, value)
    return value
