"""Length-prefixed msgpack frames between the node and its training process.

Bulk data goes by file path; a frame is a small map. The training process is trusted less than the
node: sizes are checked before bytes are read, and nothing but maps with text keys is accepted."""

import asyncio
from typing import Any, Final

import msgpack

FRAME_BYTES_MAX: Final = 1 << 20
_LENGTH_BYTES: Final = 4


class FrameError(Exception):
    """The other end does not keep to the frame format, or is gone."""


def encode_frame(message: dict[str, Any]) -> bytes:
    """One frame: 4 bytes of big-endian length and a msgpack map. Raises FrameError."""
    body: bytes = msgpack.packb(message, use_bin_type=True)
    if len(body) > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {len(body)} bytes, at most {FRAME_BYTES_MAX} are allowed")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next frame. Raises FrameError at the end of the stream or on anything malformed."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > FRAME_BYTES_MAX:
            raise FrameError(f"a frame of {length} bytes, at most {FRAME_BYTES_MAX} are allowed")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise FrameError("the training process closed its pipe") from error
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FrameError("a frame that is not msgpack") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError("a frame that is not a map")
    return message
