"""The `Transport` over py-libp2p: TCP, Noise, Yamux; GossipSub, push streams and blob streams.

This is the asyncio face. libp2p runs in a trio thread of its own (`gossip.libp2p_thread`); what
keeps it alive among hostile peers is in the modules `gossip.libp2p_*`. Importing this module
loads libp2p, which takes more than a second: import it in a thread while other things load.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service

from gossip import ed25519
from gossip.blob_spool import Spool
from gossip.errors import FetchInterrupted, TransportError, TransportStopped, Unreachable
from gossip.identifiers import Digest, SiteId
from gossip.libp2p_blobs import BLOB, BlobGiver, BlobTaker
from gossip.libp2p_farewell import PUSH
from gossip.libp2p_guards import Access, Refusals, peer_id_of
from gossip.libp2p_host import GuardedHost, ListenFailed, build_host, listening_address
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_neighbours import Neighbourhood
from gossip.libp2p_pubsub import GuardedPubsub, topic_of
from gossip.libp2p_push import Backlog, PushReader, framed
from gossip.libp2p_thread import Reply, ThreadDown, TrioThread
from gossip.limits import ENVELOPE_BYTES_MAX
from gossip.roster import Roster
from gossip.transport import Inbox, Link

_DEFAULT_LIMITS = NetLimits()
_LOOKUP_S = 10.0
_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class _Running:
    """The parts of one trio run."""

    host: GuardedHost
    pubsub: GuardedPubsub
    neighbours: Neighbourhood
    blobs: BlobTaker


class Libp2pTransport:
    """Implements `gossip.transport.Transport`.

    transport_seed: 32 bytes, the Ed25519 seed of this site's transport key.
    listen: "host:port"; port 0 takes a free one, see `listening`.
    jitter: uniform in [0, 1), spreads the dials of many sites.
    network_key: 32 bytes that cover every connection, the same at all members; or none.
    """

    def __init__(
        self,
        transport_seed: bytes,
        roster: Roster,
        listen: str,
        *,
        limits: NetLimits = _DEFAULT_LIMITS,
        jitter: Callable[[], float] = _RANDOM.random,
        network_key: bytes | None = None,
    ) -> None:
        self._network_key = network_key
        self._seed = transport_seed
        self._listen = listen
        self._limits = limits
        self._jitter = jitter
        self._access = Access(roster, ed25519.public_key_of(transport_seed))
        self._topic = topic_of(roster.consortium)
        self._thread = TrioThread(self._run, name="libp2p", on_death=self._died)
        self._refusals = Refusals(limits, lambda *what: self._thread.post(self._refused, *what))
        self._inbox: Inbox | None = None
        self._started: asyncio.Future[None] | None = None
        self._stopped = False
        self._running: _Running | None = None
        self._connected: set[SiteId] = set()
        self._gossip_backlog = Backlog()

    # The Transport protocol

    async def start(self, inbox: Inbox) -> None:
        """Listen, dial the roster's addresses, keep trying. Raises TransportError."""
        if self._inbox is not None:
            raise TransportStopped("a transport is started once")
        _silence_libp2p()
        self._inbox = inbox
        self._started = asyncio.get_running_loop().create_future()
        self._thread.start()
        try:
            await self._started
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close everything; may be called twice."""
        self._stopped = True
        self._connected.clear()
        await self._thread.stop()

    async def send(self, site: SiteId, raw: bytes) -> None:
        """Push to a connected site. Raises Unreachable, TransportStopped, ValueError."""
        _check_size(raw)
        self._check_running()
        try:
            reply = self._thread.expect()
            self._thread.soon(self._push, site, raw, reply)
            await reply.future
        except ThreadDown as error:
            self._check_running()
            raise Unreachable(site, str(error)) from error

    async def broadcast(self, raw: bytes) -> None:
        """Publish through the mesh. Raises TransportStopped, ValueError."""
        _check_size(raw)
        self._check_running()
        # A broadcast may be lost anyhow; one that meets a restart of the network is.
        with contextlib.suppress(ThreadDown):
            await self._thread.call(self._publish, raw)
        self._check_running()

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Download a blob, verified. Raises FetchFailed, Unreachable, TransportStopped."""
        self._check_running()
        spool = Spool(into, digest, size_bytes)
        try:
            await self._thread.call(self._fetch, site, spool, progress)
        except ThreadDown as error:
            self._check_running()
            raise FetchInterrupted(site, digest, str(error)) from error

    def set_roster(self, roster: Roster) -> None:
        """Members from now on; connections with sites that left are closed."""
        self._access.replace(roster)
        # While the network restarts, it begins with the new roster.
        with contextlib.suppress(ThreadDown):
            self._thread.soon(self._follow_roster)

    def set_farewells(self, farewells: Mapping[bytes, bytes]) -> None:
        """What former members are told when they dial, by their transport keys."""
        frames = {peer_id_of(pk).to_bytes(): framed(raw) for pk, raw in farewells.items()}
        self._access.farewells.replace(frames)

    def connected_sites(self) -> frozenset[SiteId]:
        """Sites that `send` can reach now."""
        return frozenset(self._connected)

    # Beyond the protocol

    def learn(self, site: SiteId, addresses: tuple[str, ...]) -> None:
        """Dial a member at these "host:port", too, after what its card says.

        Hearsay: the handshake proves who answers there."""
        self._access.learn(site, addresses)
        with contextlib.suppress(ThreadDown):
            self._thread.soon(self._try_now, site)

    @property
    def listening(self) -> str:
        """ "host:port" of the socket; after `start`."""
        return self._listen

    @property
    def counts(self) -> Mapping[str, int]:
        """How often which rule turned something away since the start."""
        return dict(self._refusals.counts)

    @property
    def restarts(self) -> int:
        """How often the network had to be started again."""
        return self._thread.deaths

    async def links(self) -> Mapping[SiteId, Link]:
        """The line to each other member; nothing while the network is restarting."""
        try:
            return await self._thread.call(self._links)
        except ThreadDown:
            return {}

    # On the asyncio loop

    def _check_running(self) -> None:
        if self._stopped or self._inbox is None:
            raise TransportStopped("the transport is not running")

    def _listens(self, listening: str) -> None:
        self._listen = listening
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _died(self, error: BaseException) -> None:
        self._refusals.counts["NetworkRestart"] += 1
        if self._started is not None and not self._started.done():
            self._started.set_exception(TransportError(_first_cause(error)))
        for site in sorted(self._connected):
            self._lost(site)

    def _met(self, site: SiteId) -> None:
        if not self._stopped and self._inbox is not None and site not in self._connected:
            self._connected.add(site)
            self._inbox.connected(site)

    def _lost(self, site: SiteId) -> None:
        if not self._stopped and self._inbox is not None and site in self._connected:
            self._connected.discard(site)
            self._inbox.disconnected(site)

    def _refused(self, who: str, reason: str) -> None:
        if not self._stopped and self._inbox is not None:
            self._inbox.refused(who, reason)

    def _received(self, site: SiteId, raw: bytes, backlog: Backlog) -> None:
        backlog.take()
        if not self._stopped and self._inbox is not None:
            self._inbox.received(site, raw)

    def _answer_lookup(
        self, site: SiteId, digest: Digest, answer: Callable[[Path | None], None]
    ) -> None:
        found = None
        if not self._stopped and self._inbox is not None:
            found = self._inbox.blob(site, digest)
        with contextlib.suppress(ThreadDown):
            self._thread.soon(answer, found)

    # In the trio thread

    async def _run(self, nursery: trio.Nursery, halt: trio.Event) -> None:
        target = await listening_address(self._listen)
        host = build_host(
            self._seed,
            access=self._access,
            refusals=self._refusals,
            limits=self._limits,
            on_change=self._connection_changed,
            network_key=self._network_key,
        )
        running = self._assemble(host)
        router = running.pubsub.router
        try:
            async with (
                background_trio_service(running.pubsub),
                background_trio_service(router),
                host.run(listen_addrs=[target]),
            ):
                await running.pubsub.subscribe(self._topic)
                self._running = running
                self._thread.post(self._listens, _listening_on(host))
                running.neighbours.start(nursery, running.pubsub)
                try:
                    await halt.wait()
                finally:
                    running.neighbours.stop()
                    await host.get_network().leave()
        finally:
            self._running = None
            running.pubsub.close()
            host.get_network().abandon()

    def _assemble(self, host: GuardedHost) -> _Running:
        access, refusals, limits = self._access, self._refusals, self._limits
        reader = PushReader(
            access=access,
            refusals=refusals,
            limits=limits,
            deliver=lambda *what: self._thread.post(self._received, *what),
        )
        giver = BlobGiver(access=access, refusals=refusals, limits=limits, lookup=self._lookup)
        host.set_stream_handler(PUSH, reader.handle)
        host.set_stream_handler(BLOB, giver.handle)
        return _Running(
            host=host,
            pubsub=GuardedPubsub(
                host,
                topic=self._topic,
                access=access,
                refusals=refusals,
                limits=limits,
                deliver=self._deliver_gossip,
            ),
            neighbours=Neighbourhood(
                host,
                access=access,
                limits=limits,
                jitter=self._jitter,
                on_connected=lambda site: self._thread.post(self._met, site),
                on_disconnected=lambda site: self._thread.post(self._lost, site),
            ),
            blobs=BlobTaker(
                host,
                limits=limits,
                on_progress=lambda progress, had: self._thread.post(progress, had),
            ),
        )

    def _connection_changed(self, peer: ID) -> None:
        if self._running is not None:
            self._running.neighbours.connection_changed(peer)

    def _deliver_gossip(self, source: SiteId, raw: bytes) -> None:
        if self._gossip_backlog.frames >= self._limits.inbox_frames_max:
            self._refusals.counts["GossipInboxFull"] += 1
            return
        self._gossip_backlog.give()
        self._thread.post(self._received, source, raw, self._gossip_backlog)

    def _push(self, site: SiteId, raw: bytes, reply: Reply) -> None:
        unknown = Unreachable(site, "no neighbour")
        if self._running is None:
            reply.settle(None, unknown)
            return
        self._running.neighbours.push(site, raw, reply, unknown)

    async def _links(self) -> dict[SiteId, Link]:
        return {} if self._running is None else self._running.neighbours.links()

    def _try_now(self, site: SiteId) -> None:
        if self._running is not None:
            self._running.neighbours.try_now(site)

    def _follow_roster(self) -> None:
        if self._running is not None:
            self._running.neighbours.follow_roster()

    async def _publish(self, raw: bytes) -> None:
        if self._running is not None:
            await self._running.pubsub.broadcast(raw)

    async def _fetch(self, site: SiteId, spool: Spool, progress: Callable[[int], None]) -> None:
        peer = self._access.peer_of(site)
        if peer is None or self._running is None:
            raise Unreachable(site, "no neighbour")
        await self._running.blobs.fetch(site, peer, spool, progress)

    async def _lookup(self, site: SiteId, digest: Digest) -> Path | None:
        answered = trio.Event()
        found: list[Path | None] = []

        def answer(path: Path | None) -> None:
            found.append(path)
            answered.set()

        self._thread.post(self._answer_lookup, site, digest, answer)
        with trio.move_on_after(_LOOKUP_S):
            await answered.wait()
        return found[0] if found else None


def _check_size(raw: bytes) -> None:
    if not 1 <= len(raw) <= ENVELOPE_BYTES_MAX:
        raise ValueError(f"{len(raw)} bytes, allowed 1…{ENVELOPE_BYTES_MAX}")


def _listening_on(host: GuardedHost) -> str:
    """ "host:port" of the one listener. Raises ListenFailed."""
    addresses = host.get_transport_addrs()
    if not addresses:
        raise ListenFailed("libp2p could not listen")
    address = addresses[0]
    port = address.value_for_protocol("tcp")
    if "/ip6/" in str(address):
        return f"[{address.value_for_protocol('ip6')}]:{port}"
    return f"{address.value_for_protocol('ip4')}:{port}"


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{error}" if isinstance(error, ListenFailed) else f"{type(error).__name__}: {error}"


def _silence_libp2p() -> None:
    """Keep libp2p's log, which quotes hostile bytes, out of the program's log.

    It also calls `logging.debug` on the root logger, which would install a handler there.
    """
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
