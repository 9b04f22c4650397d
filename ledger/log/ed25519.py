"""Ed25519 through one library everywhere (PyNaCl), because libraries disagree on edge cases.

Responsible for: signing, verifying, and refusing public keys that prove nothing.
Must not know: what is signed, or where keys are stored.
Source: RFC 8032; of 914 edge-case signatures PyNaCl accepts 43 and OpenSSL 208 (LEDGER.md).
"""

from functools import lru_cache
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from ledger.log.errors import KeyLengthWrong, KeyLowOrder, KeyNotCanonical, KeyNotOnCurve

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_POINTS_KEPT: Final = 4096

_PRIME = 2**255 - 19
# The y coordinates of the eight points whose order divides 8 (libsodium's own list).
_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021540
_LOW_ORDER_Y = frozenset({0, 1, _PRIME - 1, _ORDER_8_Y, _PRIME - _ORDER_8_Y})


class Signer:
    """A private key that signs. Its repr shows the public key only."""

    __slots__ = ("_secret", "public_key")

    public_key: bytes

    def __init__(self, seed: bytes) -> None:
        """seed: 32 secret bytes. Raises KeyLengthWrong."""
        if len(seed) != SEED_BYTES:
            raise KeyLengthWrong(expected=SEED_BYTES, actual=len(seed))
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`; deterministic."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Signer(public_key={self.public_key.hex()})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` is one of `message` by `public_key`; never raises."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError:
        return False
    return True


def admit_public_key(public_key: bytes) -> bytes:
    """Return `public_key` if it may be trusted to identify its holder.

    Raises: KeyLengthWrong, KeyNotCanonical, KeyLowOrder, KeyNotOnCurve.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise KeyLengthWrong(expected=PUBLIC_KEY_BYTES, actual=len(public_key))
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _PRIME:
        raise KeyNotCanonical(actual=public_key)
    if y in _LOW_ORDER_Y:
        raise KeyLowOrder(actual=public_key)
    if not _is_on_curve(public_key):
        raise KeyNotOnCurve(actual=public_key)
    return public_key


@lru_cache(maxsize=_POINTS_KEPT)
def _is_on_curve(public_key: bytes) -> bool:
    """Costs as much as verifying a signature, and the same few keys are named in every head."""
    return bool(crypto_core_ed25519_is_valid_point(public_key))
