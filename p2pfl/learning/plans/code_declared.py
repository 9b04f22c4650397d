"""What a researcher's text declares: its class `Plan`, looked at before anything of it is used.

Responsible for named refusals with the line in the text. Loads no torch.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.core.manifest_code import METRICS_MAX
from p2pfl.learning.code_lines import FILE, line_in_text
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import Scalar

REQUIRED: Final = ("model", "loss")
OPTIONAL: Final = ("transform", "metrics", "training_step", "log_odds")
ARGUMENTS_MAX: Final = 16
_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")
_WORDS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Declared:
    """An instance of the class, and what it says of itself."""

    instance: Any
    arguments: Mapping[str, Scalar]
    steerable: frozenset[str]
    measures: Mapping[str, tuple[float, float]]

    def has(self, name: str) -> bool:
        """Whether the class has this method."""
        return callable(getattr(self.instance, name, None))

    def method(self, name: str) -> Callable[..., Any] | None:
        """The method, or None."""
        found = getattr(self.instance, name, None)
        return found if callable(found) else None

    def line(self, name: str) -> int:
        """Where in the text the method stands; 1 where that is unknown."""
        code = getattr(getattr(type(self.instance), name, None), "__code__", None)
        return code.co_firstlineno if isinstance(code, types.CodeType) else 1

    def call(self, name: str, *given: Any) -> Any:
        """Ask a method; what it raises says where."""
        return getattr(self.instance, name)(*given)

    def checked_metrics(self, found: object) -> dict[str, float]:
        """What `metrics` returned, as it was declared: every name, in its range, four digits.

        Raises PlanRefused."""
        line = self.line("metrics")
        if not isinstance(found, Mapping):
            raise PlanRefused(f"{FILE} line {line}: metrics returned no dictionary")
        if set(found) != set(self.measures):
            declared = ", ".join(sorted(self.measures)) or "none"
            raise PlanRefused(
                f"{FILE} line {line}: metrics has to return exactly what measures declares "
                f"({declared})"
            )
        return {name: _measured(name, found[name], self.measures[name], line) for name in found}


def _measured(name: str, value: object, bounds: tuple[float, float], line: int) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # a tensor of one value converts itself
    except (TypeError, ValueError):
        raise PlanRefused(f'{FILE} line {line}: the metric "{name}" is no number') from None
    low, high = bounds
    if not low <= number <= high:  # refuses NaN, too
        raise PlanRefused(
            f'{FILE} line {line}: the metric "{name}" is not within {low:g} to {high:g}, as '
            "measures declares"
        )
    return round(number, 4)


def declared_in(module: types.ModuleType) -> Declared:
    """The `Plan` of a text that was run. Raises PlanRefused."""
    cls = module.__dict__.get("Plan")
    if not isinstance(cls, type):
        raise PlanRefused(f"{FILE}: there is no class named Plan")
    line = _line_of(cls)
    for name in REQUIRED:
        if not callable(getattr(cls, name, None)):
            raise PlanRefused(f"{FILE} line {line}: class Plan has no method {name}")
    try:
        instance = cls()
        arguments = _arguments(getattr(cls, "arguments", {}), line)
        steerable = _steerable(getattr(cls, "steerable", ()), arguments, line)
        measures = _measures(getattr(cls, "measures", {}), line)
    except PlanRefused:
        raise
    except Exception as error:
        raise refused_at(error, "class Plan cannot be made") from None
    if bool(measures) != callable(getattr(cls, "metrics", None)):
        raise PlanRefused(
            f"{FILE} line {line}: measures (names and ranges) and the method metrics go together"
        )
    return Declared(instance, arguments, steerable, measures)


def _arguments(found: object, line: int) -> dict[str, Scalar]:
    if not isinstance(found, Mapping) or len(found) > ARGUMENTS_MAX:
        raise PlanRefused(
            f"{FILE} line {line}: arguments is no dictionary of at most {ARGUMENTS_MAX}"
        )
    for name, value in found.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise PlanRefused(f"{FILE} line {line}: an argument's name is of a-z, 0-9 and _")
        if type(value) not in (bool, int, float, str):
            raise PlanRefused(
                f'{FILE} line {line}: the argument "{name}" is {type(value).__name__}, expected a '
                "number, a word, True or False"
            )
    return dict(found)


def _steerable(found: object, arguments: Mapping[str, Scalar], line: int) -> frozenset[str]:
    names = list(found) if isinstance(found, tuple | list | set | frozenset) else [None]
    for name in names:
        if not isinstance(name, str) or type(arguments.get(name)) not in (int, float):
            raise PlanRefused(
                f"{FILE} line {line}: steerable is a list of names of arguments that are numbers"
            )
    return frozenset(str(name) for name in names)


def _measures(found: object, line: int) -> dict[str, tuple[float, float]]:
    if isinstance(found, tuple | list):
        found = dict.fromkeys(found, (0.0, 1.0))
    if not isinstance(found, Mapping) or len(found) > METRICS_MAX:
        raise PlanRefused(f"{FILE} line {line}: measures is no dictionary of at most {METRICS_MAX}")
    ranges: dict[str, tuple[float, float]] = {}
    for name, pair in found.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise PlanRefused(f"{FILE} line {line}: a measure's name is of a-z, 0-9 and _")
        match pair:
            case (int() | float() as low, int() | float() as high):
                pass
            case _:
                raise PlanRefused(f'{FILE} line {line}: the measure "{name}" has no (low, high)')
        if not (math.isfinite(low) and math.isfinite(high) and -1e9 <= low < high <= 1e9):
            raise PlanRefused(f'{FILE} line {line}: the measure "{name}" needs low below high')
        ranges[name] = (float(low), float(high))
    return ranges


def _line_of(cls: type) -> int:
    """The first line of any method: a class itself does not know where it stands."""
    codes = (getattr(found, "__code__", None) for found in vars(cls).values())
    lines = [code.co_firstlineno for code in codes if isinstance(code, types.CodeType)]
    return min(lines, default=1)


def refused_at(error: BaseException, what: str) -> PlanRefused:
    """A refusal that names the error's line and says what it said. Not where patients' data is."""
    line = line_in_text(error)
    place = f"{FILE} line {line}" if line else FILE
    said = " ".join(str(error).split())[:_WORDS_MAX]
    return PlanRefused(f"{place}: {what}: {type(error).__name__}: {said}")
