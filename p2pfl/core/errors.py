"""The core's named errors: what a study manifest, an event or a rule of governance can violate.

Every class names one violated rule and carries the place where it was violated, so that a
command can print it as one sentence and a test can ask for exactly that rule.
"""

from __future__ import annotations


class CoreError(Exception):
    """Base of everything the core refuses."""


class ManifestError(CoreError):
    """A TOML document of ours (study manifest, policy, configuration) breaks a rule.

    `key` is the dotted place in the document ("study.rounds"), `problem` a clause that reads
    on after it ("is 0, expected 1 to 10000").
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}" if key else problem)
        self.key = key
        self.problem = problem


class NotToml(ManifestError):
    """The bytes are too many, not UTF-8, or not TOML."""


class UnknownKey(ManifestError):
    """A key that means nothing here; `nearest` is the known key it resembles, or ""."""

    def __init__(self, key: str, *, nearest: str) -> None:
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        super().__init__(key, f"is not a known key{hint}")
        self.nearest = nearest


class MissingKey(ManifestError):
    """A key that has to be written out is not there."""


class WrongType(ManifestError):
    """The value has another type than the key asks for."""

    def __init__(self, key: str, *, expected: str, actual: object) -> None:
        super().__init__(key, f"is {type(actual).__name__}, expected {expected}")
        self.expected = expected
        self.actual = actual


class OutOfRange(ManifestError):
    """The value has the right type and lies outside what is allowed."""

    def __init__(self, key: str, *, expected: str, actual: object) -> None:
        shown = repr(actual)
        super().__init__(key, f"is {shown[:80]}, expected {expected}")
        self.expected = expected
        self.actual = actual


class Inconsistent(ManifestError):
    """Two values, each allowed alone, contradict each other."""
