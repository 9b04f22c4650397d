"""Our libp2p host: a swarm that neither dials nor forgets on its own, and guarded handlers.

It owns which connections exist and which of two connections with a peer is used; who is dialled
and when is decided in `gossip.libp2p_neighbours`. It knows nothing of messages or blobs.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.host.basic_host import BasicHost
from libp2p.identity_utils import create_identity_from_seed
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from gossip.addresses import split_address
from gossip.libp2p_cover import covering
from gossip.libp2p_farewell import bid_farewell
from gossip.libp2p_guards import (
    Access,
    PlainTCP,
    Refusals,
    RosterNoise,
    StreamHandler,
    address_of,
    close_connection,
    guarded,
    reset_quietly,
    shielded,
)
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_links import Sockets
from gossip.libp2p_yamux import NoiseYamuxUpgrader
from gossip.limits import MEMBERS_MAX
from gossip.transport import Link


class ListenFailed(Exception):
    """The address to listen on cannot be had."""


class Doors:
    """Inbound connections that have not proved anything yet: a bounded number, oldest evicted.

    Evicting the oldest and not refusing the newest lets a member in while somebody holds all
    places open without speaking.
    """

    def __init__(self, limits: NetLimits) -> None:
        self._limits = limits
        self._waiting: list[trio.CancelScope] = []

    @contextlib.contextmanager
    def enter(self) -> Iterator[trio.CancelScope]:
        """A place for one handshake, for at most `connect_s`."""
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.connect_s)
        if len(self._waiting) >= self._limits.handshakes_max:
            self._waiting.pop(0).cancel()
        self._waiting.append(scope)
        try:
            with scope:
                yield scope
        finally:
            if scope in self._waiting:
                self._waiting.remove(scope)


class NoAutoConnector(AutoConnector):  # type: ignore[misc] # libp2p is untyped here
    """libp2p's dialling on its own, switched off (danger 6)."""

    async def start(self) -> None:
        """Do not start."""

    async def maybe_connect(self) -> None:
        """Do not connect."""


