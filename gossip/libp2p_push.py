"""The push protocol `/p2pfl/push/1`: one long-lived stream to each neighbour, for small messages.

    frame = length (4 bytes, big-endian) ‖ payload      length 0: a sign of life

Each side opens its own stream and only writes on it; the acceptor only reads. A frame has at
most ENVELOPE_BYTES_MAX bytes. A stream without a frame for `idle_s` is dead, and with it its
connection. Frames to one site arrive in order; those under way when a connection dies are lost,
which the caller may or may not be told.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.peer.id import ID

from gossip.blob_protocol import WRITE_BYTES
from gossip.errors import Unreachable
from gossip.identifiers import SiteId
from gossip.libp2p_farewell import PUSH
from gossip.libp2p_guards import (
    Access,
    Refusals,
    close_connection,
    close_quietly,
    reset_quietly,
)
from gossip.libp2p_host import GuardedHost
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_thread import Reply
from gossip.limits import ENVELOPE_BYTES_MAX

_LENGTH = struct.Struct(">I")
_KEEPALIVE = _LENGTH.pack(0)
_READ_BYTES = 64 * 1024


class FrameError(Exception):
    """The other end does not keep to the format."""


class FrameReader:
    """Cuts a byte stream into frames; holds at most one incomplete frame. No I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that `data` completes, without signs of life. Raises FrameError."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > ENVELOPE_BYTES_MAX:
                    raise FrameError(f"frame of {length} bytes, allowed {ENVELOPE_BYTES_MAX}")
                end = start + _LENGTH.size + length
                if end > len(self._buffer):
                    break
                payload = bytes(self._buffer[start + _LENGTH.size : end])
                start = end
                if payload:
                    yield payload
        finally:
            del self._buffer[:start]


def framed(raw: bytes) -> bytes:
    """A payload as it goes out on a push stream."""
    return _LENGTH.pack(len(raw)) + raw


async def write_shielded(stream: Any, data: bytes, timeout_s: float) -> None:
    """Write in pieces of WRITE_BYTES, none of which a cancellation can cut in two (danger 3).

    A cancelled write would leave half a Noise message behind and kill the connection. Raises
    trio.TooSlowError when a piece takes longer than `timeout_s`; the connection is lost then.
    """
    view = memoryview(data)
    for start in range(0, len(view), WRITE_BYTES):
        with trio.CancelScope(shield=True), trio.fail_after(timeout_s):
            await stream.write(bytes(view[start : start + WRITE_BYTES]))
        await trio.lowlevel.checkpoint_if_cancelled()


@dataclass(eq=False, slots=True)
class _Waiting:
    frame: bytes
    reply: Reply


