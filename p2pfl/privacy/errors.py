"""What privacy refuses, one class per violated rule, each with expected and actual.

Responsible for naming refusals. Must not know who asked.
"""


class PrivacyError(Exception):
    """The base of everything p2pfl.privacy refuses."""


class NoiseInputRefused(PrivacyError):
    """Noise was asked for with a key, spread or rate that gives no protection."""

    def __init__(self, what: str, *, expected: str, actual: str) -> None:
        super().__init__(f"noise {what}: expected {expected}, got {actual}")
        self.what = what
        self.expected = expected
        self.actual = actual