class GuardedSwarm(Swarm):  # type: ignore[misc] # libp2p is untyped here
    """Connections with members: at most two each, one of them in use.

    on_change: called with the peer whenever a connection was added or is gone.
    """

    def __init__(
        self,
        peer_id: ID,
        peerstore: PeerStore,
        upgrader: NoiseYamuxUpgrader,
        *,
        limits: NetLimits,
        refusals: Refusals,
        access: Access,
        sockets: Sockets,
        on_change: Callable[[ID], None],
    ) -> None:
        config = ConnectionConfig(
            max_connections=2 * MEMBERS_MAX * limits.connections_per_peer_max,
            min_connections=0,
            low_watermark=0,
            high_watermark=2 * MEMBERS_MAX * limits.connections_per_peer_max,
            max_connections_per_peer=limits.connections_per_peer_max,
            dial_timeout=limits.connect_s,
            inbound_upgrade_timeout=limits.connect_s,
            outbound_upgrade_timeout=limits.connect_s,
            inbound_stream_protocol_negotiation_timeout=limits.negotiate_s,
            outbound_stream_protocol_negotiation_timeout=limits.negotiate_s,
        )
        self._sockets = sockets
        super().__init__(
            peer_id,
            peerstore,
            upgrader,
            transports=[PlainTCP(self._sockets)],
            retry_config=RetryConfig(max_retries=0),
            connection_config=config,
        )
        # A peer that came back must be dialable at once (danger 5).
        self._negative_peer_cache._ttl = 1.0
        self.auto_connector = NoAutoConnector(swarm=self, auto_connect_interval=86400.0)
        self._limits = limits
        self._refusals = refusals
        self._access = access
        self._on_change = on_change
        self._doors = Doors(limits)
        self._current: dict[ID, Any] = {}
        self._born_s: dict[Any, float] = {}
        self._leaving = False

    # Dialling: only `dial_addr`, called by our own loop.

    async def dial_peer(self, peer_id: ID) -> list[Any]:
        """Refuse: libp2p's implicit dialling has its own idea of when and where (dangers 5, 6)."""
        raise SwarmException(f"not connected to {peer_id}")

    def _schedule_auto_connect(self) -> None:
        """Nothing: see `dial_peer`."""

    # Inbound

    async def _handle_inbound_connection(self, closer: Any, maddr: Multiaddr) -> None:
        """Upgrade one inbound connection and keep its socket until it ends.

        libp2p's own method keeps a task and a place for every connection that ever was, until
        no place is left; this one lets go.
        """
        if self._leaving:
            return
        raw = RawConnection(self._sockets.adopt(closer.stream), False)
        muxed: Any = None
        try:
            with self._doors.enter() as scope:
                muxed = await self.upgrade_inbound_raw_conn(raw, maddr)
            if scope.cancelled_caught:
                self._refusals.add(address_of(raw), "HandshakeTooSlow")
                return
        except Exception as error:
            self._refusals.counts[f"HandshakeError.{type(error).__name__}"] += 1
            return
        await muxed.event_closed.wait()

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """Admit a proved connection, unless the peer has too many. Raises SwarmException."""
        peer = muxed_conn.peer_id
        site = self._access.site_of(peer)
        if self._leaving:
            await muxed_conn.close()
            raise SwarmException("this host is closing")
        alive = [conn for conn in self.connections.get(peer, []) if not conn.is_closed]
        if site is None:
            farewell = self._access.farewells.take(peer.to_bytes(), trio.current_time())
            if farewell:
                await bid_farewell(muxed_conn, farewell)
        if site is None or len(alive) >= self._limits.connections_per_peer_max:
            who = address_of(muxed_conn) if site is None else site.hex()
            self._refusals.add(who, "NotOnRoster" if site is None else "TooManyConnections")
            await muxed_conn.close()
            raise SwarmException(f"connection of {who} refused")
        conn = await super().add_conn(muxed_conn, direction=direction)
        self._born_s[conn] = trio.current_time()
        self._choose(peer, conn)
        self._on_change(peer)
        return conn

    def remove_conn(self, swarm_conn: Any) -> None:
        """Forget a connection that ended."""
        super().remove_conn(swarm_conn)
        self._born_s.pop(swarm_conn, None)
        peer = swarm_conn.muxed_conn.peer_id
        if self._current.get(peer) is swarm_conn:
            self._current.pop(peer)
            rest = [conn for conn in self.connections.get(peer, []) if not conn.is_closed]
            if rest:
                self._current[peer] = rest[-1]
        self._on_change(peer)

    # Two connections with one peer

    def _choose(self, peer: ID, new: Any) -> None:
        """Decide which connection is used; the other one lingers and is closed.

        Both ends decide alike: the newer one wins, except that of two simultaneous dials the
        one from the smaller key wins.
        """
        old = self._current.get(peer)
        if old is None or old.is_closed:
            self._current[peer] = new
            return
        age_s = trio.current_time() - self._born_s.get(old, 0.0)
        simultaneous = age_s < self._limits.stable_s and old.direction != new.direction
        keep = new
        if simultaneous and self._from_smaller_key(peer, old):
            keep = old
        self._current[peer] = keep
        self.manager.run_task(self._retire, old if keep is new else new)

    def _from_smaller_key(self, peer: ID, conn: Any) -> bool:
        ours_is_smaller: bool = self.self_id.to_bytes() < peer.to_bytes()
        dialled_by_us = conn.direction == Direction.OUTBOUND
        return bool(dialled_by_us) == ours_is_smaller

    async def _retire(self, conn: Any) -> None:
        with trio.move_on_after(self._limits.linger_s):
            await conn.event_closed.wait()
        await close_connection(conn)

    async def leave(self) -> None:
        """Close every connection, so that neighbours notice at once, and make no more."""
        self._leaving = True
        connections = [conn for conns in self.connections.values() for conn in conns]
        with shielded(2.0):
            async with trio.open_nursery() as nursery:
                for conn in connections:
                    nursery.start_soon(close_connection, conn)

    def link(self, peer: ID) -> Link:
        """What the sockets tell of the line to a peer."""
        return self._sockets.link(peer)

    def abandon(self) -> None:
        """Close what is left of the sockets."""
        self._sockets.close()

    def current(self, peer: ID) -> Any | None:
        """The connection to use for a peer."""
        conn = self._current.get(peer)
        return None if conn is None or conn.is_closed else conn

    async def new_stream(self, peer_id: ID) -> Any:
        """A raw stream on the connection in use. Raises SwarmException when there is none."""
        conn = self.current(peer_id)
        if conn is None:
            raise SwarmException(f"not connected to {peer_id}")
        stream = await conn.new_stream()
        stream._direction = Direction.OUTBOUND
        return stream


