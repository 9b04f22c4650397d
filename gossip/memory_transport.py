"""A `Transport` inside one process: for tests and for trying out a node without a network.

A `Switchboard` joins the transports of one loop. It delivers in order and at once, can cut and
heal links, and lets nobody through who is not on the roster of both ends.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from gossip import ed25519
from gossip.blob_protocol import CHUNK_BYTES
from gossip.blob_spool import DigestMismatch, NoSpace, Spool
from gossip.errors import (
    BlobMismatch,
    BlobNotServed,
    FetchBusy,
    FetchFailed,
    FetchInterrupted,
    NotOnRoster,
    TransportStopped,
    Unreachable,
)
from gossip.identifiers import Digest, SiteId
from gossip.limits import BLOB_BYTES_MAX, ENVELOPE_BYTES_MAX
from gossip.roster import Roster
from gossip.transport import Inbox


class Switchboard:
    """The network that memory transports share."""

    def __init__(self) -> None:
        self._online: dict[bytes, MemoryTransport] = {}
        self._cuts: set[frozenset[bytes]] = set()

    def plug(self, transport: "MemoryTransport") -> None:
        """A transport came up under its transport key; the latest one under a key counts."""
        self._online[transport.public_key] = transport
        self.rewire()

    def unplug(self, transport: "MemoryTransport") -> None:
        """A transport went down."""
        if self._online.get(transport.public_key) is transport:
            del self._online[transport.public_key]
        self.rewire()

    def cut(self, one: bytes, other: bytes) -> None:
        """Sever the link between two transport keys."""
        self._cuts.add(frozenset((one, other)))
        self.rewire()

    def heal(self, one: bytes, other: bytes) -> None:
        """Undo `cut`."""
        self._cuts.discard(frozenset((one, other)))
        self.rewire()

    def reach(self, one: "MemoryTransport", public_key: bytes) -> "MemoryTransport | None":
        """The transport at the other end of a working link."""
        other = self._online.get(public_key)
        if other is None or self._online.get(one.public_key) is not one:
            return None
        if frozenset((one.public_key, public_key)) in self._cuts:
            return None
        return other

    def rewire(self) -> None:
        """Let every transport notice who is there now."""
        for public_key in sorted(self._online):
            self._online[public_key].look_around()


class MemoryTransport:
    """Implements `gossip.transport.Transport` over a switchboard."""

    def __init__(self, transport_seed: bytes, roster: Roster, switchboard: Switchboard) -> None:
        self.public_key = ed25519.public_key_of(transport_seed)
        self._roster = roster
        self._switchboard = switchboard
        self._inbox: Inbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._peers: dict[SiteId, MemoryTransport] = {}
        self._fetching: set[Path] = set()
        self._farewells: dict[bytes, bytes] = {}
        self._told: set[MemoryTransport] = set()

    # The Transport protocol

    async def start(self, inbox: Inbox) -> None:
        """Come up on the switchboard."""
        if self._inbox is not None:
            raise TransportStopped("a transport is started once")
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._switchboard.plug(self)

    async def stop(self) -> None:
        """Go down; may be called twice."""
        self._stopped = True
        self._peers.clear()
        self._switchboard.unplug(self)

    async def send(self, site: SiteId, raw: bytes) -> None:
        """Deliver in the loop's next turn. Raises Unreachable, TransportStopped, ValueError."""
        _check_size(raw)
        self._check_running()
        peer = self._peers.get(site)
        if peer is None:
            raise Unreachable(site, "not connected")
        peer.deliver(self, raw)

    async def broadcast(self, raw: bytes) -> None:
        """Deliver to everybody connected. Raises TransportStopped, ValueError."""
        _check_size(raw)
        self._check_running()
        for site in sorted(self._peers):
            self._peers[site].deliver(self, raw)

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Copy a blob, verified and resumed. Raises FetchFailed, Unreachable, TransportStopped."""
        self._check_running()
        if not 0 <= size_bytes <= BLOB_BYTES_MAX:
            raise FetchFailed(site, digest, f"{size_bytes} bytes are too many")
        if into in self._fetching:
            raise FetchBusy(site, digest, f"{into.name} is being fetched already")
        self._fetching.add(into)
        spool = Spool(into, digest, size_bytes)
        try:
            await self._copy(site, spool, progress)
        except DigestMismatch as error:
            if not spool.resumed_bytes:
                raise BlobMismatch(site, digest, str(error)) from error
            await self._copy_afresh(site, Spool(into, digest, size_bytes), progress)
        except NoSpace as error:
            raise FetchFailed(site, digest, f"no space: {error}") from error
        except OSError as error:
            raise FetchFailed(site, digest, f"cannot be stored: {error.strerror}") from error
        finally:
            self._fetching.discard(into)
            spool.close()

    def set_roster(self, roster: Roster) -> None:
        """Members from now on."""
        self._roster = roster
        self._switchboard.rewire()

    def set_farewells(self, farewells: Mapping[bytes, bytes]) -> None:
        """What former members are told when they come up, by their transport keys."""
        self._farewells = dict(farewells)
        self._switchboard.rewire()

    def connected_sites(self) -> frozenset[SiteId]:
        """Sites that `send` can reach now."""
        return frozenset(self._peers)

    # Between transports

    def look_around(self) -> None:
        """Compare who can be reached with who could, and tell the node."""
        if self._stopped or self._loop is None:
            return
        before, now = self._peers, self._reachable()
        self._peers = now
        for site in sorted(before):
            if now.get(site) is not before[site]:
                self._loop.call_soon(self._lost, site)
        for site in sorted(now):
            if before.get(site) is not now[site]:
                self._loop.call_soon(self._met, site)
        for public_key, raw in self._farewells.items():
            former = self._switchboard.reach(self, public_key)
            if former is not None and former not in self._told:
                self._told.add(former)
                former.deliver(self, raw)

    def _reachable(self) -> "dict[SiteId, MemoryTransport]":
        found: dict[SiteId, MemoryTransport] = {}
        for card in self._roster.members:
            if card.transport_pk == self.public_key:
                continue
            peer = self._switchboard.reach(self, card.transport_pk)
            if peer is not None and peer.knows(self.public_key) is not None:
                found[card.site] = peer
        return found

    def knows(self, public_key: bytes) -> SiteId | None:
        """The member with this transport key on this transport's roster."""
        try:
            return self._roster.by_transport_key(public_key).site
        except NotOnRoster:
            return None

    def deliver(self, sender: "MemoryTransport", raw: bytes) -> None:
        """Bytes from another transport."""
        source = self.knows(sender.public_key)
        if source is not None and self._loop is not None:
            self._loop.call_soon(self._hand_over, source, raw)

    def lookup(self, asker: "MemoryTransport", digest: Digest) -> Path | None:
        """The file that the asker may have."""
        site = self.knows(asker.public_key)
        if site is None or self._inbox is None or self._stopped:
            return None
        return self._inbox.blob(site, digest)

    def _hand_over(self, source: SiteId, raw: bytes) -> None:
        if not self._stopped and self._inbox is not None:
            self._inbox.received(source, raw)

    def _met(self, site: SiteId) -> None:
        if not self._stopped and self._inbox is not None:
            self._inbox.connected(site)

    def _lost(self, site: SiteId) -> None:
        if not self._stopped and self._inbox is not None:
            self._inbox.disconnected(site)

    def _check_running(self) -> None:
        if self._stopped or self._inbox is None:
            raise TransportStopped("the transport is not running")

    # Blobs

    async def _copy_afresh(
        self, site: SiteId, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        """Once more from nothing: the part that an earlier try left may be what was wrong."""
        try:
            await self._copy(site, spool, progress)
        except DigestMismatch as error:
            raise BlobMismatch(site, spool.digest, str(error)) from error
        finally:
            spool.close()

    async def _copy(self, site: SiteId, spool: Spool, progress: Callable[[int], None]) -> None:
        spool.open(reserve_bytes=0)
        progress(spool.have_bytes)
        first = True
        while spool.have_bytes < spool.size_bytes:
            peer = self._peers.get(site)
            if peer is None:
                if first:
                    raise Unreachable(site, "not connected")
                raise FetchInterrupted(site, spool.digest, f"after {spool.have_bytes} bytes")
            first = False
            length = min(CHUNK_BYTES, spool.size_bytes - spool.have_bytes)
            path = peer.lookup(self, spool.digest)
            chunk = None if path is None else _read(path, spool.have_bytes, length)
            if chunk is None:
                raise BlobNotServed(site, spool.digest, "the site does not serve it to us")
            if len(chunk) != length:
                raise BlobMismatch(site, spool.digest, "the site's file is shorter than announced")
            spool.append(chunk)
            progress(spool.have_bytes)
            await asyncio.sleep(0)
            self._check_running()
        spool.finish()


def _read(path: Path, offset: int, length: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError:
        return None


def _check_size(raw: bytes) -> None:
    if not 1 <= len(raw) <= ENVELOPE_BYTES_MAX:
        raise ValueError(f"{len(raw)} bytes, allowed 1…{ENVELOPE_BYTES_MAX}")
