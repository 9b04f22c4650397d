"""Robust decentralized averaging: rules over float32 vectors, topologies and mixing weights.

Pure mathematics: no I/O, no clock, no randomness that is not a public seed.
"""

from p2pfl.averaging.errors import AveragingError
from p2pfl.averaging.evidence import Averaged, Evidence, Spread, Verdict
from p2pfl.averaging.packed import Halves, Model, Scaled, values_of
from p2pfl.averaging.passes import prepare
from p2pfl.averaging.registry import (
    DEFAULT_RULE,
    RULES,
    Parameter,
    Rule,
    average,
    resolve_parameters,
)
from p2pfl.averaging.running import spread_of

__all__ = [
    "DEFAULT_RULE",
    "RULES",
    "Averaged",
    "AveragingError",
    "Evidence",
    "Halves",
    "Model",
    "Parameter",
    "Rule",
    "Scaled",
    "Spread",
    "Verdict",
    "average",
    "prepare",
    "resolve_parameters",
    "spread_of",
    "values_of",
]