class GuardedHost(BasicHost):  # type: ignore[misc] # libp2p is untyped here
    """A host that serves only what we register, to members only, and survives every handler."""

    def __init__(
        self, network: GuardedSwarm, *, access: Access, refusals: Refusals, limits: NetLimits
    ) -> None:
        super().__init__(
            network=network,
            negotiate_timeout=int(limits.negotiate_s),
            disable_identify_address_discovery=True,
        )
        self._access = access
        self._refusals = refusals
        self._limits = limits
        # No identify, no ping: what is not offered cannot be attacked.
        self.multiselect.handlers.clear()

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Nothing: members know each other from the roster."""

    def set_stream_handler(self, protocol_id: Any, stream_handler: StreamHandler) -> None:
        """Register a handler behind the guard."""
        handler = guarded(stream_handler, self._access, self._refusals, self._limits)
        super().set_stream_handler(protocol_id, handler)

    async def _swarm_stream_handler(self, net_stream: Any) -> None:
        """Negotiate an inbound stream's protocol; garbage costs the peer its stream."""
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as error:
            self._refusals.counts[f"NegotiationError.{type(error).__name__}"] += 1
            await reset_quietly(net_stream)


def build_host(
    transport_seed: bytes,
    *,
    access: Access,
    refusals: Refusals,
    limits: NetLimits,
    on_change: Callable[[ID], None],
    network_key: bytes | None = None,
) -> GuardedHost:
    """A host under the transport key, not listening yet. network_key: 32 bytes, or none."""
    keys: KeyPair = create_identity_from_seed(transport_seed)
    peer_id = ID.from_pubkey(keys.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, keys)
    sockets = Sockets(limits, covering(network_key, refusals.add))
    upgrader = NoiseYamuxUpgrader(RosterNoise(keys, access, refusals, sockets), limits, refusals)
    swarm = GuardedSwarm(
        peer_id,
        peerstore,
        upgrader,
        limits=limits,
        refusals=refusals,
        access=access,
        sockets=sockets,
        on_change=on_change,
    )
    return GuardedHost(swarm, access=access, refusals=refusals, limits=limits)


def multiaddr_of(host: str, port: int) -> Multiaddr:
    """libp2p's spelling of a numeric address."""
    return Multiaddr(f"/ip6/{host}/tcp/{port}" if ":" in host else f"/ip4/{host}/tcp/{port}")


async def resolve(address: str) -> list[Multiaddr]:
    """The numeric addresses behind "host:port", by the system's resolver (so /etc/hosts counts).

    Raises OSError, CardInvalid.
    """
    host, port = split_address(address)
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ordered = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [multiaddr_of(numeric, port) for numeric in ordered if "%" not in numeric]


async def listening_address(listen: str) -> Multiaddr:
    """Check that "host:port" (port 0: any) is free and return libp2p's spelling.

    libp2p binds with SO_REUSEPORT, so that two nodes would share a port without an error.
    Raises ListenFailed.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = await trio.socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 # an empty host means all interfaces, as everywhere
            int(port),
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        family, _, _, _, numeric = found[0]
        with trio.socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await probe.bind(numeric)
    except (OSError, ValueError) as error:
        raise ListenFailed(f"cannot listen on {listen}: {error}") from error
    return multiaddr_of(str(numeric[0]), int(port))
