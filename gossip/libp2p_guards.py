"""What stands between strangers, hostile members and libp2p.

Each guard answers a danger that was reproduced with py-libp2p 0.8.1: only Noise and Yamux are
offered; a peer must prove a transport key of the roster before it gets a multiplexer; a read
never allocates what a peer merely announced; a connection cannot fill our memory; and no
exception that a peer can provoke leaves its own connection.
"""

import collections
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_keys
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.security.noise.exceptions import NoiseFailure
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP

from gossip.errors import NotOnRoster
from gossip.identifiers import SiteId
from gossip.libp2p_farewell import Farewells
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_links import Sockets
from gossip.libp2p_session import QuickSession
from gossip.rate import TokenBucket
from gossip.roster import Roster


def peer_id_of(transport_pk: bytes) -> ID:
    """libp2p's name of an Ed25519 transport key: the key itself in an identity multihash."""
    return ID.from_pubkey(Ed25519PublicKey.from_bytes(transport_pk))


class Access:
    """Which peers are members, by the roster of now. Replaced from the asyncio thread."""

    def __init__(self, roster: Roster, own_pk: bytes) -> None:
        self._own_pk = own_pk
        self._roster = roster
        self._sites: dict[bytes, SiteId] = {}
        self._peers: dict[SiteId, ID] = {}
        self._learnt: dict[SiteId, tuple[str, ...]] = {}
        self.farewells = Farewells()
        self.replace(roster)

    def replace(self, roster: Roster) -> None:
        """Take another roster. Readers see the old or the new one, never a mixture of a table."""
        peers = {
            card.site: peer_id_of(card.transport_pk)
            for card in roster.members
            if card.transport_pk != self._own_pk
        }
        self._roster = roster
        self._peers = peers
        self._sites = {peer.to_bytes(): site for site, peer in peers.items()}
        self._learnt = {site: told for site, told in self._learnt.items() if site in peers}

    @property
    def roster(self) -> Roster:
        """The roster in force."""
        return self._roster

    def site_of(self, peer: ID) -> SiteId | None:
        """The member behind a proved peer id; None for strangers and for our own key."""
        return self._sites.get(peer.to_bytes())

    def peer_of(self, site: SiteId) -> ID | None:
        """The peer id of a member other than ourselves."""
        return self._peers.get(site)

    def learn(self, site: SiteId, addresses: tuple[str, ...]) -> None:
        """Where a member may be, too, by hearsay. The newest hearsay counts."""
        if site in self._peers:
            self._learnt[site] = addresses

    def addresses_of(self, site: SiteId) -> tuple[str, ...]:
        """Where to dial a member: what its card says, then hearsay. Empty for strangers."""
        if site not in self._roster:
            return ()
        return tuple(
            dict.fromkeys(self._roster.member(site).addresses + self._learnt.get(site, ()))
        )

    def others(self) -> tuple[SiteId, ...]:
        """All members but ourselves, sorted."""
        return tuple(sorted(self._peers))


class Refusals:
    """Counts who was turned away and why, and tells the node as often as is bearable."""

    def __init__(self, limits: NetLimits, notify: Callable[[str, str], None]) -> None:
        self._notify = notify
        self._bucket = TokenBucket(per_s=limits.notices_per_s, burst=limits.notices_burst)
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, who: str, rule: str, detail: str = "") -> None:
        """who: "host:port" or a site's hex name. rule: the counter's name."""
        self.counts[rule] += 1
        if self._bucket.take(trio.current_time()):
            self._notify(who, f"{rule}: {detail}" if detail else rule)


def address_of(connection: Any) -> str:
    """ "host:port" of the other end, for reports."""
    with contextlib.suppress(Exception):
        remote = connection.get_remote_address()
        if remote is not None:
            return f"{remote[0]}:{remote[1]}"
    return "unknown address"


def shielded(timeout_s: float) -> trio.CancelScope:
    """A scope that no cancellation from outside ends, but time does."""
    return trio.CancelScope(deadline=trio.current_time() + timeout_s, shield=True)


class NotAMember(NoiseFailure):  # type: ignore[misc] # libp2p is untyped here
    """The peer proved a key that is not on the roster."""


