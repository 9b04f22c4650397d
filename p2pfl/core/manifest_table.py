"""Strict reading of one TOML table: every key is known, every value has a type and a range.

Shared by the study manifest, `config.toml` and `policy.toml`. Knows nothing of what the keys
mean. A typing mistake is answered with the nearest known key before anything is called missing.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from p2pfl.core.errors import MissingKey, NotToml, OutOfRange, UnknownKey, WrongType

LINE_BYTES_MAX: Final = 2048
"""Parsing a dotted key takes time quadratic in its dots (10 s for 48 kB): lines are bounded."""

Scalar = bool | int | float | str
Number = int | float

_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_toml(raw: bytes, *, bytes_max: int) -> dict[str, object]:
    """Parse bounded TOML bytes. Raises NotToml and nothing else."""
    if len(raw) > bytes_max:
        raise NotToml("", f"the document has {len(raw)} bytes, at most {bytes_max} are allowed")
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if len(line) > LINE_BYTES_MAX:
            raise NotToml(
                "",
                f"line {number} has {len(line)} bytes, at most {LINE_BYTES_MAX} are allowed: "
                "break long lists over several lines",
            )
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotToml("", f"byte {error.start} is not UTF-8 text") from None
    except RecursionError:
        raise NotToml("", "the document is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and Python's bound on digits of an integer
        raise NotToml("", f"the document is not TOML: {str(error)[:200]}") from None


class Table:
    """One table of a document and the only keys it may hold.

    Raises UnknownKey on construction if `values` holds another key than `known`.
    """

    __slots__ = ("_values", "path")

    def __init__(self, values: Mapping[str, object], path: str, known: Sequence[str]) -> None:
        for key in values:
            if key not in known:
                nearest = difflib.get_close_matches(key[:80], known, n=1, cutoff=0.5)
                raise UnknownKey(_join(path, key[:80]), nearest=nearest[0] if nearest else "")
        self._values = values
        self.path = path

    def at(self, key: str) -> str:
        """The dotted name of `key`, for error messages."""
        return _join(self.path, key)

    def has(self, key: str) -> bool:
        """Whether the key was written."""
        return key in self._values

    def value(self, key: str) -> object:
        """The raw value. Raises MissingKey."""
        try:
            return self._values[key]
        except KeyError:
            raise MissingKey(self.at(key), "is missing: it has to be written") from None

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number in low…high."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongType(self.at(key), expected="a whole number", actual=value)
        if not low <= value <= high:
            raise OutOfRange(self.at(key), expected=f"{low} to {high}", actual=value)
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number in low…high."""
        return _number(self.value(key), self.at(key), low, high)

    def numbers(
        self, key: str, *, count_min: int, count_max: int, bound: float
    ) -> tuple[float, ...]:
        """A list of finite numbers with |x| ≤ bound."""
        values = self._list(key, count_min, count_max)
        return tuple(
            _number(value, f"{self.at(key)}[{index}]", -bound, bound)
            for index, value in enumerate(values)
        )

    def text(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """A string that matches `pattern` as a whole; `expected` says so in words."""
        value = self.value(key)
        if not isinstance(value, str):
            raise WrongType(self.at(key), expected="a string", actual=value)
        if pattern.fullmatch(value) is None:
            raise OutOfRange(self.at(key), expected=expected, actual=value)
        return value

    def texts(
        self, key: str, pattern: re.Pattern[str], expected: str, *, count_max: int
    ) -> tuple[str, ...]:
        """A list of strings that each match `pattern`."""
        found = []
        for index, value in enumerate(self._list(key, 0, count_max)):
            place = f"{self.at(key)}[{index}]"
            if not isinstance(value, str):
                raise WrongType(place, expected="a string", actual=value)
            if pattern.fullmatch(value) is None:
                raise OutOfRange(place, expected=expected, actual=value)
            found.append(value)
        return tuple(found)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of the strings in `choices`."""
        value = self.value(key)
        if not isinstance(value, str):
            raise WrongType(self.at(key), expected="a string", actual=value)
        if value not in choices:
            raise OutOfRange(self.at(key), expected="one of " + ", ".join(choices), actual=value)
        return value

    def boolean(self, key: str) -> bool:
        """true or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise WrongType(self.at(key), expected="true or false", actual=value)
        return value

    def digest(self, key: str) -> bytes:
        """64 lower-case hex digits, as 32 bytes."""
        return bytes.fromhex(self.text(key, _DIGEST, "64 lower-case hex digits"))

    def digests(self, key: str, *, count_min: int, count_max: int) -> tuple[bytes, ...]:
        """A list of 32-byte digests."""
        values = self.texts(key, _DIGEST, "64 lower-case hex digits", count_max=count_max)
        if len(values) < count_min:
            raise OutOfRange(
                self.at(key), expected=f"{count_min} entries or more", actual=len(values)
            )
        return tuple(bytes.fromhex(value) for value in values)

    def moment_s(self, key: str) -> int:
        """A date-time with time zone and whole seconds, as unix seconds."""
        value = self.value(key)
        if not isinstance(value, datetime):
            raise WrongType(
                self.at(key), expected="a date-time like 2030-01-31T00:00:00Z", actual=value
            )
        if value.tzinfo is None:
            raise OutOfRange(
                self.at(key), expected='a time zone ("Z" for UTC)', actual=value.isoformat()
            )
        if value.microsecond:
            raise OutOfRange(self.at(key), expected="whole seconds", actual=value.isoformat())
        return int(value.timestamp())

    def scalars(self, key: str, names: re.Pattern[str], *, count_max: int) -> dict[str, Scalar]:
        """A table of free keys (matching `names`) with numbers, booleans or short strings."""
        found: dict[str, Scalar] = {}
        for name, value in self._mapping(key, names, count_max).items():
            place = _join(self.at(key), name)
            if isinstance(value, str):
                if len(value) > 64 or not value.isprintable():
                    raise OutOfRange(place, expected="at most 64 printable signs", actual=value)
                found[name] = value
            elif isinstance(value, bool):
                found[name] = value
            elif isinstance(value, int):
                found[name] = int(_number(value, place, -1e9, 1e9))
            else:
                found[name] = _number(value, place, -1e9, 1e9)
        return found

    def ranges(
        self, key: str, names: re.Pattern[str], *, count_max: int
    ) -> dict[str, tuple[float, float]]:
        """A table of free keys, each a pair [low, high] with low ≤ high."""
        found: dict[str, tuple[float, float]] = {}
        for name, value in self._mapping(key, names, count_max).items():
            place = _join(self.at(key), name)
            if not isinstance(value, list) or len(value) != 2:
                raise WrongType(place, expected="a pair [low, high]", actual=value)
            low, high = (_number(bound, place, -1e9, 1e9) for bound in value)
            if low > high:
                raise OutOfRange(place, expected="low before high", actual=value)
            found[name] = (low, high)
        return found

    def index_pairs(self, key: str, last: int, *, count_max: int) -> tuple[tuple[int, int], ...]:
        """A list of pairs of whole numbers in 0…last."""
        found = []
        for index, pair in enumerate(self._list(key, 1, count_max)):
            place = f"{self.at(key)}[{index}]"
            match pair:
                case [int(first), int(second)] if {type(first), type(second)} == {int}:
                    pass
                case _:
                    raise WrongType(place, expected="a pair of whole numbers", actual=pair)
            if not (0 <= first <= last and 0 <= second <= last):
                raise OutOfRange(place, expected=f"0 to {last}", actual=pair)
            found.append((first, second))
        return tuple(found)

    def table(self, key: str, known: Sequence[str]) -> Table:
        """The sub-table under `key`, with its own known keys. Raises MissingKey."""
        if not self.has(key):
            raise MissingKey(f"section [{self.at(key)}]", "is missing: it has to be written")
        value = self.value(key)
        if not isinstance(value, dict):
            raise WrongType(self.at(key), expected=f"a table [{self.at(key)}]", actual=value)
        return Table(value, self.at(key), known)

    def rows(
        self, key: str, *, count_min: int, count_max: int
    ) -> tuple[tuple[str, dict[str, object]], ...]:
        """An array of tables, each with the dotted name of its place."""
        found = []
        for index, value in enumerate(self._list(key, count_min, count_max)):
            place = f"{self.at(key)}[{index}]"
            if not isinstance(value, dict):
                raise WrongType(place, expected=f"a table [[{self.at(key)}]]", actual=value)
            found.append((place, value))
        return tuple(found)

    def _list(self, key: str, count_min: int, count_max: int) -> list[object]:
        value = self.value(key)
        if not isinstance(value, list):
            raise WrongType(self.at(key), expected="a list", actual=value)
        if not count_min <= len(value) <= count_max:
            expected = f"{count_min} to {count_max} entries"
            raise OutOfRange(self.at(key), expected=expected, actual=len(value))
        return value

    def _mapping(self, key: str, names: re.Pattern[str], count_max: int) -> dict[str, object]:
        value = self.value(key)
        if not isinstance(value, dict):
            raise WrongType(self.at(key), expected="a table { name = value }", actual=value)
        if len(value) > count_max:
            expected = f"at most {count_max} entries"
            raise OutOfRange(self.at(key), expected=expected, actual=len(value))
        for name in value:
            if names.fullmatch(name) is None:
                raise OutOfRange(
                    self.at(key), expected="names of a-z, 0-9 and _ (at most 40)", actual=name
                )
        return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _number(value: object, place: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongType(place, expected="a number", actual=value)
    if isinstance(value, float) and not math.isfinite(value):
        raise OutOfRange(place, expected="a finite number", actual=value)
    if not low <= value <= high:
        raise OutOfRange(place, expected=f"{low:g} to {high:g}", actual=value)
    return float(value)
