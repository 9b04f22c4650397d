"""What a transport does for a node, and what it expects of one.

A transport moves bytes between sites whose transport keys are on the roster and proves to each
end who the other one is. It knows nothing of messages, studies or learning.
Implementations: `gossip.memory_transport`, `gossip.libp2p_transport`; both pass one suite.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gossip.identifiers import Digest, SiteId
from gossip.roster import Roster


@dataclass(frozen=True, slots=True)
class Link:
    """The line to one member. Bytes and resent packets are counted since the node started.

    round_trip_s: None without a connection, or where the kernel does not tell.
    """

    round_trip_s: float | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    resent_packets: int = 0
    queued_frames: int = 0
    queued_bytes: int = 0


class Inbox(Protocol):
    """Where a transport reports.

    Every method is called on the asyncio loop's thread, never blocks and never raises.
    """

    def connected(self, site: SiteId) -> None:
        """`site` proved its transport key and can be sent to. Once until `disconnected`."""

    def disconnected(self, site: SiteId) -> None:
        """The last working connection to `site` is gone."""

    def received(self, source: SiteId, raw: bytes) -> None:
        """`raw` (at most `limits.ENVELOPE_BYTES_MAX` bytes) came over a connection with `source`.

        For broadcasts `source` is the member that published them, whoever passed them on; what is
        inside may still be another's.
        The same bytes may come several times.
        """

    def refused(self, address_or_site: str, reason: str) -> None:
        """Somebody was turned away: a stranger, a flood, garbage on a stream.

        address_or_site: "host:port" of an unproven peer, or a site's hex name.
        """

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        """The file with this SHA-256 if `site` may have it now, else None."""


class Transport(Protocol):
    """Authenticated connections to the other members. Used from one asyncio loop only."""

    async def start(self, inbox: Inbox) -> None:
        """Listen, dial the roster's addresses, keep trying. Returns once listening.

        Raises TransportError when the listening address cannot be had.
        """

    async def stop(self) -> None:
        """Close everything; no inbox call comes after it returned. May be called twice."""

    async def send(self, site: SiteId, raw: bytes) -> None:
        """Push `raw` to a connected site; what is sent to one site arrives in order or not at all.

        Returning does not mean that it arrived: a connection that dies loses what was under way.
        Raises Unreachable, TransportStopped; ValueError above `limits.ENVELOPE_BYTES_MAX` bytes.
        """

    async def broadcast(self, raw: bytes) -> None:
        """Publish `raw` to all members through the mesh. May be lost. Raises TransportStopped."""

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Download a blob to the file `into`, verified: exactly `size_bytes` with this SHA-256.

        into: appears complete or not at all; a partial transfer beside it is resumed. After a power
        cut it may be damaged: who needs it to last syncs it.
        progress: called with the bytes had so far.
        Raises FetchFailed (one subclass per cause), Unreachable, TransportStopped.
        """

    def set_roster(self, roster: Roster) -> None:
        """Members from now on; connections with sites that left are closed."""

    def set_farewells(self, farewells: Mapping[bytes, bytes]) -> None:
        """What former members are told when they dial in vain: transport key → `raw`.

        They receive it as if it had been pushed, before the connection is closed."""

    def connected_sites(self) -> frozenset[SiteId]:
        """Sites that `send` can reach now."""
