"""Frames between a node and its training process: 4-byte big-endian length, one msgpack map.

Responsible for bounded, typed reading: at most 1 MiB, string keys, no extension types. Bulk data
goes by file path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Final

import msgpack

from p2pfl.learning.errors import RequestRefused

FRAME_BYTES_MAX: Final = 1 << 20
LENGTH_BYTES: Final = 4

Body = Mapping[str, object]


class StreamEnded(Exception):
    """The other side closed the stream between two frames, or inside one."""


class FrameTooLarge(RequestRefused):
    """A length field above the limit: the stream cannot be trusted any more."""


def read_frame(stream: BinaryIO) -> Body:
    """Read one frame. Blocks.

    Raises StreamEnded, FrameTooLarge, or RequestRefused if the bytes are not a msgpack map with
    string keys (the stream itself is then still in step).
    """
    length = int.from_bytes(_exactly(stream, LENGTH_BYTES), "big")
    if length > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"a frame of {length} bytes, at most {FRAME_BYTES_MAX} are allowed")
    raw = _exactly(stream, length)
    try:
        body = msgpack.unpackb(raw, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise RequestRefused(f"a frame is not msgpack ({type(error).__name__})") from None
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise RequestRefused("a frame is not a map with text keys")
    return body


def write_frame(stream: BinaryIO, body: Body) -> None:
    """Write one frame and flush it."""
    raw: bytes = msgpack.packb(body, use_bin_type=True)
    if len(raw) > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"a frame of {len(raw)} bytes, at most {FRAME_BYTES_MAX} are allowed")
    stream.write(len(raw).to_bytes(LENGTH_BYTES, "big") + raw)
    stream.flush()


def _exactly(stream: BinaryIO, count: int) -> bytes:
    raw = stream.read(count)  # a buffered stream returns less only at its end
    if len(raw) != count:
        raise StreamEnded
    return raw
