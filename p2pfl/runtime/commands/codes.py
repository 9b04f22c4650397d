"""Codes: the only words people may put on record, because free text hides personal data."""

from __future__ import annotations

from ledger.provenance.fields import is_code
from p2pfl.runtime.errors import EXIT_USAGE, OperatorError


def checked_code(text: str) -> str:
    """`text` if the ledger takes it. Raises OperatorError."""
    if not is_code(text):
        raise OperatorError(
            f'"{text[:80]}" is not a code.',
            fix="Give a short code without spaces, like not-our-patients: at most 96 letters A to "
            "Z, digits and _.:/+()=-, a letter or digit first. Sentences could hold personal data, "
            "and what is on record stays.",
            exit_code=EXIT_USAGE,
        )
    return text


def check_reason(text: str) -> None:
    """Raises OperatorError unless `text` is empty, or the ledger takes it."""
    if text:
        checked_code(text)
