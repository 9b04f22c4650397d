"""What can go wrong for the person at the keyboard, said in one sentence and one thing to do.

`OperatorError` ends a command without a traceback; everything else that escapes is our bug.
"""

from __future__ import annotations

from typing import Final

EXIT_REFUSED: Final = 1
"""A rule (policy, budget, roster) says no."""
EXIT_USAGE: Final = 64
EXIT_DATA: Final = 65
"""A file that was given is malformed."""
EXIT_NO_INPUT: Final = 66
"""A file, study, dataset or home that was named does not exist."""
EXIT_UNAVAILABLE: Final = 69
"""A process we depend on did not answer."""
EXIT_BUG: Final = 70
EXIT_CANNOT_CREATE: Final = 73
EXIT_IO: Final = 74
EXIT_LOCKED: Final = 75
EXIT_CONFIG: Final = 78


def as_sentence(text: str) -> str:
    """`text` with a full stop, unless it ends a sentence already.

    >>> as_sentence('did you mean "listen"?')
    'did you mean "listen"?'
    """
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


class RuntimeFault(Exception):
    """Base of everything the runtime raises on purpose."""


class OperatorError(RuntimeFault):
    """A mistake or a refusal that a person can act upon.

    message: what is wrong, one sentence. fix: what to do. exit_code: see the constants above
    and the ledger's exit codes.
    """

    def __init__(self, message: str, *, fix: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_code = exit_code


class BlobError(RuntimeFault):
    """Base: a stored or received artefact is not what it has to be."""


class BlobMissing(BlobError):
    """No blob with this digest is stored."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"blob {digest.hex()} is not stored")
        self.digest = digest


class BlobDamaged(BlobError):
    """The stored bytes no longer have the digest they are filed under."""

    def __init__(self, *, expected: bytes, actual: bytes) -> None:
        super().__init__(f"blob {expected.hex()} is damaged: its bytes hash to {actual.hex()}")
        self.expected = expected
        self.actual = actual


class NotAVector(BlobError):
    """The blob is not a safetensors file with exactly one float32 tensor called `vector`."""


class WrongLength(BlobError):
    """The vector has another number of parameters than the study."""

    def __init__(self, *, expected: int, actual: int) -> None:
        super().__init__(f"vector has {actual} parameters, expected {expected}")
        self.expected = expected
        self.actual = actual


class OutsideRange(BlobError):
    """The vector holds a value that no honest site of the study can have."""


class NotFinite(BlobError):
    """The vector holds NaN or infinity."""

    def __init__(self, *, count: int) -> None:
        super().__init__(f"vector holds {count} values that are not finite")
        self.count = count
