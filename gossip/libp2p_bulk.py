"""Many bytes over one stream: straight between the multiplexer's buffers and the caller's.

libp2p's stream takes several locks, each a turn of the scheduler, and copies each byte four times
per call. What is here does one frame at a time with one copy, and gives the sender its credit for
a whole chunk. Frames of other streams are written in between: nobody waits for more than one frame
of each transfer. The bytes on the wire are those of Yamux.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset

from gossip.blob_protocol import WRITE_BYTES

_HEADER: Final = struct.Struct("!BBHII")
_DATA: Final = 0
_NO_CREDIT_S: Final = 0.005


async def read_into(stream: Any, view: memoryview, timeout_s: float) -> None:
    """Fill the view from a stream. Raises StreamError at its end, trio.TooSlowError when nothing
    comes for `timeout_s`.

    The sender gets no credit for it: see `give_credit`.
    """
    muxed, have = stream.muxed_stream, 0
    conn, number = muxed.conn, muxed.stream_id
    while have < len(view):
        buffer = conn.stream_buffers.get(number)
        if buffer:
            size = min(len(buffer), len(view) - have)
            with memoryview(buffer) as held:
                view[have : have + size] = held[:size]
            del buffer[:size]
            have += size
            continue
        event = conn.stream_events.get(number)
        if muxed.reset_received:
            raise StreamReset("the peer reset the stream")
        if buffer is None or event is None or muxed.recv_closed or muxed.closed:
            raise StreamEOF("the stream ended")
        with trio.fail_after(timeout_s):
            await event.wait()
        if number in conn.stream_events:
            conn.stream_events[number] = trio.Event()


async def give_credit(stream: Any, length: int, *, more: int = 0) -> None:
    """Let the sender send as many bytes as were read, and enlarge its window by `more`."""
    muxed = stream.muxed_stream
    muxed.recv_window += length + more
    muxed.target_recv_window += more
    try:
        await muxed.send_window_update(length + more)
    except (IOException, RawConnError) as error:
        raise StreamReset("the connection was lost") from error


class Uplink:
    """A rate that all transfers share, each frame in its turn. bytes_per_s 0: no limit."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_s = float("-inf")

    async def wait(self, size: int) -> None:
        """Return when so many more bytes may go out."""
        if not self._bytes_per_s:
            return
        start_s = max(trio.current_time(), self._free_s)
        self._free_s = start_s + size / self._bytes_per_s
        await trio.sleep_until(start_s)


async def write_bulk(stream: Any, view: memoryview, timeout_s: float, uplink: Uplink) -> None:
    """Write everything in frames of WRITE_BYTES; a cancellation falls between two of them.

    Raises StreamError, or trio.TooSlowError where the peer gives no credit for `timeout_s`.
    """
    muxed, sent = stream.muxed_stream, 0
    conn = muxed.conn
    while sent < len(view):
        if not muxed.send_window:
            await _wait_for_credit(muxed, timeout_s)
        size = min(muxed.send_window, WRITE_BYTES, len(view) - sent)
        await uplink.wait(size)
        _require_open(muxed)
        muxed.send_window -= size
        frame = _HEADER.pack(0, _DATA, 0, muxed.stream_id, size) + view[sent : sent + size]
        try:
            await conn.write_whole(frame)
        except (IOException, RawConnError) as error:
            raise StreamReset("the connection was lost") from error
        sent += size
        await trio.lowlevel.checkpoint_if_cancelled()


async def _wait_for_credit(muxed: Any, timeout_s: float) -> None:
    with trio.fail_after(timeout_s):
        # libp2p has no event for it; a peer that keeps to the protocol gives credit in advance.
        while not muxed.send_window:
            _require_open(muxed)
            await trio.sleep(_NO_CREDIT_S)


def _require_open(muxed: Any) -> None:
    if muxed.reset_received:
        raise StreamReset("the peer reset the stream")
    if muxed.send_closed or muxed.closed:
        raise StreamError("the stream is closed for writing")
