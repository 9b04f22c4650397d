"""Strict, bounded msgpack: the only reader of bytes that another site wrote.

Values are arrays of known shape, integers, byte strings and text, each in its shortest encoding,
so that equal values have equal bytes. The reader follows the expected shape instead of building
whatever the bytes describe: nothing is allocated that a limit has not allowed, nothing nests.
"""

import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

import msgpack

from gossip.errors import Garbled, TooLarge

Packable: TypeAlias = "int | bytes | str | Sequence[Packable]"

_SIGNED_WIDTHS = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_UNSIGNED_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_BYTES_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXT_WIDTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY_WIDTHS = {0xDC: 2, 0xDD: 4}


def pack(value: Packable) -> bytes:
    """Encode our own value; msgpack's packer always takes the shortest form."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


class Reader:
    """Reads one value after the other. Every method raises Garbled, or TooLarge over a limit."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def array(self, length_min: int, length_max: int) -> int:
        """Enter an array; returns how many values belong to it."""
        code = self._byte()
        if 0x90 <= code <= 0x9F:
            length = code - 0x90
        else:
            length = self._length(code, _ARRAY_WIDTHS, "an array", short_max=15)
        return self._bounded(length, length_min, length_max, "array length")

    def integer(self, low: int, high: int) -> int:
        """An integer in low…high; Garbled outside."""
        value = self._integer(self._byte())
        if not low <= value <= high:
            raise Garbled("integer out of range", expected=f"{low}…{high}", actual=value)
        return value

    def blob(self, bytes_min: int, bytes_max: int) -> bytes:
        """A byte string."""
        length = self._length(self._byte(), _BYTES_WIDTHS, "a byte string", short_max=-1)
        return self._take(self._bounded(length, bytes_min, bytes_max, "bytes"))

    def text(self, bytes_min: int, bytes_max: int) -> str:
        """Printable text in UTF-8 and Unicode's NFC form; lengths are in bytes."""
        code = self._byte()
        if 0xA0 <= code <= 0xBF:
            length = code - 0xA0
        else:
            length = self._length(code, _TEXT_WIDTHS, "text", short_max=31)
        encoded = self._take(self._bounded(length, bytes_min, bytes_max, "text bytes"))
        try:
            text = encoded.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Garbled("text is not UTF-8") from error
        if not is_plain_text(text):
            raise Garbled("text is not printable NFC")
        return text

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise Garbled("bytes after the value", expected=self._at, actual=len(self._data))

    def _integer(self, code: int) -> int:
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code in _UNSIGNED_WIDTHS:
            width = _UNSIGNED_WIDTHS[code]
            value = int.from_bytes(self._take(width), "big")
            # Shortest form: it must not fit into the next smaller encoding.
            if value < (0x80 if width == 1 else 1 << (4 * width)):
                raise Garbled("integer is not in its shortest form")
            return value
        if code in _SIGNED_WIDTHS:
            width = _SIGNED_WIDTHS[code]
            value = int.from_bytes(self._take(width), "big", signed=True)
            # Non-negative integers are written unsigned.
            if value >= (-0x20 if width == 1 else -(1 << (4 * width - 1))):
                raise Garbled("integer is not in its shortest form")
            return value
        raise Garbled("not an integer", actual=f"0x{code:02x}")

    def _length(self, code: int, widths: dict[int, int], what: str, *, short_max: int) -> int:
        width = widths.get(code)
        if width is None:
            raise Garbled(f"not {what}", actual=f"0x{code:02x}")
        length = int.from_bytes(self._take(width), "big")
        smaller = [1 << (8 * other) for other in widths.values() if other < width]
        if length <= short_max or (smaller and length < smaller[-1]):
            raise Garbled(f"{what}'s length is not in its shortest form")
        return length

    def _bounded(self, length: int, low: int, high: int, what: str) -> int:
        if length > high:
            raise TooLarge(what, expected=f"at most {high}", actual=length)
        if length < low:
            raise Garbled(what, expected=f"at least {low}", actual=length)
        return length

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise Garbled("bytes end too early", expected=end, actual=len(self._data))
        taken = self._data[self._at : end]
        self._at = end
        return taken


def is_plain_text(text: str) -> bool:
    """Whether text is in NFC and free of control, format and unassigned characters.

    What cannot be seen could hide something in a terminal or make two names look alike.
    """
    return text.isprintable() and unicodedata.is_normalized("NFC", text)
