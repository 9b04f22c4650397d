"""The pre-shared key of a private network: its file, and the cipher that covers every connection.

A second wall around Noise, for a consortium that wants its ports to be silent to strangers: without
the key not one byte makes sense, so nobody outside learns even that libp2p is spoken there. It
proves nothing about who speaks; that is what Noise and the roster do inside.

The file is go-libp2p's `swarm.key`. The cipher is XSalsa20: each side sends a random nonce of 24
bytes, and then its bytes combined with the stream of key and nonce.
Source: libp2p specs, pnet/Private-Networks-PSK-V1; Bernstein 2011, Extending the Salsa20 nonce.
"""

import hashlib
import re
import struct
from typing import Final

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
FILE_BYTES_MAX: Final = 1024
_HEADER: Final = "/key/swarm/psk/1.0.0/"
_FILE: Final = re.compile(rf"{re.escape(_HEADER)}\r?\n/base16/\r?\n([0-9a-fA-F]{{64}})\s*")
_CONSTANTS: Final = struct.unpack("<4I", b"expand 32-byte k")
_WORD: Final = 0xFFFFFFFF
_DOUBLE_ROUNDS: Final = 10
_QUARTERS: Final = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)
"""Four columns, then four rows, of Salsa20's sixteen words."""


class NetworkKeyGarbled(ValueError):
    """A file is no network key."""


def render_network_key(key: bytes) -> bytes:
    """The file's content. key: 32 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a network key has {KEY_BYTES} bytes, got {len(key)}")
    return f"{_HEADER}\n/base16/\n{key.hex()}\n".encode("ascii")


def parse_network_key(content: bytes) -> bytes:
    """The 32 bytes of a file's content. Raises NetworkKeyGarbled."""
    found = None
    if len(content) <= FILE_BYTES_MAX and content.isascii():
        found = _FILE.fullmatch(content.decode("ascii"))
    if found is None:
        raise NetworkKeyGarbled(f'expected three lines: "{_HEADER}", "/base16/" and 64 hex digits')
    return bytes.fromhex(found[1])


def network_fingerprint(key: bytes) -> str:
    """Eight hex digits by which people compare keys without showing them."""
    return hashlib.sha256(b"p2pfl network key\0" + key).hexdigest()[:8]


def salsa20_parts(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """Key (32 bytes) and nonce (8 bytes) of the Salsa20 stream that is XSalsa20's.

    key: 32 bytes; nonce: 24 bytes."""
    return hsalsa20(key, nonce[:16]), nonce[16:]


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """32 bytes that look random to whoever does not know the key.

    key: 32 bytes; nonce: 16 bytes. Once per connection and direction, so plain Python will do."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    c = _CONSTANTS
    x = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    for _ in range(_DOUBLE_ROUNDS):
        for a, b, d, e in _QUARTERS:
            x[b] ^= _rotated(x[a] + x[e], 7)
            x[d] ^= _rotated(x[b] + x[a], 9)
            x[e] ^= _rotated(x[d] + x[b], 13)
            x[a] ^= _rotated(x[e] + x[d], 18)
    return struct.pack("<8I", *(x[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))


def _rotated(word: int, bits: int) -> int:
    word &= _WORD
    return ((word << bits) | (word >> (32 - bits))) & _WORD
