"""Salted commitments: how an entry names a secret that can be erased later.

Responsible for: the commitment formula and the bounds of what may be kept as a secret.
Must not know: where secrets are stored.
Source: LEDGER.md, Formulas: HMAC-SHA256(salt32, "dl-ledger/commit/v1\\0" ‖ field ‖ "\\0" ‖ value).
"""

import hmac
import re
from dataclasses import dataclass

from ledger.log.errors import SecretRefused

SALT_BYTES = 32
VALUE_BYTES_MAX = 4_096
_DOMAIN = b"dl-ledger/commit/v1\0"
_is_field = re.compile(r"[a-z0-9_.]{1,64}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Secret:
    """What a commitment hides: a random salt and the value's bytes."""

    salt: bytes
    value: bytes

    def __repr__(self) -> str:
        return "Secret(…)"


def check_secret(field: str, salt: bytes, value: bytes) -> None:
    """Raises SecretRefused unless field, salt and value are within bounds."""
    if not _is_field(field):
        raise SecretRefused("field", expected="[a-z0-9_.]{1,64}", actual=field[:80])
    if len(salt) != SALT_BYTES:
        raise SecretRefused("salt", expected=SALT_BYTES, actual=len(salt))
    if len(value) > VALUE_BYTES_MAX:
        raise SecretRefused("value", expected=f"at most {VALUE_BYTES_MAX}", actual=len(value))


def commitment_of(field: str, salt: bytes, value: bytes) -> bytes:
    """The 32-byte commitment to `value` as `field`. Raises SecretRefused."""
    check_secret(field, salt, value)
    return hmac.digest(salt, _DOMAIN + field.encode() + b"\0" + value, "sha256")


def opens(commitment: bytes, field: str, salt: bytes, value: bytes) -> bool:
    """True if `commitment` was made from exactly this field, salt and value."""
    return hmac.compare_digest(commitment, commitment_of(field, salt, value))