class RosterNoise(NoiseTransport):  # type: ignore[misc] # libp2p is untyped here
    """Noise XX that lets only members through, in both directions (danger 8)."""

    def __init__(self, keys: KeyPair, access: Access, refusals: Refusals, sockets: Sockets) -> None:
        super().__init__(keys, noise_privkey=new_noise_keys().private_key)
        self._access = access
        self._refusals = refusals
        self._sockets = sockets

    async def secure_inbound(self, conn: Any) -> Any:
        """Handshake as responder. Raises NotAMember."""
        return await self._admit(conn, await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: ID) -> Any:
        """Handshake as initiator. Raises NotAMember."""
        return await self._admit(conn, await super().secure_outbound(conn, peer_id))

    async def _admit(self, conn: Any, session: Any) -> Any:
        peer = session.get_remote_peer()
        if self._access.site_of(peer) is None:
            if self._access.farewells.knows(peer.to_bytes()) and not session.is_initiator:
                return QuickSession(session)  # let in as far as it takes to tell it why it is not
            self._refusals.add(
                address_of(conn), NotOnRoster.__name__, f"transport key {peer.to_bytes()[6:].hex()}"
            )
            await session.close()
            raise NotAMember(str(peer))
        self._sockets.proved(conn.stream, peer)
        return QuickSession(session)


TCP_S = 4.0
"""How long a socket may take to be connected. The system asks after 0, 1, 3 and 7 s: by then a line
that was cut and is whole again is found sooner by dialling anew."""


class PlainTCP(TCP):  # type: ignore[misc] # libp2p is untyped here
    """TCP whose connections are bounded also before the handshake."""

    def __init__(self, sockets: Sockets) -> None:
        super().__init__()
        self._sockets = sockets

    async def dial(self, maddr: Any) -> Any:
        """Connect to /ip4|ip6/…/tcp/…; names were resolved before. Raises OpenConnectionError."""
        host = maddr.value_for_protocol("ip6" if "/ip6/" in str(maddr) else "ip4")
        port = int(maddr.value_for_protocol("tcp"))
        try:
            with trio.fail_after(TCP_S):
                stream = await trio.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            raise OpenConnectionError(f"{host}:{port}: {error}") from error
        adopted = self._sockets.adopt(stream)
        adopted.is_dialled = True
        return RawConnection(adopted, True)


StreamHandler = Callable[[Any], Awaitable[None]]


def guarded(
    handler: StreamHandler, access: Access, refusals: Refusals, limits: NetLimits
) -> StreamHandler:
    """A stream handler that serves members only, few streams of each, and never raises (danger 2).

    An exception that leaves a handler, even StreamReset, would end the whole host.
    """
    open_streams: collections.Counter[bytes] = collections.Counter()

    async def run(stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        site = access.site_of(peer)
        if site is None:
            refusals.add(address_of(stream), NotOnRoster.__name__, "on an open connection")
            await reset_quietly(stream)
            return
        key = peer.to_bytes()
        if open_streams[key] >= limits.streams_per_protocol_max:
            refusals.add(site.hex(), "TooManyStreams")
            await reset_quietly(stream)
            return
        open_streams[key] += 1
        try:
            await handler(stream)
        except StreamError:
            # The peer ended the stream or lost its connection: nothing to count.
            await reset_quietly(stream)
        except Exception as error:
            refusals.counts[f"StreamError.{type(error).__name__}"] += 1
            await reset_quietly(stream)
        finally:
            open_streams[key] -= 1
            if open_streams[key] <= 0:
                del open_streams[key]

    return run


async def reset_quietly(stream: Any) -> None:
    """Reset a stream whatever state it is in, and let go of what came on it and nobody reads."""
    with shielded(1.0):
        with contextlib.suppress(Exception):
            await stream.reset()
        with contextlib.suppress(Exception):
            await stream.muxed_stream.conn.forget(stream.muxed_stream)


async def close_connection(conn: Any) -> None:
    """Close a connection whatever state it is in."""
    with shielded(3.0), contextlib.suppress(Exception):
        await conn.close()


async def close_quietly(stream: Any) -> None:
    """Close a stream whatever state it is in."""
    with shielded(1.0), contextlib.suppress(Exception):
        await stream.close()
