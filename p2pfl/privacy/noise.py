"""Noise that privacy can stand on: Gaussians and coin flips from a ChaCha20 key stream.

Responsible for turning a 32-byte key from the operating system into noise nobody can predict.
Must not know what the noise is added to, and never makes a key itself: keys are arguments.

Three choices, each against a known attack:

* ChaCha20 (through PyNaCl) instead of a statistical generator: whoever sees some outputs of a
  Mersenne Twister or Philox stream can compute all others and subtract the noise.
* Fast key erasure: each request replaces the key with the first 32 bytes of its own key stream,
  so a process image taken later does not give away the noise of earlier rounds.
* Every returned number is the sum of four Box-Muller draws of 53-bit uniforms, halved: the set of
  float64 values a single draw can take has holes whose position reveals what was added to it.
  Four draws push the search for them beyond 2^200 work; this is Opacus' secure mode with n = 2.

Source: Bernstein, "Fast-key-erasure random-number generators", 2017; Mironov, "On significance
of the least significant bits for differential privacy", 2012; Holohan & Braghin, "Secure random
sampling in differential privacy", 2021, section 3.
"""

from typing import Final

import numpy as np
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_aead_chacha20poly1305_ietf_KEYBYTES,
    crypto_aead_chacha20poly1305_ietf_NPUBBYTES,
)
from numpy.typing import NDArray

from p2pfl.privacy.errors import NoiseInputRefused

KEY_BYTES: Final = int(crypto_aead_chacha20poly1305_ietf_KEYBYTES)

_NONCE: Final = bytes(crypto_aead_chacha20poly1305_ietf_NPUBBYTES)  # each key is used once
_SUMMANDS: Final = 4  # 2n with n = 2
_PAIRS_PER_BLOCK: Final = 1 << 13  # 4 x 8192 pairs of float64 stay in the second-level cache
_UNIT: Final = 2.0**-53


class GaussianStream:
    """An endless stream of Gaussian noise and coin flips under one secret key.

    The same key and the same requests in the same order give the same numbers; production takes
    the key from `os.urandom(KEY_BYTES)` and never stores it, tests fix it. One stream belongs to
    one thread, and one key to one stream: two streams under one key repeat each other.

    >>> stream = GaussianStream(bytes(32))
    >>> stream.normal((2, 3), std=1.5).shape
    (2, 3)
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Start the stream. `key`: 32 secret bytes. Raises NoiseInputRefused on another length."""
        if len(key) != KEY_BYTES:
            raise NoiseInputRefused("key", expected=f"{KEY_BYTES} bytes", actual=f"{len(key)}")
        self._key = bytes(key)

    def __repr__(self) -> str:
        """Say what this is without showing the key."""
        return "GaussianStream(key=<secret>)"

    def normal(self, shape: int | tuple[int, ...], std: float) -> NDArray[np.float64]:
        """Draw independent N(0, std²) numbers.

        shape: of the result; std: standard deviation, finite and ≥ 0 (0 gives zeros, and still
        moves the stream). Returns float64[shape]. Raises NoiseInputRefused for another std.
        """
        if not (np.isfinite(std) and std >= 0.0):
            raise NoiseInputRefused("std", expected="a finite number ≥ 0", actual=repr(std))
        dimensions = (shape,) if isinstance(shape, int) else shape
        drawn = np.empty(dimensions, dtype=np.float64)
        flat = drawn.reshape(-1)
        for start in range(0, flat.size, 2 * _PAIRS_PER_BLOCK):
            block = flat[start : start + 2 * _PAIRS_PER_BLOCK]
            block[:] = self._standard_block(block.size)
        flat *= std
        return drawn

    def chosen(self, count: int, rate: float) -> NDArray[np.bool_]:
        """Flip one coin per record: the secret Poisson sample that amplification relies on.

        count ≥ 0 records; rate in [0, 1], rounded down to a multiple of 2^-53 (never samples more
        than was accounted for). Returns bool[count]. Raises NoiseInputRefused for another rate.
        """
        if not 0.0 <= rate <= 1.0:
            raise NoiseInputRefused("rate", expected="0 ≤ rate ≤ 1", actual=repr(rate))
        return self._bits53(count) < np.uint64(int(rate * 2.0**53))

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Shuffle 0 … count-1, from 64 random bits each (ties, at 2^-64, fall in index order)."""
        return np.argsort(self._words(count), kind="stable").astype(np.int64, copy=False)

    def _standard_block(self, count: int) -> NDArray[np.float64]:
        """Draw `count` standard normals, each the halved sum of four Box-Muller draws.

        The cosine and the sine of one pair never meet in one sum: r·(cos + sin) is a single draw.
        """
        pairs = (count + 1) // 2
        uniforms = self._bits53(2 * _SUMMANDS * pairs).astype(np.float64)
        uniforms += 0.5  # 0 has no logarithm; the smallest uniform is 2^-54
        uniforms *= _UNIT
        radius, angle = uniforms.reshape(2, _SUMMANDS, pairs)
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle *= 2.0 * np.pi
        drawn = np.empty((2, pairs), dtype=np.float64)
        np.einsum("sp,sp->p", radius, np.cos(angle), out=drawn[0])
        np.einsum("sp,sp->p", radius, np.sin(angle), out=drawn[1])
        drawn *= 1.0 / np.sqrt(_SUMMANDS)
        return drawn.reshape(-1)[:count]

    def _bits53(self, count: int) -> NDArray[np.uint64]:
        """Draw `count` integers below 2^53."""
        return self._words(count) >> np.uint64(11)

    def _words(self, count: int) -> NDArray[np.uint64]:
        """Draw `count` 64-bit words and replace the key.

        Encrypting zeros gives the bare key stream; the 16-byte tag at the end is left unused.
        """
        zeros = bytes(KEY_BYTES + 8 * count)
        stream = crypto_aead_chacha20poly1305_ietf_encrypt(zeros, None, _NONCE, self._key)
        self._key = stream[:KEY_BYTES]
        return np.frombuffer(stream, dtype="<u8", count=count, offset=KEY_BYTES)
