"""A researcher's text on its way into a study: read, reported on, tried. Never run in this process.

Responsible for asking the two children that may look at a text: one that parses it, and a confined
one that runs it on patients who do not exist. What the second says is hearsay and checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.manifest import Manifest, Scalar
from p2pfl.core.manifest_code import METRICS_MAX, TEXT_BYTES_MAX, text_problem
from p2pfl.runtime.children import output_of, printable, run_module
from p2pfl.runtime.confined_child import run_confined
from p2pfl.runtime.errors import EXIT_DATA, OperatorError, RuntimeFault
from p2pfl.runtime.foreign_folder import temporary_folder
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.jsonable import Json, from_json
from p2pfl.runtime.policy import allowance_of

READ_S: Final = 30.0
TRIED_S: Final = 180.0
ARGUMENTS_MAX: Final = 16
NUMBER_MAX: Final = 1e300
_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")
_CORRECT: Final = "Correct the text and run the command again; docs/code-plans.md explains."


@dataclass(frozen=True, slots=True)
class Import:
    """A module that the text imports."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """Something worth a look: what kind of thing it is, its name, where it stands."""

    kind: str
    what: str
    line: int


@dataclass(frozen=True, slots=True)
class CodeReport:
    """What reading a text finds. problem: why it is no Python, or nothing."""

    problem: str
    imports: tuple[Import, ...]
    packages: tuple[str, ...]
    calls: tuple[Call, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What a text says of itself when it runs, confined; hearsay, checked for its shape."""

    arguments: Mapping[str, Scalar]
    steerable: frozenset[str]
    measures: Mapping[str, tuple[float, float]]
    parameters: int


def read_text(path: Path) -> str:
    """A plan's file as it may stand in a manifest. Raises OperatorError with the line."""
    raw = read_bounded(path, TEXT_BYTES_MAX)
    # Latin-1 gives every byte a place, so that the line of a wrong one can be named.
    problem = text_problem(raw.decode("latin-1"))
    if problem:
        raise OperatorError(f"{path.name} {problem}.", fix=_CORRECT, exit_code=EXIT_DATA)
    return raw.decode("ascii")


def report_of(text: str) -> CodeReport:
    """Parse a text, in a child, without running it. Raises OperatorError."""
    purpose = "Reading the plan's text"
    finished = run_module(
        "p2pfl.learning.code_report",
        (),
        given=json.dumps({"text": text}).encode(),
        deadline_s=READ_S,
        purpose=purpose,
    )
    if finished.code < 0:  # the parser itself can be ended by what it reads
        return CodeReport("nested too deeply to be read", (), (), (), 0)
    return from_json(CodeReport, json.loads(output_of(finished, purpose)))


def require_readable(text: str) -> CodeReport:
    """The report of a text that is Python. Raises OperatorError with the line of a mistake."""
    found = report_of(text)
    if found.problem:
        raise OperatorError(f"plan.py {found.problem}.", fix=_CORRECT, exit_code=EXIT_DATA)
    return found


@contextmanager
def confined_folders(manifest: Manifest) -> Iterator[tuple[Path, Path]]:
    """A folder with `study.toml` to be read, and an empty one to work in; both go in the end."""
    with temporary_folder("p2pfl-plan-") as directory:
        given, work = directory / "given", directory / "work"
        given.mkdir(mode=0o700)
        work.mkdir(mode=0o700)
        (given / "study.toml").write_bytes(manifest.raw)
        yield given, work


def try_text(home: Home, manifest: Manifest) -> Tried:
    """Run a study's text, confined, on patients who do not exist.

    Raises OperatorError with the line of a mistake, and where this machine cannot confine it."""
    purpose = "Trying the plan"
    with confined_folders(manifest) as (given, work):
        finished = run_confined(
            "p2pfl.learning.code_check",
            given=json.dumps({"manifest": str(given / "study.toml")}).encode(),
            read=(given,),
            work=work,
            deadline_s=TRIED_S,
            purpose=purpose,
            allowance=allowance_of(home),
        )
    if finished.code != 0:
        complaint = finished.complaint.rstrip(".")
        raise OperatorError(f"{complaint}.", fix=_CORRECT, exit_code=EXIT_DATA)
    return tried_of(finished.output)


def tried_of(output: bytes) -> Tried:
    """What a trial answered, if it is of the right shape. Raises OperatorError."""
    return _tried(answer_of(output, "Trying the plan"))


def answer_of(output: bytes, purpose: str) -> dict[str, Json]:
    """A confined child's answer as JSON. Raises OperatorError where it is none."""
    try:
        answer = json.loads(output)
        if isinstance(answer, dict):
            return answer
    except (ValueError, RecursionError):
        pass
    raise _nonsense(purpose)


def _tried(answer: Mapping[str, Json]) -> Tried:
    try:
        arguments, steerable = answer["arguments"], answer["steerable"]
        measures, parameters = answer["measures"], answer["parameters"]
        if (
            not isinstance(arguments, dict)
            or not isinstance(steerable, list)
            or not isinstance(measures, dict)
            or type(parameters) is not int
            or len(arguments) > ARGUMENTS_MAX
            or len(measures) > METRICS_MAX
        ):
            raise _nonsense("Trying the plan")
        ranges = {_name(name): _pair(pair) for name, pair in measures.items()}
        values = {_name(name): _scalar(value) for name, value in arguments.items()}
        return Tried(values, frozenset(map(str, steerable)) & values.keys(), ranges, parameters)
    except (KeyError, RuntimeFault):
        raise _nonsense("Trying the plan") from None


def _name(value: str) -> str:
    # It is written into a manifest: nothing but a name may come of it.
    if _NAME.fullmatch(value) is None:
        raise _nonsense("Trying the plan")
    return value


def _pair(value: Json) -> tuple[float, float]:
    match value:
        case [int() | float() as low, int() | float() as high]:
            return _bounded(low), _bounded(high)
        case _:
            raise _nonsense("Trying the plan")


def _scalar(value: Json) -> Scalar:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        _bounded(value)
        return value
    raise _nonsense("Trying the plan")


def _bounded(value: float) -> float:
    # JSON knows whole numbers that no float holds.
    if not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise _nonsense("Trying the plan")
    return float(value)


def _nonsense(purpose: str) -> OperatorError:
    return OperatorError(
        f"{purpose} gave an answer that makes no sense.",
        fix="The plan writes where only an answer belongs, to standard output: leave that out.",
        exit_code=EXIT_DATA,
    )
