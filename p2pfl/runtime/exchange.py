"""Dissemination wired to a transport: what the node offers goes out, what arrives is verified.

All of it runs on the asyncio loop. Sends are started, never awaited by whoever offers: a slow
neighbour costs nobody else anything."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from gossip import dissemination as dis
from gossip.envelope import Envelope, seal
from gossip.errors import TransportError
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.messages import Message
from gossip.roster import Roster
from gossip.roster_messages import RosterMessage
from gossip.standing import Standing, StandingLimits
from gossip.transport import Transport
from gossip.witness_messages import ForkTold, WitnessMessage
from p2pfl.core import events as ev
from p2pfl.core import membership_terms as members
from p2pfl.core import witnessing_terms as terms

SENDS_PER_SITE_MAX = 256
"""Messages under way to one site; more are dropped and repaired by reconciliation."""
SENDS_TOGETHER_MAX = 64
"""So many of them are handed over before one of them is known to have left. Each goes through two
threads and back: where processor time is short that takes a second, and many wait for it."""
FAREWELL_S = 1.0
"""How long a member that was removed is given to take the reason."""
RULES_MAX = 256
"""Different reasons for turning somebody away that are counted by name."""
HEARD_SLOWLY = "HeardSlowly"
POINTS = {
    "TooFast": 20.0,
    "TooManyHeads": 20.0,
    "PushFlood": 20.0,
    "GossipFlood": 20.0,
    "MultiplexerFlood": 50.0,
}
"""What one notice of a broken rule costs; notices of floods stand for many messages."""
STANDING_LIMITS = StandingLimits()


class Exchange:
    """The node's ear and mouth. Implements the transport's `Inbox`."""

    def __init__(
        self,
        *,
        site: SiteId,
        transport_seed: bytes,
        roster: Roster,
        transport: Transport,
        clock: Callable[[], float],
        random: Callable[[], float],
        submit: Callable[[ev.Event], None],
        may_read: Callable[[SiteId, bytes], bool],
        blob_path: Callable[[Digest], Path | None],
        on_refused: Callable[[str, str], None],
        about_logs: Callable[[terms.WitnessInput], None],
        about_members: Callable[[members.MembershipEvent], None],
    ) -> None:
        self.dissemination = dis.Dissemination(
            site=site, transport_seed=transport_seed, roster=roster, random=random
        )
        self._site = site
        self._seed = transport_seed
        self._roster = roster
        self._transport = transport
        self._clock = clock
        self._submit = submit
        self._may_read = may_read
        self._blob_path = blob_path
        self._on_refused = on_refused
        self._about_logs = about_logs
        self._about_members = about_members
        self.turned_away: Counter[str] = Counter()
        """What was refused below the envelopes, by rule, as far as the transport told of it."""
        self._queues: dict[SiteId, asyncio.Queue[bytes]] = {}
        self._senders: dict[SiteId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._standings: dict[SiteId, Standing] = {}
        self.unheard = 0
        """Messages of members that are heard slowly which nobody looked at."""
        self._ticker: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen and dial. Raises TransportError when the address cannot be had."""
        await self._transport.start(self)
        self._tick_later()

    async def stop(self) -> None:
        """Stop talking; nothing is delivered afterwards."""
        if self._ticker is not None:
            self._ticker.cancel()
        await self._transport.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def offer(
        self, key: str, message: Message, sites: frozenset[SiteId] | None, expires_s: float
    ) -> None:
        """Sign a message and see that it arrives. `sites` None means every member."""
        raw = self._sealed(message)
        scope = dis.Everyone() if sites is None else dis.Sites(sites)
        self._handle(dis.Offer(key, raw, digest_of(raw), scope, expires_s))

    def tell(self, site: SiteId, message: WitnessMessage | RosterMessage) -> None:
        """Send a message straight to a connected site; if it gets lost it is lost."""
        if site in self._roster:
            self._send(site, self._sealed(message))

    async def tell_last(self, sites: Sequence[SiteId], message: RosterMessage) -> None:
        """Send what a site is told before its connection is cut, if it takes it in time."""
        raw = self._sealed(message)
        telling = [self._transport.send(site, raw) for site in sites]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.gather(*telling, return_exceptions=True)

    def _sealed(self, message: Message) -> bytes:
        return seal(self._seed, self._site, self._roster.consortium, message)

    def set_roster(self, roster: Roster) -> None:
        """Members from now on."""
        self._roster = roster
        self._transport.set_roster(roster)
        self._handle(dis.RosterChanged(roster))
        for site in [site for site in self._standings if site not in roster]:
            del self._standings[site]
        for site in [site for site in self._queues if site not in roster]:
            del self._queues[site]
            self._senders.pop(site).cancel()

    def set_farewells(self, farewells: Mapping[bytes, RosterMessage]) -> None:
        """What former members are told when they dial, by their transport keys."""
        sealed = {key: self._sealed(message) for key, message in farewells.items()}
        self._transport.set_farewells(sealed)

    @property
    def waiting(self) -> int:
        """Messages to single sites that were not handed to the network yet."""
        return sum(queue.qsize() for queue in self._queues.values())

    def withdraw(self, key: str) -> None:
        """Stop offering what is under this key."""
        self._handle(dis.Withdraw(key))

    # -- the transport's inbox -------------------------------------------------------------------

    def connected(self, site: SiteId) -> None:
        """See `Inbox`."""
        met = ev.Met(site)
        self._submit(met)
        self._about_logs(met)
        self._about_members(met)
        self._handle(dis.Connected(site))

    def disconnected(self, site: SiteId) -> None:
        """See `Inbox`."""
        lost = ev.Lost(site)
        self._submit(lost)
        self._about_logs(lost)
        self._about_members(lost)
        self._handle(dis.Disconnected(site))

    def received(self, source: SiteId, raw: bytes) -> None:
        """See `Inbox`."""
        standing = self._standings.get(source)
        if standing is not None and not standing.hears(self._clock()):
            self.unheard += 1
            return
        self._handle(dis.Received(source, raw))

    def refused(self, address_or_site: str, reason: str) -> None:
        """See `Inbox`."""
        rule = reason.partition(":")[0]
        known = rule in self.turned_away or len(self.turned_away) < RULES_MAX
        self.turned_away[rule if known else "Other"] += 1
        self._on_refused(address_or_site, reason)
        named = next((site for site in self._roster.sites if site.hex() == address_or_site), None)
        if named is not None:
            self.blame(named, rule)

    def blame(self, site: SiteId, rule: str) -> None:
        """A member broke a rule: count it; one that breaks very many is heard slowly for a while.

        That goes on record like a broken rule, and is no ban: see `gossip.standing`."""
        if site not in self._roster or rule == HEARD_SLOWLY:
            return
        standing = self._standings.setdefault(site, Standing(STANDING_LIMITS))
        if standing.blame(self._clock(), POINTS.get(rule, 1.0)):
            self._submit(ev.PeerRefused(site, HEARD_SLOWLY))

    def heard_slowly(self) -> list[SiteId]:
        """Members that broke so many rules lately that most of what they send is left aside."""
        now_s = self._clock()
        return sorted(s for s, standing in self._standings.items() if standing.is_slow(now_s))

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        """See `Inbox`."""
        return self._blob_path(digest) if self._may_read(site, digest) else None

    # -- effects ---------------------------------------------------------------------------------

    def _handle(self, event: dis.Event) -> None:
        for effect in self.dissemination.handle(self._clock(), event):
            match effect:
                case dis.SendTo(site=site, raw=raw):
                    self._send(site, raw)
                case dis.Broadcast(raw=raw):
                    self._start(self._broadcast(raw))
                case dis.Deliver(envelope=envelope):
                    self._deliver(envelope)
                case dis.Refused(source=source, error=error):
                    self._submit(ev.PeerRefused(source, error.rule))

    def _deliver(self, envelope: Envelope) -> None:
        if isinstance(envelope.message, WitnessMessage | ForkTold):
            self._about_logs(terms.Said(envelope.sender, envelope.message))
        elif isinstance(envelope.message, RosterMessage):
            self._about_members(members.Said(envelope.sender, envelope.message))
        else:
            self._submit(ev.Delivered(envelope.sender, envelope.message))

    def _send(self, site: SiteId, raw: bytes) -> None:
        queue = self._queues.get(site)
        if queue is None:
            queue = self._queues[site] = asyncio.Queue(SENDS_PER_SITE_MAX)
            self._senders[site] = self._start(self._send_in_order(site, queue))
        if not queue.full():
            queue.put_nowait(raw)

    async def _send_in_order(self, site: SiteId, queue: asyncio.Queue[bytes]) -> None:
        while True:
            together = [await queue.get()]
            while len(together) < SENDS_TOGETHER_MAX and not queue.empty():
                together.append(queue.get_nowait())
            sending = (self._transport.send(site, raw) for raw in together)
            for outcome in await asyncio.gather(*sending, return_exceptions=True):
                # Reconciliation sends it again once the site is back.
                if isinstance(outcome, BaseException) and not isinstance(outcome, TransportError):
                    raise outcome

    async def _broadcast(self, raw: bytes) -> None:
        try:
            await self._transport.broadcast(raw)
        except TransportError:
            return  # reconciliation repairs what the mesh loses

    def _start(self, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tick_later(self) -> None:
        now_s = self._clock()
        delay_s = max(0.05, self.dissemination.next_tick_s(now_s) - now_s)
        self._ticker = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._handle(dis.Tick())
        self._tick_later()
