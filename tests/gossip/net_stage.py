"""Sites, inboxes and nets for the tests of transports, whatever carries their bytes."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gossip.card import Card, sign_card
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.keys import SiteKeys
from gossip.roster import Roster, draft_roster, sign_roster
from gossip.transport import Transport

MIB = 1024 * 1024
WAIT_S = 60.0


class Recorder:
    """An inbox that remembers, and lets a test wait for what it is about."""

    def __init__(self) -> None:
        self.events: list[tuple[str, SiteId]] = []
        self.got: list[tuple[SiteId, bytes]] = []
        self.turned_away: list[tuple[str, str]] = []
        self.files: dict[bytes, Path] = {}
        self.served: list[tuple[SiteId, bytes]] = []
        self.may_have: Callable[[SiteId, int], bool] = lambda site, times: True
        self._changed = asyncio.Event()

    def _note(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def connected(self, site: SiteId) -> None:
        self.events.append(("connected", site))
        self._note()

    def disconnected(self, site: SiteId) -> None:
        self.events.append(("disconnected", site))
        self._note()

    def received(self, source: SiteId, raw: bytes) -> None:
        self.got.append((source, raw))
        self._note()

    def refused(self, address_or_site: str, reason: str) -> None:
        self.turned_away.append((address_or_site, reason))
        self._note()

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        self.served.append((site, digest))
        allowed = self.may_have(site, len(self.served))
        return self.files.get(digest) if allowed else None

    @property
    def online(self) -> set[SiteId]:
        now: set[SiteId] = set()
        for what, site in self.events:
            (now.add if what == "connected" else now.discard)(site)
        return now

    def payloads(self) -> list[bytes]:
        return [raw for _, raw in self.got]

    async def until(self, condition: Callable[["Recorder"], bool], wait_s: float = WAIT_S) -> None:
        async with asyncio.timeout(wait_s):
            while not condition(self):
                await self._changed.wait()


class Node:
    """One site of a test: keys that stay, and a transport that may be replaced."""

    def __init__(self, net: "Net", index: int, address: str) -> None:
        seeds = [
            hashlib.sha256(f"{role} {index}".encode()).digest()
            for role in ("identity", "transport", "log", "witness")
        ]
        self.net = net
        self.keys = SiteKeys(*seeds)
        self.address = address
        self.card: Card = sign_card(
            self.keys, name=f"hospital {index}", log_id=seeds[0], addresses=[address]
        )
        self.inbox = Recorder()
        self.transport: Transport | None = None

    @property
    def site(self) -> SiteId:
        return self.card.site

    async def start(self, roster: Roster | None = None) -> None:
        self.inbox = Recorder()
        self.transport = self.net.make(self, roster or self.net.roster)
        await self.transport.start(self.inbox)

    async def stop(self) -> None:
        if self.transport is not None:
            await self.transport.stop()

    async def send(self, other: "Node", raw: bytes) -> None:
        assert self.transport is not None
        await self.transport.send(other.site, raw)

    async def fetch(
        self,
        other: "Node",
        data: bytes,
        into: Path,
        progress: Callable[[int], None] = lambda had: None,
    ) -> None:
        assert self.transport is not None
        digest = digest_of(data)
        await self.transport.fetch(other.site, digest, len(data), into, progress)

    def offer(self, data: bytes, path: Path, content: bytes | None = None) -> None:
        """Serve `content` (the data itself, unless this site lies) under the data's digest."""
        path.write_bytes(data if content is None else content)
        self.inbox.files[digest_of(data)] = path


class Net:
    """The sites of one test. `make` builds the transport under test."""

    def __init__(self, make: Callable[[Node, Roster], Transport], addresses: list[str]) -> None:
        self.make = make
        self.nodes = [Node(self, index, address) for index, address in enumerate(addresses)]
        self.roster = self.roster_of(self.nodes)

    def roster_of(self, nodes: list[Node], version: int = 1) -> Roster:
        previous = self.roster.digest if version > 1 else Digest(bytes(32))
        roster = draft_roster(
            "conformance",
            [node.card for node in nodes],
            version=version,
            previous=previous,
        )
        for node in nodes:
            roster = sign_roster(roster, node.keys.identity)
        return roster

    async def start(self, count: int) -> list[Node]:
        """Start the first `count` sites and wait until all are connected with each other."""
        nodes = self.nodes[:count]
        await asyncio.gather(*(node.start() for node in nodes))
        await self.meet(nodes)
        return nodes

    async def meet(self, nodes: list[Node]) -> None:
        for node in nodes:
            others = {other.site for other in nodes if other is not node}
            await node.inbox.until(lambda inbox, others=others: others <= inbox.online)

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))


def on_net(
    test: Callable[[Any, Net, Path], Awaitable[None]],
) -> Callable[[Any, Path], None]:
    """Run an async test with a fresh net, which is taken down whatever happens."""

    def run(self: Any, tmp_path: Path) -> None:
        async def body() -> None:
            net = self.net(4)
            try:
                async with asyncio.timeout(240):
                    await test(self, net, tmp_path)
            finally:
                await net.stop()

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def left_behind(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))
