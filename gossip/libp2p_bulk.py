"""Many bytes over one stream: straight between the multiplexer's buffers and the caller's.

libp2p's stream takes several locks, each a turn of the scheduler, and copies each byte four times
per call. Here a frame goes straight to the room of whoever waits for it, who wakes when that is
full, and the sender gets its credit for a whole chunk. Frames of other streams are written in
between: nobody waits for more than a few frames of each transfer, on a slow line for one. The bytes
on the wire are those of Yamux.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset

from gossip.blob_protocol import WRITE_BYTES
from gossip.libp2p_yamux import Awaited

_HEADER: Final = struct.Struct("!BBHII")
_DATA, _WINDOW = 0, 1
_NO_CREDIT_S: Final = 0.005
FRAMES_AT_ONCE: Final = 4
"""Where the line takes them at once; else one by one."""
_QUICK_S: Final = 0.02


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
        have += await _awaited(conn, number, view[have:], event, timeout_s)
        if event.is_set() and number in conn.stream_events:
            conn.stream_events[number] = trio.Event()


async def _awaited(
    conn: Any, number: int, room: memoryview, event: trio.Event, timeout_s: float
) -> int:
    """Wait until the room is full, or something else happens to the stream, or it takes long.

    Returns how many bytes came. Raises trio.TooSlowError where nothing did.
    """
    awaited = conn.awaited[number] = Awaited(room)
    try:
        with trio.move_on_after(timeout_s):
            await event.wait()
    finally:
        del conn.awaited[number]
    if not event.is_set() and not awaited.have:
        raise trio.TooSlowError
    return awaited.have


async def give_credit(stream: Any, length: int, *, more: int = 0, said: bytes = b"") -> None:
    """Let the sender send as many bytes as were read, and enlarge its window by `more`.

    said: a few bytes for it that go in the same message, where the sender gave credit for them.
    Raises StreamError."""
    muxed = stream.muxed_stream
    muxed.recv_window += length + more
    muxed.target_recv_window += more
    frames = _HEADER.pack(0, _WINDOW, 0, muxed.stream_id, length + more)
    if said:
        _require_open(muxed)
        if len(said) > muxed.send_window:
            raise StreamError("the peer gave no credit for a request")
        muxed.send_window -= len(said)
        frames += _HEADER.pack(0, _DATA, 0, muxed.stream_id, len(said)) + said
    try:
        await muxed.conn.write_whole(frames)
    except (IOException, RawConnError) as error:
        raise StreamReset("the connection was lost") from error


class Uplink:
    """A rate that all transfers share, each frame in its turn. bytes_per_s 0: no limit."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_s = float("-inf")

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return bool(self._bytes_per_s)

    async def wait(self, size: int) -> None:
        """Return when so many more bytes may go out."""
        if not self._bytes_per_s:
            return
        start_s = max(trio.current_time(), self._free_s)
        self._free_s = start_s + size / self._bytes_per_s
        await trio.sleep_until(start_s)


async def write_bulk(stream: Any, view: memoryview, timeout_s: float, uplink: Uplink) -> None:
    """Write everything in frames of WRITE_BYTES; a cancellation falls between two writes.

    Raises StreamError, or trio.TooSlowError where the peer gives no credit for `timeout_s`.
    """
    muxed, sent, at_once = stream.muxed_stream, 0, 1
    while sent < len(view):
        if not muxed.send_window:
            await _wait_for_credit(muxed, timeout_s)
        size = min(muxed.send_window, at_once * WRITE_BYTES, len(view) - sent)
        await uplink.wait(size)
        _require_open(muxed)
        muxed.send_window -= size
        start_s = trio.current_time()
        try:
            await muxed.conn.write_whole(*_frames(muxed.stream_id, view[sent : sent + size]))
        except (IOException, RawConnError) as error:
            raise StreamReset("the connection was lost") from error
        # Several frames at once save processor time, but on a slow line others would wait.
        quick = trio.current_time() - start_s < _QUICK_S and not uplink.is_limited
        at_once = FRAMES_AT_ONCE if quick else 1
        sent += size
        await trio.lowlevel.checkpoint_if_cancelled()


def _frames(number: int, view: memoryview) -> Iterator[bytes]:
    for start in range(0, len(view), WRITE_BYTES):
        part = view[start : start + WRITE_BYTES]
        yield _HEADER.pack(0, _DATA, 0, number, len(part)) + part


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
