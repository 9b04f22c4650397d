"""`p2pfl doctor`: is this machine fit for a node, and is the home sound? Changes nothing.

One line per check: what was found, how bad it is, what to do. Everything reads snapshots, so it
works beside a running node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from p2pfl.runtime.commands.failures import as_operator_error
from p2pfl.runtime.errors import OperatorError


class Level(Enum):
    """How bad a finding is; only `fail` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis. fix: what to do, empty where nothing is to be done."""

    name: str
    level: Level
    sentence: str
    fix: str = ""


Checks = Iterator[Check]
Examination = tuple[str, Callable[[], Checks]]
"""A name, and what yields its lines; named errors become a failed line."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was looked at."""

    checks: tuple[Check, ...]

    @property
    def worst(self) -> Level:
        """FAIL if anything failed, else WARN if anything is to be looked at."""
        levels = {check.level for check in self.checks}
        return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)


def ok(name: str, sentence: str) -> Check:
    """Nothing to do."""
    return Check(name, Level.OK, sentence)


def warn(name: str, sentence: str, fix: str) -> Check:
    """Worth a look; a node may run."""
    return Check(name, Level.WARN, sentence, fix)


def fail(name: str, sentence: str, fix: str) -> Check:
    """A node cannot run, or should not."""
    return Check(name, Level.FAIL, sentence, fix)


def failed(name: str, error: OperatorError) -> Check:
    """What another command would refuse with the same words."""
    return fail(name, error.message, error.fix)


def examine(
    examinations: Sequence[Examination], *, tell: Callable[[Check], None] = lambda check: None
) -> Diagnosis:
    """Do all of them in order; one that cannot be done is a finding, not an end.

    tell: called with every line as soon as it is known.
    """
    checks: list[Check] = []
    for name, examination in examinations:
        try:
            for check in examination():
                checks.append(check)
                tell(check)
        except Exception as error:
            known = as_operator_error(error)
            if known is None:
                raise
            checks.append(failed(name, known))
            tell(checks[-1])
    return Diagnosis(tuple(checks))
