"""Keeps one connection with every member of the roster, and says when there is one.

libp2p's own dialling is off; this loop is quick at first (0.2 s), then 1 → 3 s with jitter. Of
two sites the one with the smaller transport key dials at once and the other waits a moment, so
that they rarely meet half-way with two connections.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.libp2p_guards import Access, close_connection
from gossip.libp2p_host import GuardedHost, GuardedSwarm, resolve
from gossip.libp2p_limits import NetLimits, redial_pause_s
from gossip.libp2p_pubsub import GuardedPubsub
from gossip.libp2p_push import PushWriter
from gossip.libp2p_thread import Reply
from gossip.transport import Link

_MEND_S = 1.0


class Neighbour:
    """One other member: the task that dials it, and the frames that go to it."""

    def __init__(
        self,
        site: SiteId,
        peer: ID,
        host: GuardedHost,
        access: Access,
        limits: NetLimits,
        jitter: Callable[[], float],
    ) -> None:
        self.site = site
        self.peer = peer
        self.writer = PushWriter(site, peer, host, limits)
        self.scope = trio.CancelScope()
        self.reported = False
        self._swarm: GuardedSwarm = host.get_network()
        self._access = access
        self._limits = limits
        self._jitter = jitter
        self._changed = trio.Event()
        self._yields = self._swarm.self_id.to_bytes() > peer.to_bytes()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to use."""
        return self._swarm.current(self.peer) is not None

    def changed(self) -> None:
        """A connection came or went."""
        self._changed.set()
        self._changed = trio.Event()
        self.writer.nudge()

    async def keep(self) -> None:
        """Dial whenever there is no connection, until cancelled."""
        attempt = 0
        pause_s = self._yield_s()
        while True:
            if pause_s > 0.0:
                await self._wait(pause_s)
            met = self.connected or await self._dial()
            if met and await self._lasted_s() >= self._limits.stable_s:
                attempt = 0
                pause_s = self._yield_s()
                continue
            # A connection that is cut at once (we are not on the peer's roster, say) is a failure.
            pause_s = redial_pause_s(attempt, self._limits, self._jitter())
            attempt += 1

    def _yield_s(self) -> float:
        return self._limits.yield_s * (1.0 + self._jitter()) if self._yields else 0.0

    async def _lasted_s(self) -> float:
        since_s = trio.current_time()
        while self.connected:
            await self._changed.wait()
        return trio.current_time() - since_s

    async def _wait(self, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._changed.wait()

    async def _dial(self) -> bool:
        for address in self._access.addresses_of(self.site):
            with trio.move_on_after(self._limits.connect_s):
                try:
                    for target in await resolve(address):
                        if self.connected:
                            return True
                        with contextlib.suppress(SwarmException):
                            await self._swarm.dial_addr(target, self.peer)
                            return True
                except (OSError, PeerError, UnicodeError):
                    continue
        return self.connected


class Neighbourhood:
    """All neighbours of the roster in force.

    on_connected, on_disconnected: called in the trio thread, alternating for each site.
    """

    def __init__(
        self,
        host: GuardedHost,
        *,
        access: Access,
        limits: NetLimits,
        jitter: Callable[[], float],
        on_connected: Callable[[SiteId], None],
        on_disconnected: Callable[[SiteId], None],
    ) -> None:
        self._host = host
        self._access = access
        self._limits = limits
        self._jitter = jitter
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._neighbours: dict[SiteId, Neighbour] = {}
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery, pubsub: GuardedPubsub) -> None:
        """Begin with the roster in force."""
        self._nursery = nursery
        nursery.start_soon(self._mend, pubsub)
        self.follow_roster()

    def stop(self) -> None:
        """Dial nobody any more."""
        for neighbour in self._neighbours.values():
            neighbour.scope.cancel()
            neighbour.writer.close("this site stops")

    def follow_roster(self) -> None:
        """Take in new members, let go of removed ones."""
        if self._nursery is None:
            return
        for site, neighbour in list(self._neighbours.items()):
            if self._access.peer_of(site) != neighbour.peer:
                del self._neighbours[site]
                self._drop(self._nursery, neighbour)
        for site in self._access.others():
            peer = self._access.peer_of(site)
            if site not in self._neighbours and peer is not None:
                self._add(self._nursery, site, peer)

    def _add(self, nursery: trio.Nursery, site: SiteId, peer: ID) -> None:
        neighbour = Neighbour(site, peer, self._host, self._access, self._limits, self._jitter)
        self._neighbours[site] = neighbour
        nursery.start_soon(self._live, neighbour)
        self.connection_changed(peer)

    async def _live(self, neighbour: Neighbour) -> None:
        with neighbour.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(neighbour.keep)
                nursery.start_soon(neighbour.writer.run)

    def _drop(self, nursery: trio.Nursery, neighbour: Neighbour) -> None:
        neighbour.scope.cancel()
        neighbour.writer.close("it left the roster")
        if neighbour.reported:
            neighbour.reported = False
            self._on_disconnected(neighbour.site)
        nursery.start_soon(self._close_peer, neighbour.peer)

    async def _close_peer(self, peer: ID) -> None:
        swarm: Any = self._host.get_network()
        for conn in list(swarm.connections.get(peer, [])):
            await close_connection(conn)

    def try_now(self, site: SiteId) -> None:
        """There is another address to dial."""
        neighbour = self._neighbours.get(site)
        if neighbour is not None and not neighbour.connected:
            neighbour.changed()

    def connection_changed(self, peer: ID) -> None:
        """Report the first connection with a site and the loss of the last one."""
        site = self._access.site_of(peer)
        neighbour = None if site is None else self._neighbours.get(site)
        if neighbour is None or neighbour.peer != peer:
            return
        neighbour.changed()
        if neighbour.connected and not neighbour.reported:
            neighbour.reported = True
            self._on_connected(neighbour.site)
        elif not neighbour.connected and neighbour.reported:
            neighbour.reported = False
            self._on_disconnected(neighbour.site)

    def push(self, site: SiteId, raw: bytes, reply: Reply, unreachable: Exception) -> None:
        """Send to a site, or settle the reply with `unreachable` if it is no neighbour."""
        neighbour = self._neighbours.get(site)
        if neighbour is None:
            reply.settle(None, unreachable)
            return
        neighbour.writer.push(raw, reply)

    def links(self) -> dict[SiteId, Link]:
        """The lines to all neighbours, connected or not."""
        swarm: GuardedSwarm = self._host.get_network()
        found = {}
        for site, neighbour in self._neighbours.items():
            frames, size_bytes = neighbour.writer.queued
            link = swarm.link(neighbour.peer)
            found[site] = replace(link, queued_frames=frames, queued_bytes=size_bytes)
        return found

    async def _mend(self, pubsub: GuardedPubsub) -> None:
        while True:
            await trio.sleep(_MEND_S)
            for neighbour in list(self._neighbours.values()):
                if neighbour.connected:
                    pubsub.mend(neighbour.peer)
