"""How every site gets every message that is for it, though sends and broadcasts lose some.

A state machine without I/O, clock or randomness of its own: `handle(now_s, event)` returns what
is to be done. Messages for some sites are pushed straight to them; messages for everyone are
broadcast, kept, and passed on also when they come from others. What was lost is repaired by
reconciliation: each site tells each connected peer from time to time what it holds for it
(`Inventory`), and the peer asks for what it has not seen (`Wanted`).

Each message is delivered once, by its digest. What a peer can cost is bounded by
`DisseminationLimits`; whatever breaks a rule comes out as `Refused` with the rule's name.
It knows who may write what, not what it means.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, assert_never

from gossip import messages
from gossip.dissemination_events import (
    Broadcast,
    Connected,
    Counts,
    Deliver,
    Disconnected,
    Effect,
    Event,
    Offer,
    Received,
    Refused,
    RosterChanged,
    SendTo,
    Tick,
    Withdraw,
)
from gossip.envelope import Envelope, open_envelope, seal
from gossip.errors import (
    NotOnRoster,
    PeerError,
    RelayedMembership,
    RelayedReconciliation,
    RelayedUpdate,
    RelayedWitnessing,
    TooFast,
    UnknownMessage,
    UnsendableMessage,
)
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.items import Everyone, Item, ItemStore, Scope, Sites
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
    INVENTORY_IDS_MAX,
    WANTED_IDS_MAX,
    DisseminationLimits,
)
from gossip.messages import (
    Inventory,
    UpdateAnnounced,
    Wanted,
)
from gossip.peer_state import KindBounds, PeerState, kind_bounds
from gossip.roster import Roster
from gossip.roster_messages import RosterMessage
from gossip.seen import SeenDigests
from gossip.witness_messages import WitnessMessage

__all__ = [
    "Broadcast",
    "Connected",
    "Counts",
    "Deliver",
    "Disconnected",
    "Dissemination",
    "Effect",
    "Event",
    "Everyone",
    "Offer",
    "Received",
    "Refused",
    "RosterChanged",
    "Scope",
    "SendTo",
    "Sites",
    "Tick",
    "Withdraw",
]


_OWN_KIND: Final = 0
_UNKNOWN_KIND: Final = -1
_UNKNOWN_SEEN_MAX: Final = 64


class Dissemination:
    """One site's part of the dissemination. See the module's text.

    random: uniform in [0, 1), for jitter only. Time is unix seconds; it may be set back.
    """

    def __init__(
        self,
        *,
        site: SiteId,
        transport_seed: bytes,
        roster: Roster,
        random: Callable[[], float],
        limits: DisseminationLimits | None = None,
    ) -> None:
        self._site = site
        self._seed = transport_seed
        self._roster = roster
        self._random = random
        self._limits = DisseminationLimits() if limits is None else limits
        self._items = ItemStore(self._limits)
        self._seen = SeenDigests()
        self._peers: dict[SiteId, PeerState] = {}
        self._counts = Counts()
        self._tick_s: float | None = None

    @property
    def counts(self) -> Counts:
        """A copy of the counters."""
        return replace(self._counts)

    @property
    def stored_bytes(self) -> int:
        """Of all messages kept."""
        return self._items.stored_bytes

    @property
    def stored_items(self) -> int:
        """How many messages are kept, own and others'."""
        return len(self._items)

    @property
    def seen_digests(self) -> int:
        """How many digests are remembered."""
        return len(self._seen)

    def next_tick_s(self, now_s: float) -> float:
        """When the next `Tick` is useful; at least every reconcile interval."""
        interval_s = self._limits.reconcile_s
        last_s = now_s if self._tick_s is None else min(self._tick_s, now_s)
        dues = [peer.due_s for peer in self._peers.values() if peer.connected]
        return min([last_s + interval_s, *dues])

    def handle(self, now_s: float, event: Event) -> list[Effect]:
        """What to do about an event. Nothing that a peer sends makes it raise.

        Raises UnsendableMessage for an `Offer` that no peer would take: our bug.
        """
        match event:
            case Offer():
                return self._offer(now_s, event)
            case Withdraw(key=key):
                self._items.withdraw(key)
                return []
            case Connected(site=site):
                return self._connected(now_s, site)
            case Disconnected(site=site):
                if site in self._peers:
                    self._peers[site].connected = False
                return []
            case Received(source=source, raw=raw):
                return self._received(now_s, source, raw)
            case Tick():
                return self._tick(now_s)
            case RosterChanged(roster=roster):
                self._change_roster(roster)
                return []
            case _:
                assert_never(event)

    def _offer(self, now_s: float, offer: Offer) -> list[Effect]:
        if len(offer.raw) > ENVELOPE_BYTES_MAX or digest_of(offer.raw) != offer.digest:
            raise UnsendableMessage(f"offer {offer.key!r} is too large or has another digest")
        item, evicted = self._items.add_own(
            offer.key, offer.raw, offer.digest, offer.scope, self._site, offer.expires_s
        )
        self._counts.evicted_own += evicted
        # We must not ask peers for it after it was withdrawn.
        self._seen.add((self._site, _OWN_KIND), offer.digest, self._limits.own_items_max)
        match offer.scope:
            case Everyone():
                return [Broadcast(offer.raw)]
            case Sites(sites=sites):
                # Other sites may make us say the same again and again.
                within_s = self._limits.resend_s
                due = [s for s in sorted(sites) if not item.was_sent(s, now_s, within_s)]
                reachable = [s for s in due if s in self._peers and self._peers[s].connected]
                return [self._send_item(now_s, site, item) for site in reachable]
            case _:
                assert_never(offer.scope)

    def _connected(self, now_s: float, site: SiteId) -> list[Effect]:
        peer = self._peer(site)
        if peer is None:
            return []
        peer.connected = True
        peer.asked_s.clear()
        peer.due_s = now_s
        # A site that reconnects all the time gets no inventory each time.
        last_s = peer.inventory_s
        if last_s is not None and 0.0 <= now_s - last_s < self._limits.resend_s:
            peer.due_s = last_s + self._limits.resend_s
        return self._reconcile(now_s, site, peer)

    def _tick(self, now_s: float) -> list[Effect]:
        self._tick_s = now_s
        self._counts.expired += self._items.tidy(now_s)
        effects: list[Effect] = []
        for site in sorted(self._peers):
            peer = self._peers[site]
            if peer.connected:
                effects += self._reconcile(now_s, site, peer)
        return effects

    def _reconcile(self, now_s: float, site: SiteId, peer: PeerState) -> list[Effect]:
        interval_s = self._limits.reconcile_s
        # A due time further away than any jitter allows means that the clock was set back.
        if now_s < peer.due_s <= now_s + 2.0 * interval_s:
            return []
        peer.due_s = now_s + interval_s * (0.8 + 0.4 * self._random())
        window = self._items.window_for(site, peer.window_end, INVENTORY_IDS_MAX)
        if not window:
            return []
        peer.window_end = window[-1].number
        peer.inventory_s = now_s
        self._counts.inventories_sent += 1
        return [self._send(site, Inventory(tuple(sorted(item.digest for item in window))))]

    def _received(self, now_s: float, source: SiteId, raw: bytes) -> list[Effect]:
        peer = self._peer(source)
        if peer is None:
            return self._refuse(source, NotOnRoster("no member", actual=source.hex()))
        if not peer.source_messages.take(now_s) or not peer.source_bytes.take(now_s, len(raw)):
            return self._too_fast(now_s, source, peer, "messages or bytes")
        # Hashing costs less than verifying; only the size comes before.
        if len(raw) <= ENVELOPE_BYTES_MAX and digest_of(raw) in self._seen:
            self._counts.duplicates += 1
            return []
        try:
            envelope = open_envelope(raw, self._roster, source)
        except UnknownMessage as error:
            # A newer version's honest message: one notice is enough, it will be offered again.
            self._seen.add((source, _UNKNOWN_KIND), digest_of(raw), _UNKNOWN_SEEN_MAX)
            return self._refuse(source, error)
        except PeerError as error:
            return self._refuse(source, error)
        return self._opened(now_s, source, peer, envelope)

    def _opened(
        self, now_s: float, source: SiteId, peer: PeerState, envelope: Envelope
    ) -> list[Effect]:
        limits = self._limits
        if isinstance(envelope.message, WitnessMessage | RosterMessage):
            return self._told_straight(now_s, source, peer, envelope)
        match envelope.message:
            case Inventory(ids=ids) | Wanted(ids=ids):
                if envelope.sender != source:
                    return self._refuse(source, _relayed(RelayedReconciliation, envelope, source))
                if not peer.reconcile.take(now_s):
                    return self._too_fast(now_s, source, peer, "inventories and requests")
                if isinstance(envelope.message, Inventory):
                    return self._ask(now_s, source, peer, ids)
                return self._answer(now_s, source, peer, ids)
            case UpdateAnnounced():
                # Refused before it is remembered: else a relay could make us miss the original.
                if envelope.sender != source:
                    return self._refuse(source, _relayed(RelayedUpdate, envelope, source))
                group = (envelope.sender, messages.UPDATE_ANNOUNCED)
                self._seen.add(group, envelope.digest, limits.seen_updates_per_origin_max)
                return self._deliver(envelope, source)
            case _:
                bounds = kind_bounds(envelope.message, limits)
                return self._for_everyone(now_s, source, envelope, bounds)

    def _told_straight(
        self, now_s: float, source: SiteId, peer: PeerState, envelope: Envelope
    ) -> list[Effect]:
        """Delivered every time: each of them is answered from what is held."""
        about_logs = isinstance(envelope.message, WitnessMessage)
        if envelope.sender != source:
            rule = RelayedWitnessing if about_logs else RelayedMembership
            return self._refuse(source, _relayed(rule, envelope, source))
        if not (peer.witness if about_logs else peer.roster).take(now_s):
            what = "messages about logs" if about_logs else "messages about the roster"
            return self._too_fast(now_s, source, peer, what)
        return self._deliver(envelope, source)

    def _for_everyone(
        self, now_s: float, source: SiteId, envelope: Envelope, bounds: KindBounds
    ) -> list[Effect]:
        origin = envelope.sender
        if origin == self._site:
            self._counts.echoes += 1
            return []
        author = self._peers.setdefault(origin, PeerState(self._limits))
        if not author.may_write(now_s, bounds.kind, is_direct=origin == source):
            if origin == source:
                return self._too_fast(now_s, source, author, "messages for everyone")
            # Not the relay's fault; it stays unseen and is asked for again later.
            self._counts.over_rate += 1
            return []
        self._seen.add((origin, bounds.kind), envelope.digest, bounds.seen_max)
        self._counts.evicted_relayed += self._items.add_relayed(
            envelope.raw,
            envelope.digest,
            origin,
            bounds.kind,
            bounds.relayed_max,
            now_s + self._limits.relayed_s,
        )
        return self._deliver(envelope, source)

    def _ask(
        self, now_s: float, source: SiteId, peer: PeerState, ids: tuple[Digest, ...]
    ) -> list[Effect]:
        again_s = self._limits.ask_again_s
        peer.asked_s = {
            digest: asked_s
            for digest, asked_s in peer.asked_s.items()
            if digest not in self._seen and 0.0 <= now_s - asked_s < again_s
        }
        missing = [
            digest for digest in ids if digest not in self._seen and digest not in peer.asked_s
        ]
        room = min(self._limits.asks_per_peer_max - len(peer.asked_s), WANTED_IDS_MAX)
        # From a random place on: ids that never come must not stand before the others for ever.
        start = int(self._random() * len(missing))
        wanted = (missing[start:] + missing[:start])[: max(0, room)]
        if not wanted:
            return []
        peer.asked_s.update(dict.fromkeys(wanted, now_s))
        self._counts.wanted_sent += 1
        return [self._send(source, Wanted(tuple(sorted(wanted))))]

    def _answer(
        self, now_s: float, source: SiteId, peer: PeerState, ids: tuple[Digest, ...]
    ) -> list[Effect]:
        effects: list[Effect] = []
        for digest in ids:
            item = self._items.get(digest)
            if item is None or not item.is_for(source):
                self._counts.items_not_for_asker += 1
            elif not item.was_sent(source, now_s, self._limits.resend_s) and peer.repair_bytes.take(
                now_s, len(item.raw)
            ):
                self._counts.items_resent += 1
                effects.append(self._send_item(now_s, source, item))
        return effects

    def _deliver(self, envelope: Envelope, source: SiteId) -> list[Effect]:
        self._counts.delivered += 1
        return [Deliver(envelope, source)]

    def _refuse(self, source: SiteId, error: PeerError) -> list[Effect]:
        self._counts.refused += 1
        return [Refused(source, error)]

    def _too_fast(self, now_s: float, source: SiteId, peer: PeerState, what: str) -> list[Effect]:
        self._counts.over_rate += 1
        noticed_s = peer.noticed_s
        if noticed_s is not None and 0.0 <= now_s - noticed_s < self._limits.refusal_notice_s:
            return []
        peer.noticed_s = now_s
        return self._refuse(source, TooFast(f"{what} above the agreed rate"))

    def _send_item(self, now_s: float, site: SiteId, item: Item) -> SendTo:
        item.sent_s[site] = now_s
        return SendTo(site, item.raw)

    def _send(self, site: SiteId, message: Inventory | Wanted) -> SendTo:
        return SendTo(site, seal(self._seed, self._site, self._roster.consortium, message))

    def _peer(self, site: SiteId) -> PeerState | None:
        """A member's state; None for strangers and for this site itself."""
        if site == self._site or site not in self._roster:
            return None
        return self._peers.setdefault(site, PeerState(self._limits))

    def _change_roster(self, roster: Roster) -> None:
        before = self._roster
        self._roster = roster
        for site in before.sites:
            if site not in roster:
                self._peers.pop(site, None)
                self._seen.forget_site(site)
                self._items.drop_relayed_of(site)
            elif roster.member(site).transport_pk != before.member(site).transport_pk:
                # Nobody could verify these any longer and we would be blamed for them.
                self._items.drop_relayed_of(site)


def _relayed(rule: type[PeerError], envelope: Envelope, source: SiteId) -> PeerError:
    return rule(
        "not sent by its author", expected=envelope.sender.hex()[:16], actual=source.hex()[:16]
    )
