"""Yamux that bounds what a peer can make it hold, and that takes bulk data by a short way.

libp2p's own class does everything but two things: data frames for open streams, which are nearly
all bytes, are taken here (its own way composes a dozen log lines for each and copies it six
times); and frames are written whole, whatever is cancelled meanwhile.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.upgrader import TransportUpgrader

from gossip.libp2p_guards import Refusals, RosterNoise, address_of, shielded
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_links import take_turn
from gossip.libp2p_session import QuickSession

_HEADER: Final = struct.Struct("!BBHII")
_DATA: Final = 0
_WINDOW_UPDATE: Final = 1
_BODY_S: Final = 60.0
"""Within this time the rest of a frame has to come."""
_CREDIT_BYTES: Final = 64 * 1024
"""A quarter of a stream's first window: less is not worth a frame of its own."""
_OWED_SPARE: Final = 64


class Awaited:
    """Room that a reader waits for to be filled: bytes of its stream go there without a detour."""

    __slots__ = ("have", "room")

    def __init__(self, room: memoryview) -> None:
        self.room = room
        self.have = 0

    @property
    def is_full(self) -> bool:
        """Whether the reader can go on."""
        return self.have == len(self.room)

    def put(self, body: memoryview) -> memoryview:
        """Take in as much as fits; returns the rest."""
        size = min(len(body), len(self.room) - self.have)
        self.room[self.have : self.have + size] = body[:size]
        self.have += size
        return body[size:]