class PushWriter:
    """The frames to one neighbour and the stream they go out on."""

    def __init__(self, site: SiteId, peer: ID, host: GuardedHost, limits: NetLimits) -> None:
        self._site = site
        self._peer = peer
        self._host = host
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()

    def push(self, raw: bytes, reply: Reply) -> None:
        """Queue one payload; the reply is settled when it was written, or cannot be."""
        if self._host.get_network().current(self._peer) is None:
            reply.settle(None, Unreachable(self._site, "not connected"))
            return
        if (
            len(self._queue) >= self._limits.push_queue_frames_max
            or self._queued_bytes + len(raw) > self._limits.push_queue_bytes_max
        ):
            reply.settle(None, Unreachable(self._site, "its queue is full"))
            return
        self._queue.append(_Waiting(framed(raw), reply))
        self._queued_bytes += len(raw)
        self._wake.set()

    @property
    def queued(self) -> tuple[int, int]:
        """Frames that wait, and their bytes."""
        return len(self._queue), self._queued_bytes

    async def run(self) -> None:
        """Write what is queued, and a sign of life when nothing is; reopen the stream as needed."""
        stream: Any = None
        while True:
            conn = self._host.get_network().current(self._peer)
            if stream is not None and stream.swarm_conn is not conn:
                # The connection was replaced or is gone; what we wrote is on its way.
                await close_quietly(stream)
                stream = None
            if conn is None:
                self._fail("the connection was lost")
                await self._sleep(self._limits.keepalive_s)
                continue
            batch: list[_Waiting] = []
            try:
                if stream is None:
                    stream = await self._host.new_stream(self._peer, [PUSH])
                batch = self._take()
                data = b"".join(waiting.frame for waiting in batch) or _KEEPALIVE
                await write_shielded(stream, data, self._limits.chunk_s)
            except Exception as error:
                cause = f"{type(error).__name__} {error}".strip()
                self._settle(batch, Unreachable(self._site, cause))
                if stream is not None:
                    await reset_quietly(stream)
                    stream = None
                if isinstance(error, trio.TooSlowError):
                    await close_connection(conn)
                await self._pause(conn)
                continue
            self._settle(batch, None)
            if not self._queue:
                await self._sleep(self._limits.keepalive_s)

    async def _pause(self, conn: Any) -> None:
        with trio.move_on_after(0.05):
            await conn.event_closed.wait()

    async def _sleep(self, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._wake.wait()
        self._wake = trio.Event()
        if self._queue:
            self._wake.set()

    def nudge(self) -> None:
        """Look again: the connection changed."""
        self._wake.set()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        total = 0
        while self._queue and total < WRITE_BYTES:
            waiting = self._queue.popleft()
            self._queued_bytes -= len(waiting.frame) - _LENGTH.size
            total += len(waiting.frame)
            batch.append(waiting)
        return batch

    def _settle(self, batch: list[_Waiting], error: Unreachable | None) -> None:
        for waiting in batch:
            waiting.reply.settle(None, error)

    def _fail(self, cause: str) -> None:
        while self._queue:
            self._settle(self._take(), Unreachable(self._site, cause))

    def close(self, cause: str) -> None:
        """Nobody will write any more."""
        self._fail(cause)


class Backlog:
    """Frames of one site that were handed to the node and not taken yet.

    Counted up in the trio thread, down in the asyncio thread.
    """

    def __init__(self) -> None:
        self._given = 0
        self._taken = 0

    def give(self) -> None:
        """One more is under way (trio thread only)."""
        self._given += 1

    def take(self) -> None:
        """One has arrived (asyncio thread only)."""
        self._taken += 1

    @property
    def frames(self) -> int:
        """How many are under way."""
        return self._given - self._taken


class PushReader:
    """Serves the push streams that neighbours open.

    deliver: called with the site, a payload and the backlog whose `take` says that it arrived.
    """

    def __init__(
        self,
        *,
        access: Access,
        refusals: Refusals,
        limits: NetLimits,
        deliver: Callable[[SiteId, bytes, Backlog], None],
    ) -> None:
        self._access = access
        self._refusals = refusals
        self._limits = limits
        self._deliver = deliver
        self._backlogs: dict[SiteId, Backlog] = {}
        self._reading: dict[SiteId, tuple[trio.CancelScope, trio.Event]] = {}

    async def handle(self, stream: Any) -> None:
        """One inbound push stream, until it ends, goes quiet or breaks the format."""
        site = self._access.site_of(stream.muxed_conn.peer_id)
        if site is None:
            return
        await self._await_older(site)
        scope, done = trio.CancelScope(), trio.Event()
        self._reading[site] = (scope, done)
        try:
            with scope:
                await self._read(site, stream)
        except FrameError as error:
            self._refusals.add(site.hex(), "PushGarbled", str(error))
        finally:
            done.set()
            if self._reading.get(site, (None, None))[1] is done:
                del self._reading[site]
            await reset_quietly(stream)

    async def _await_older(self, site: SiteId) -> None:
        # A new stream means that the peer has left the old one; what is still on its way there
        # was sent first and is delivered first.
        older = self._reading.get(site)
        if older is None:
            return
        with trio.move_on_after(self._limits.linger_s):
            await older[1].wait()
        older[0].cancel()

    async def _read(self, site: SiteId, stream: Any) -> None:
        reader = FrameReader()
        backlog = self._backlogs.setdefault(site, Backlog())
        while True:
            with trio.move_on_after(self._limits.idle_s) as idle:
                data = await stream.read(_READ_BYTES)
            if idle.cancelled_caught:
                self._refusals.counts["PushIdle"] += 1
                await close_connection(stream.swarm_conn)
                return
            if not data:
                return
            for frame in reader.feed(data):
                # The roster may have changed since the stream was opened.
                if self._access.site_of(stream.muxed_conn.peer_id) != site:
                    return
                if await self._has_room(backlog):
                    backlog.give()
                    self._deliver(site, frame, backlog)
                else:
                    self._refusals.add(site.hex(), "PushFlood")

    async def _has_room(self, backlog: Backlog) -> bool:
        if backlog.frames < self._limits.inbox_frames_max:
            return True
        with trio.move_on_after(self._limits.inbox_wait_s):
            # Emptied in another thread, where waking us for each frame would cost more.
            while backlog.frames >= self._limits.inbox_frames_max:  # noqa: ASYNC110
                await trio.sleep(0.005)
        return backlog.frames < self._limits.inbox_frames_max
