"""Hostile variants of good bytes: made where the bytes have structure, and blindly, too."""

import random
from collections.abc import Sequence
from typing import Any

import msgpack

NUMBERS = (0, 1, -1, 15, 16, 127, 128, 255, 256, 65_535, 65_536, 2**31, 2**32, 2**53, 2**63 - 1)
LENGTHS = (0, 1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 1024, 20_000)
TEXTS = ("", "\x00", "\x1b[2J", "é", "e\u0301", "\u202e", "../../etc", "9" * 400, "a" * 70_000)
DEEP = 200
CHANGES_MAX = 4
BYTES_MAX = 300_000
"""Of a variant: more than any limit of a message allows."""


class Mutator:
    """Draws variants. The same seed draws the same ones.

    corpus: good bytes, whose parts are also put into each other."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - test data
        self._corpus = corpus

    def bytes(self) -> bytes:
        """One variant of one of the corpus."""
        raw = self._rng.choice(self._corpus)
        for _ in range(self._rng.randint(1, CHANGES_MAX)):
            raw = self._structured(raw) if self._rng.random() < 0.6 else self._blind(raw)
            raw = raw[:BYTES_MAX]
        return raw

    # -- without knowing the format --------------------------------------------------------------

    def _blind(self, raw: bytes) -> bytes:
        rng, changed = self._rng, bytearray(raw)
        at = rng.randrange(len(raw) + 1)
        if raw.isascii() and rng.random() < 0.7:
            return self._relined(raw)
        match rng.randrange(7):
            case 0 if raw:
                changed[at % len(raw)] ^= 1 << rng.randrange(8)
            case 1 if raw:
                changed[at % len(raw)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del changed[at:]
            case 3:
                changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 64)))
            case 4:
                del changed[at : at + rng.choice((1, 2, 4, 64))]
            case 5:
                other = rng.choice(self._corpus)
                changed[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                changed += changed[at : at + 512]
        return bytes(changed)

    def _relined(self, raw: bytes) -> bytes:
        """Text: a line less, twice, elsewhere, or with another value."""
        rng, lines = self._rng, raw.split(b"\n")
        at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                del lines[at]
            case 1:
                lines.insert(to, lines[at])
            case 2:
                lines[at], lines[to] = lines[to], lines[at]
            case _:
                name, equals, _ = lines[at].partition(b"=")
                lines[at] = name + equals + rng.choice((*map(str.encode, TEXTS), b" 1e400", b" -1"))
        return b"\n".join(lines)

    # -- msgpack, also inside byte strings --------------------------------------------------------

    def _structured(self, raw: bytes) -> bytes:
        try:
            tree = msgpack.unpackb(raw, strict_map_key=False)
            return _packed(self._changed(tree))
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
            return self._blind(raw)

    def _changed(self, value: Any) -> Any:
        rng = self._rng
        if isinstance(value, list) and value and rng.random() < 0.9:
            at = rng.randrange(len(value))
            changed = list(value)
            if rng.random() < 0.85:
                changed[at] = self._changed(value[at])
                return changed
            return self._rearranged(changed, at)
        if isinstance(value, dict) and value and rng.random() < 0.9:
            key = rng.choice(list(value))
            if rng.random() < 0.8:
                return {**value, key: self._changed(value[key])}
            return {name: each for name, each in value.items() if name != key}
        if isinstance(value, bytes) and len(value) > 8 and rng.random() < 0.5:
            inner = self._structured(value)
            if inner != value:
                return inner
        return self._instead_of(value)

    def _rearranged(self, items: list[Any], at: int) -> list[Any]:
        match self._rng.randrange(5):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[at])
            case 2:
                items.reverse()
            case 3:
                items += items * self._rng.choice((1, 30, 300))
            case _:
                items[at] = self._nested(items[at])
        return items

    def _instead_of(self, value: Any) -> Any:
        rng = self._rng
        match value:
            case bool():
                return not value
            case int() if rng.random() < 0.8:
                return rng.choice((*NUMBERS, value + 1, value - 1, -value, rng.getrandbits(63)))
            case bytes() if rng.random() < 0.8:
                return rng.choice(
                    (
                        value[:-1],
                        value + b"\0",
                        bytes(len(value)),
                        rng.randbytes(rng.choice(LENGTHS)),
                    )
                )
            case str() if rng.random() < 0.8:
                return rng.choice((*TEXTS, value[:-1], value + value, value.upper()))
            case _:
                return rng.choice((None, True, 1.5, float("nan"), [], {}, {"a": 1}, b"", "", -1))

    def _nested(self, value: Any) -> Any:
        for _ in range(self._rng.choice((1, 3, DEEP))):
            value = [value]
        return value


def _packed(tree: Any) -> bytes:
    packed: bytes = msgpack.packb(tree, use_bin_type=True)
    return packed
