"""Codes: the only words people may put on record, because free text hides personal data."""

from __future__ import annotations

import re
from typing import Final

from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+()=-]{0,95}")


def checked_code(text: str) -> str:
    """`text` if the ledger takes it. Raises OperatorError."""
    if _CODE.fullmatch(text) is None:
        raise OperatorError(
            f'"{text[:80]}" is not a code.',
            fix="Give a short code without spaces, like not-our-patients; the ledger keeps no "
            "free text.",
            exit_code=EXIT_USAGE,
        )
    return text