class GuardedYamux(Yamux):  # type: ignore[misc] # libp2p is untyped here
    """Yamux that bounds what one connection may hold, and that always gets closed."""

    limits = NetLimits()
    refusals: Refusals | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.awaited: dict[int, Awaited] = {}
        """By stream."""
        self._owed: dict[int, int] = {}
        """Bytes that each stream's sender may send beyond what it was told, by stream."""

    def _count(self, rule: str) -> None:
        if self.refusals is not None:
            self.refusals.add(address_of(self), rule)

    async def handle_incoming(self) -> None:
        """Take what comes, until the connection ends."""
        if isinstance(self.secured_conn, QuickSession):
            self.secured_conn.before_read = self._take_data
        await super().handle_incoming()

    async def _take_data(self, session: QuickSession) -> None:
        """Take data and credit for open streams until something else comes: that is libp2p's."""
        while True:
            header = await session.peek(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            version, kind, flags, number, length = _HEADER.unpack(header)
            stream = self.streams.get(number)
            if version or flags or not length or stream is None:
                return
            if kind == _WINDOW_UPDATE:
                await session.take(_HEADER.size)
                stream.send_window += length
                continue
            if kind != _DATA:
                return
            if stream.recv_closed or stream.closed or length > stream.recv_window:
                return
            await session.take(_HEADER.size)
            body = await self._read_data_body(length)
            buffer = self.stream_buffers.get(number)
            if buffer is None:  # the stream was reset while its last frame came
                continue
            stream.recv_window -= length
            awaited = None if buffer else self.awaited.get(number)
            if awaited is not None:
                body = awaited.put(memoryview(body))
                if not awaited.is_full:  # waking the reader for each frame costs more than the copy
                    continue
            buffer += body
            self.stream_events[number].set()

    async def _read_data_body(self, length: int) -> bytes | memoryview:
        # libp2p only warns when a peer ignores our receive window. TooSlowError is the one
        # error that its read loop answers by closing the connection.
        buffered = sum(len(buffer) for buffer in self.stream_buffers.values())
        if (
            length > self.limits.frame_bytes_max
            or buffered + length > self.limits.buffered_bytes_per_connection_max
        ):
            self._count("MultiplexerFlood")
            raise trio.TooSlowError
        if isinstance(self.secured_conn, QuickSession) and self.secured_conn.holds(length):
            return await self.secured_conn.take(length)
        with trio.fail_after(_BODY_S):
            if isinstance(self.secured_conn, QuickSession):
                return await self.secured_conn.take(length)
            body: bytes = await super()._read_data_body(length)
            return body

    async def _write_frame(self, data: bytes) -> None:
        credited = self._credited(data)
        if credited:
            await self.write_whole(credited)
        await trio.lowlevel.checkpoint()

    def _credited(self, frame: bytes) -> bytes:
        """The frame that is to be sent; credit for a few bytes waits until it is worth one.

        libp2p answers every read with credit, so that a small message costs two frames. Who sends
        is never short of it: what is kept back is far less than its window."""
        version, kind, flags, number, increment = _HEADER.unpack_from(frame)
        if kind != _WINDOW_UPDATE or flags or len(frame) != _HEADER.size:
            return frame
        owed = self._owed.pop(number, 0) + increment
        if owed >= _CREDIT_BYTES:
            return _HEADER.pack(version, kind, flags, number, owed)
        self._owed[number] = owed
        if len(self._owed) > len(self.streams) + _OWED_SPARE:
            self._owed = {
                known: owed for known, owed in self._owed.items() if known in self.streams
            }
        return b""

    async def write_whole(self, *frames: bytes) -> None:
        """Write frames as a whole (danger 3). Raises ConnectionClosedError.

        A write that is cancelled half-way leaves the two ends' ciphers out of step, and reading
        writes too: window updates. One that takes too long costs the connection.
        """
        with shielded(self.limits.chunk_s) as scope:
            await take_turn(self._write_lock)
            try:
                if len(frames) > 1 and isinstance(self.secured_conn, QuickSession):
                    await self.secured_conn.write_each(frames)
                else:
                    await self.secured_conn.write(b"".join(frames))
            finally:
                self._write_lock.release()
        if scope.cancelled_caught:
            self._count("WriteTooSlow")
            await self.secured_conn.close()
            raise ConnectionClosedError("the peer takes nothing", transport="tcp")

    async def forget(self, stream: Any) -> None:
        """Let go of a stream that was reset, with the bytes that came on it.

        libp2p keeps them for a minute: ten transfers that were given up held so much that the
        connection looked flooded, and was closed."""
        async with self.streams_lock:
            buffer = self.stream_buffers.get(stream.stream_id)
            if buffer is not None:
                buffer.clear()
            self._finalize_stream_locked(stream, fully_closed=True)

    async def accept_stream(self) -> Any:
        """The next inbound stream, while there are not too many of them."""
        while True:
            stream = await super().accept_stream()
            inbound = sum(1 for known in list(self.streams.values()) if not known.is_initiator)
            if inbound <= self.limits.streams_per_connection_max:
                return stream
            self._count("TooManyStreams")
            # Nobody needs so many; answering each with a reset would make work for us.
            await self.close()
            raise MuxedConnUnavailable("too many streams")

    async def start(self) -> None:
        """Run the connection. An error here would end the whole swarm."""
        try:
            await super().start()
        except Exception as error:
            self._count(f"MultiplexerError.{type(error).__name__}")
            with trio.move_on_after(2.0):
                await self._cleanup_on_error()

    async def close(self, error_code: int = 0) -> None:
        """Say good-bye if that can be done soon, and close the socket in any case."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(1.0) as goodbye:
                await super().close(error_code)
            if goodbye.cancelled_caught:
                with trio.move_on_after(1.0):
                    await self._cleanup_on_error()


class NoiseYamuxUpgrader(TransportUpgrader):  # type: ignore[misc] # libp2p is untyped here
    """Offers `/noise` and `/yamux/1.0.0` and nothing else (no `/secio`, no `/plaintext`)."""

    def __init__(self, noise: RosterNoise, limits: NetLimits, refusals: Refusals) -> None:
        super().__init__({NOISE: noise}, {YAMUX: GuardedYamux})
        self._limits = limits
        self._refusals = refusals

    async def upgrade_connection(self, conn: Any, peer_id: ID) -> Any:
        """Agree on Yamux. libp2p's own method makes its own Yamux, whatever class it was given."""
        selector = self.muxer_multistream._selector
        protocol, _ = await selector.select(conn, conn.is_initiator, int(self._limits.negotiate_s))
        muxed = GuardedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        muxed.limits = self._limits
        muxed.refusals = self._refusals
        muxed.negotiated_muxer_protocol = str(protocol)
        return muxed
