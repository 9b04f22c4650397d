"""TensorBoard's event files, written without TensorBoard: numbers by round, nothing else.

Responsible for the format alone: TFRecord frames around protobuf messages `Event`, each with a
`Summary` of one `simple_value`. Source: tensorflow/core/lib/io/record_writer.h,
tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto; CRC-32C: RFC 3720 B.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

_MASK_DELTA: Final = 0xA282EAD8
_POLYNOMIAL: Final = 0x82F63B78
_VERSION: Final = b"brain.Event:2"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number of one step. time_s: unix seconds."""

    tag: str
    step: int
    value: float
    time_s: float


def event_file(scalars: Iterable[Scalar], *, time_s: float) -> bytes:
    """A whole event file. time_s: of its first record, which names the format."""
    parts = [_record(_double(1, time_s) + _bytes(3, _VERSION))]
    for scalar in scalars:
        value = _bytes(1, scalar.tag.encode()) + _float(2, scalar.value)
        event = _double(1, scalar.time_s) + _varint_field(2, scalar.step)
        parts.append(_record(event + _bytes(5, _bytes(1, value))))
    return b"".join(parts)


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        rows.append(byte)
    return tuple(rows)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint_field(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value
