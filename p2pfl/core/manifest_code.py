"""Reading [code]: a training plan that a researcher wrote, as text inside the manifest.

Responsible for the shape of the section and of the text: what people read has to be what runs. The
text is never run, compiled or parsed as Python here; that is for a confined process to do. Its
SHA-256 stands beside it on purpose: it is what people compare and what the ledger names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from gossip.identifiers import Digest
from p2pfl.core.errors import Inconsistent, MissingKey, OutOfRange, WrongType
from p2pfl.core.manifest_table import Table

CODE_PLAN: Final = "code"
"""[plan] name of a study that brings its own text."""
TEXT_BYTES_MAX: Final = 24 * 1024
LINE_CHARACTERS_MAX: Final = 120
"""What lies further to the right is not seen in an editor that does not wrap."""
LINES_MAX: Final = 1000
"""Nobody reads more with care, and differences are found in time."""
PACKAGES_MAX: Final = 32
METRICS_MAX: Final = 16
OUTSIDE_PARAMETERS_MAX: Final = 1_000_000
"""Of a model whose gradients are computed patient by patient: each is carried between processes."""

Gradients = Literal["", "outside", "inside"]
"""Where a single patient's gradient is clipped; "" where none is: no privacy, or whole updates."""

_KEYS: Final = ("text", "sha256", "gradients", "packages", "metrics")
_PACKAGE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,39}")
_METRIC: Final = re.compile(r"[a-z0-9_]{1,40}")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class CodeTerms:
    """[code]: the text every site runs, confined, and what it may say of itself.

    text: ASCII, at most 24 KiB in 1,000 lines of 120 characters, each ended by a line feed.
    """

    text: str
    sha256: Digest
    packages: Mapping[str, str]
    """Third-party packages it imports, and the version of each that the proposer has."""
    gradients: Gradients = ""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What it may report of a model on patients: names and ranges. It stays at the site."""

    @property
    def is_enforced(self) -> bool:
        """Whether the node itself, and not this text, keeps the study's privacy terms."""
        return self.gradients != "inside"


def text_problem(text: str) -> str:
    """Why a plan's text is refused, beginning with its line, or nothing.

    Letters outside ASCII can be read in another order than they run, or look like others; control
    characters can hide text from whoever shows it.

    >>> text_problem("x = 1\\n"), text_problem("x = 1\\ny = 2")
    ('', 'line 2: the last line has no end: end the file with a line feed')
    """
    if not text.strip():
        return "line 1: the text is empty"
    if len(text) > TEXT_BYTES_MAX:
        return f"line 1: the text has {len(text)} characters, at most {TEXT_BYTES_MAX} are allowed"
    if text.count("\n") > LINES_MAX:
        return f"line {LINES_MAX + 1}: the text has more than {LINES_MAX} lines"
    for number, line in enumerate(text.split("\n"), start=1):
        problem = _line_problem(line)
        if problem:
            return f"line {number}: {problem}"
    if not text.endswith("\n"):
        number = text.count("\n") + 1
        return f"line {number}: the last line has no end: end the file with a line feed"
    return ""


def _line_problem(line: str) -> str:
    shown = _PRINTABLE.match(line)
    assert shown is not None, "the empty match always succeeds"
    if shown.end() < len(line):
        return (
            f"character {shown.end() + 1} is U+{ord(line[shown.end()]):04X}; only printable ASCII "
            "is allowed, so that everybody reads what runs: indent by spaces, write other letters "
            "as \\u escapes"
        )
    if len(line) > LINE_CHARACTERS_MAX:
        return f"has {len(line)} characters, at most {LINE_CHARACTERS_MAX} are allowed: break it"
    if "'''" in line:
        return "three single quotes in a row end the text in a manifest: use three double quotes"
    return ""


def text_digest(text: str) -> Digest:
    """The SHA-256 that names a text."""
    return Digest(hashlib.sha256(text.encode("ascii")).digest())


def read_code(root: Table, plan: str, parameters: int, needs_gradients: bool) -> CodeTerms | None:
    """The section, which goes with plan "code" and with nothing else. Raises ManifestError.

    parameters: d of the study; needs_gradients: whether single patients' gradients are clipped.
    """
    if plan != CODE_PLAN:
        if root.has("code"):
            raise Inconsistent("code", f'goes with plan.name = "{CODE_PLAN}", not "{plan}"')
        return None
    table = root.table("code", _KEYS)
    text = _text(table)
    digest = Digest(table.digest("sha256"))
    if digest != text_digest(text):
        raise Inconsistent(
            table.at("sha256"), f"is not the text's, which is {text_digest(text).hex()}"
        )
    return CodeTerms(
        text=text,
        sha256=digest,
        packages=read_packages(table),
        gradients=_gradients(table, parameters, needs_gradients),
        metrics=(
            table.ranges("metrics", _METRIC, count_max=METRICS_MAX) if table.has("metrics") else {}
        ),
    )


def _text(table: Table) -> str:
    text = table.value("text")
    if not isinstance(text, str):
        raise WrongType(table.at("text"), expected="a string", actual=text)
    problem = text_problem(text)
    if problem:
        raise Inconsistent(table.at("text"), f"is refused: {problem}")
    return text


def read_packages(table: Table) -> dict[str, str]:
    """Third-party packages by the names they are imported with. Raises ManifestError."""
    value = table.value("packages")
    place = table.at("packages")
    if not isinstance(value, dict):
        raise WrongType(place, expected='a table { torch = "2.13.0" }', actual=value)
    if len(value) > PACKAGES_MAX:
        expected = f"at most {PACKAGES_MAX} packages"
        raise OutOfRange(place, expected=expected, actual=len(value))
    versions = Table(value, place, tuple(value))
    for name in value:
        if _PACKAGE.fullmatch(name) is None:
            raise OutOfRange(place, expected="names as they are imported", actual=name)
    return {name: versions.text(name, _VERSION, 'a version like "2.13.0"') for name in value}


def _gradients(table: Table, parameters: int, needed: bool) -> Gradients:
    if not needed:
        if table.has("gradients"):
            raise Inconsistent(
                table.at("gradients"),
                "means nothing where no single patient's gradient is clipped: without privacy, "
                'or with unit = "site"',
            )
        return ""
    if not table.has("gradients"):
        raise MissingKey(
            table.at("gradients"),
            'is missing: write "outside" (the node clips each patient\'s gradient outside the '
            "code's reach) or \"inside\" (the code's own process does, which most sites refuse)",
        )
    chosen = cast(Gradients, table.choice("gradients", ("outside", "inside")))
    if chosen == "outside" and parameters > OUTSIDE_PARAMETERS_MAX:
        raise Inconsistent(
            table.at("gradients"),
            f'is "outside", for models of up to {OUTSIDE_PARAMETERS_MAX} parameters; this one has '
            f'{parameters}: write unit = "site" in [privacy], or make the model smaller',
        )
    return chosen
