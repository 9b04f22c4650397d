"""Ed25519 by libsodium: one verifier everywhere, because libraries disagree on edge cases.

It must not know what is signed; callers separate domains by a prefix of their own.
"""

from functools import lru_cache
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign_BYTES,
    crypto_sign_PUBLICKEYBYTES,
    crypto_sign_SEEDBYTES,
)
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

PUBLIC_KEY_BYTES: Final[int] = crypto_sign_PUBLICKEYBYTES
SEED_BYTES: Final[int] = crypto_sign_SEEDBYTES
SIGNATURE_BYTES: Final[int] = crypto_sign_BYTES


def public_key_of(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return bytes(SigningKey(seed).verify_key)


def sign(seed: bytes, message: bytes) -> bytes:
    """64-byte signature (RFC 8032, pure Ed25519)."""
    return _key_of(seed).sign(message).signature


@lru_cache(maxsize=8)
def _key_of(seed: bytes) -> SigningKey:
    """Deriving a key costs as much as signing with it. A node has one seed, and holds it anyway."""
    return SigningKey(seed)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `message` under `public_key` (32 bytes). Never raises."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def is_sound_public_key(public_key: bytes) -> bool:
    """Whether the bytes are a canonical point of the prime-order group (so not of low order).

    Under a low-order key one signature can be valid for many messages.
    Source: RFC 8032 5.1.3; libsodium `crypto_core_ed25519_is_valid_point`.
    """
    return len(public_key) == PUBLIC_KEY_BYTES and crypto_core_ed25519_is_valid_point(public_key)
