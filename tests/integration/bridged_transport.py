"""A memory transport for a command whose loop is in another thread than the nodes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.memory_transport import MemoryTransport, Switchboard
from gossip.roster import Roster
from gossip.transport import Inbox


class _Across:
    """Tells an inbox of another loop."""

    def __init__(self, inbox: Inbox, loop: asyncio.AbstractEventLoop) -> None:
        self._inbox = inbox
        self._loop = loop

    def connected(self, site: SiteId) -> None:
        self._loop.call_soon_threadsafe(self._inbox.connected, site)

    def disconnected(self, site: SiteId) -> None:
        self._loop.call_soon_threadsafe(self._inbox.disconnected, site)

    def received(self, source: SiteId, raw: bytes) -> None:
        self._loop.call_soon_threadsafe(self._inbox.received, source, raw)

    def refused(self, address_or_site: str, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._inbox.refused, address_or_site, reason)

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        return None


class BridgedTransport:
    """Implements `Transport` for one loop over a memory transport in the nodes' loop."""

    def __init__(self, inner: MemoryTransport, nodes: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._nodes = nodes

    async def start(self, inbox: Inbox) -> None:
        across = _Across(inbox, asyncio.get_running_loop())
        await self._there(self._inner.start(across))

    async def stop(self) -> None:
        await self._there(self._inner.stop())

    async def send(self, site: SiteId, raw: bytes) -> None:
        await self._there(self._inner.send(site, raw))

    async def broadcast(self, raw: bytes) -> None:
        await self._there(self._inner.broadcast(raw))

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        raise NotImplementedError("a command that recovers fetches no models")

    async def _there(self, work: "asyncio.Future[None] | object") -> None:
        done = asyncio.run_coroutine_threadsafe(work, self._nodes)  # type: ignore[arg-type]
        await asyncio.wrap_future(done)


def dialling(
    switchboard: Switchboard,
) -> Callable[[SiteKeys, Roster, str], BridgedTransport]:
    """What `ledger recover` takes in place of libp2p; call it in the nodes' loop."""
    nodes = asyncio.get_running_loop()

    def dial(keys: SiteKeys, roster: Roster, listen: str) -> BridgedTransport:
        return BridgedTransport(MemoryTransport(keys.transport, roster, switchboard), nodes)

    return dial
