"""What is known of the line to each member: bytes, round trip, what waits to be sent.

The round trip is the kernel's own smoothed estimate for the socket, so measuring sends nothing.
Lives in the trio thread.
"""

import contextlib
import socket
import struct
import weakref
from collections.abc import Callable
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID

from gossip.libp2p_limits import NetLimits
from gossip.transport import Link

READ_BYTES_MAX = 64 * 1024 + 2
"""A Noise message with its length: the most that is ever read from a socket at once."""

GREETING = b"\x13/multistream/1.0.0\n"
"""What both ends of every libp2p connection say first."""

_TCP_INFO_BYTES = 104
_ROUND_TRIP_US = struct.Struct("=I")
_ROUND_TRIP_AT = 68
_RESENT_AT = 100
"""Places in Linux's `struct tcp_info` (include/uapi/linux/tcp.h): tcpi_rtt, tcpi_total_retrans."""


async def take_turn(lock: trio.Lock) -> None:
    """Acquire a lock, at once where it is free: waiting costs a turn of the scheduler."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


class Traffic:
    """Bytes from and to one peer, over all its connections."""

    __slots__ = ("received_bytes", "resent_packets", "sent_bytes")

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self.resent_packets = 0
        """Of connections that are closed."""


class BoundedTCPStream(TrioTCPStream):  # type: ignore[misc] # libp2p is untyped here
    """Never asks the kernel for more bytes than a message can have, and never loses in silence.

    libp2p passes a length that the peer announced straight to `recv`, which allocates it, and
    takes a write to a closed socket for done.
    """

    traffic: Traffic | None = None
    """Of the peer at the other end, once it has proved who it is."""

    is_dialled = False
    """Whether this end asked for the connection."""

    def outgoing(self, data: bytes) -> bytes:
        """What a write puts on the wire."""
        return data

    def where(self) -> str:
        """ "host:port" of the other end."""
        try:
            host, port = self.stream.socket.getpeername()[:2]
        except (OSError, ValueError):  # closed meanwhile, or no TCP
            return "unknown address"
        return f"{host}:{port}"

    async def write(self, data: bytes) -> None:
        """All of it. Raises ConnectionClosedError."""
        await take_turn(self.write_lock)
        try:
            await self.stream.send_all(self.outgoing(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(str(error), transport="tcp") from error
        finally:
            self.write_lock.release()
        if self.traffic is not None:
            self.traffic.sent_bytes += len(data)

    async def read(self, n: int | None = None) -> bytes:
        """At most READ_BYTES_MAX bytes."""
        data: bytes = await super().read(READ_BYTES_MAX if n is None else min(n, READ_BYTES_MAX))
        if self.traffic is not None:
            self.traffic.received_bytes += len(data)
        return data

    async def read_into(self, room: memoryview) -> int:
        """As many bytes as there are and as fit; 0 at the end. Raises ConnectionClosedError."""
        await take_turn(self.read_lock)
        try:
            got: int = await self.stream.socket.recv_into(room)
        except trio.ClosedResourceError:
            return 0
        except OSError as error:
            raise ConnectionClosedError(str(error), transport="tcp") from error
        finally:
            self.read_lock.release()
        if self.traffic is not None:
            self.traffic.received_bytes += got
        return got

    async def close(self) -> None:
        """Close the socket; what the kernel counted of it stays counted."""
        if self.traffic is not None:
            told = _kernel_counts(self.stream.socket)
            self.traffic.resent_packets += told[1] if told is not None else 0
            self.traffic = None
        await super().close()


class Sockets:
    """Every socket of a host, so that none outlives it, whatever libp2p forgets.

    wrapped: what makes a socket of the host, plain or covered."""

    def __init__(
        self,
        limits: NetLimits,
        wrapped: Callable[[trio.SocketStream], BoundedTCPStream],
    ) -> None:
        self._limits = limits
        self._wrapped = wrapped
        self._known: weakref.WeakSet[BoundedTCPStream] = weakref.WeakSet()
        self._traffic: dict[bytes, Traffic] = {}

    def adopt(self, stream: trio.SocketStream) -> BoundedTCPStream:
        """Wrap a new socket, and let the kernel notice a peer that acknowledges nothing more."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            with contextlib.suppress(OSError):
                stream.setsockopt(socket.IPPROTO_TCP, option, int(self._limits.idle_s * 1000))
        bounded = self._wrapped(stream)
        self._known.add(bounded)
        return bounded

    def proved(self, stream: Any, peer: ID) -> None:
        """The other end of a socket is this member: count for it from now on."""
        if isinstance(stream, BoundedTCPStream):
            stream.traffic = self._traffic.setdefault(peer.to_bytes(), Traffic())

    def link(self, peer: ID) -> Link:
        """The line to one peer, without what waits above the socket."""
        traffic = self._traffic.get(peer.to_bytes())
        if traffic is None:
            return Link()
        alive = (known for known in self._known if known.traffic is traffic)
        told = [found for known in alive if (found := _kernel_counts(known.stream.socket))]
        return Link(
            round_trip_s=min((round_trip_s for round_trip_s, _ in told), default=None),
            sent_bytes=traffic.sent_bytes,
            received_bytes=traffic.received_bytes,
            resent_packets=traffic.resent_packets + sum(resent for _, resent in told),
        )

    def close(self) -> None:
        """Close all that are still open, without a word."""
        for bounded in list(self._known):
            bounded.stream.socket.close()


def _kernel_counts(of: Any) -> tuple[float, int] | None:
    """Smoothed round trip in seconds and packets sent again; None where nobody tells."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        told = of.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
    except OSError:  # closed meanwhile
        return None
    if len(told) < _TCP_INFO_BYTES:
        return None
    (round_trip_us,) = _ROUND_TRIP_US.unpack_from(told, _ROUND_TRIP_AT)
    (resent,) = _ROUND_TRIP_US.unpack_from(told, _RESENT_AT)
    return round_trip_us / 1e6, resent
