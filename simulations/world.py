"""A deterministic world: the node's own state machines over a virtual network and clock.

Core, dissemination, signatures, ledger entries and averaging are the production code; only wires,
disks and clocks are virtual. Everything random comes from one seed, so a seed and a commit
reproduce a run to the byte: `World.digest()` is the same again."""

import dataclasses
import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from gossip import dissemination as dis
from gossip.envelope import seal
from gossip.identifiers import SiteId, digest_of
from gossip.roster import Roster
from ledger.log import Draft
from p2pfl.core import events as ev
from p2pfl.core.manifest import Manifest
from simulations.site import COMMIT_S, FETCH_S, Fetch, Outgoing, SimulatedSite

FETCH_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class NetworkTerms:
    """How the virtual wires behave. Delays in seconds, loss as a share of messages."""

    delay_min_s: float = 0.005
    delay_max_s: float = 0.030
    loss: float = 0.0


class World:
    """Sites, wires and one clock."""

    def __init__(
        self,
        *,
        seed: int,
        sites: list[SimulatedSite],
        roster: Roster,
        network: NetworkTerms,
        start_s: float,
    ) -> None:
        self.now_s = start_s
        self.sites = {site.id: site for site in sites}
        self.roster = roster
        self.network = network
        self.effects = 0
        """Effects performed so far, by everybody: the place where a test cuts the power."""
        self.before_effect: Callable[[SimulatedSite, int], bool] = lambda _site, _count: False
        """Return True to crash the site instead of performing its next effect."""
        self.cut: set[frozenset[SiteId]] = set()
        """Pairs of sites whose wire lets nothing through; they do not notice."""
        self.one_way: set[tuple[SiteId, SiteId]] = set()
        """(sender, receiver): nothing arrives in this direction; neither of them notices."""
        self.bytes_sent: Counter[SiteId] = Counter()
        self.bytes_received: Counter[SiteId] = Counter()
        self.messages = 0
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._timers: dict[tuple[SiteId, ev.TimerKey], int] = {}
        self._order = itertools.count()
        self._trace = hashlib.sha256()

    # -- running ---------------------------------------------------------------------------------

    def boot(self, site: SimulatedSite) -> None:
        """Start a site's node from what its disk holds, and connect it to those that are up."""
        site.boot(self.roster, self._random.random)
        self.submit(site, site.begin(), 0.0)
        for other in self.sites.values():
            if other.is_up and other is not site:
                self._meet(site, other)
                self._meet(other, site)
        self._tick_later(site)

    def crash(self, site: SimulatedSite) -> None:
        """Power off: what is not on the disk is gone."""
        site.crash()
        for other in self.sites.values():
            if other.is_up:
                self.submit(other, ev.Lost(site.id), 0.0)
                self._disseminate(other, dis.Disconnected(site.id))

    def restart(self, site: SimulatedSite, delay_s: float) -> None:
        """Switch a crashed site's machine on again after a while."""
        self._push(delay_s, lambda: None if site.is_up else self.boot(site))

    def pause(self, site: SimulatedSite, lasts_s: float) -> None:
        """Stop a site's machine for a while: what comes meanwhile, it handles afterwards."""
        site.still_until_s = max(site.still_until_s, self.now_s + lasts_s)

    def command(self, site: SimulatedSite, *drafts: Draft) -> None:
        """What a person's command appends while the node is up or down."""
        entries = site.record(*drafts, now_s=self.now_s + site.clock_off_s)
        if site.is_up:
            self.submit(site, ev.Appended(entries, site.ledger.note), COMMIT_S)

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; False if `limit_s` of virtual time did not do."""
        end_s = self.now_s + limit_s
        while self._queue and not until():
            if self._queue[0][0] > end_s:
                self.now_s = end_s
                return False
            self.now_s, _, call = heapq.heappop(self._queue)
            call()
        return until()

    def at(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do something to the world later, whatever has become of any site."""
        self._push(delay_s, call)

    def digest(self) -> str:
        """SHA-256 over every event and effect so far."""
        return self._trace.hexdigest()

    # -- time and wires --------------------------------------------------------------------------

    def submit(self, site: SimulatedSite, event: ev.Event, delay_s: float) -> None:
        """Let a site's core handle an event a little later."""
        self.later(site, delay_s, lambda: self._handle(site, event))

    def later(self, site: SimulatedSite, delay_s: float, call: Callable[[], None]) -> None:
        """Call at a later time, unless the site has crashed until then."""
        incarnation = site.incarnation

        def due() -> None:
            if site.incarnation != incarnation:
                return
            if site.still_until_s > self.now_s:
                self._push(site.still_until_s - self.now_s, due)
            else:
                call()

        self._push(delay_s, due)

    def _push(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now_s + delay_s, next(self._order), call))

    def _set_timer(self, site: SimulatedSite, timer: ev.TimerFired, delay_s: float) -> None:
        """A later timer under the same key takes the earlier one's place."""
        place, number = (site.id, timer.key), next(self._order)
        self._timers[place] = number

        def fire() -> None:
            if self._timers.get(place) == number:
                del self._timers[place]
                self._handle(site, timer)

        self.later(site, delay_s, fire)

    def _meet(self, site: SimulatedSite, other: SimulatedSite) -> None:
        self.submit(site, ev.Met(other.id), 0.0)
        self.later(site, 0.0, lambda: self._disseminate(site, dis.Connected(other.id)))

    def _tick_later(self, site: SimulatedSite) -> None:
        now_s = self.now_s + site.clock_off_s
        delay_s = max(0.05, site.dissemination.next_tick_s(now_s) - now_s)
        self.later(site, delay_s, lambda: self._tick(site))

    def _tick(self, site: SimulatedSite) -> None:
        self._disseminate(site, dis.Tick())
        self._tick_later(site)

    def _carry(self, source: SimulatedSite, target: SimulatedSite, raw: bytes) -> None:
        terms = self.network
        self.messages += 1
        self.bytes_sent[source.id] += len(raw)
        if not target.is_up or self._random.random() < terms.loss or self._is_cut(source, target):
            return
        span_s = terms.delay_max_s - terms.delay_min_s
        delay_s = terms.delay_min_s + span_s * self._random.random()
        received = dis.Received(source.id, raw)
        self.bytes_received[target.id] += len(raw)
        self.later(target, delay_s, lambda: self._disseminate(target, received))

    def _is_cut(self, source: SimulatedSite, target: SimulatedSite) -> bool:
        is_deaf = (source.id, target.id) in self.one_way
        return is_deaf or frozenset((source.id, target.id)) in self.cut

    # -- events and effects ----------------------------------------------------------------------

    def _handle(self, site: SimulatedSite, event: ev.Event) -> None:
        self._note(site, event)
        now_s = self.now_s + site.clock_off_s
        for effect in site.core.handle(now_s, event):
            if not site.is_up:
                return
            self.effects += 1
            site.next_effect = effect
            if self.before_effect(site, self.effects):
                self.crash(site)
                return
            self._note(site, effect)
            for outgoing in site.perform(effect, now_s):
                self._send_out(site, outgoing)

    def _send_out(self, site: SimulatedSite, outgoing: Outgoing) -> None:
        if isinstance(outgoing.event, ev.TimerFired):
            self._set_timer(site, outgoing.event, outgoing.delay_s)
        elif outgoing.late is not None:
            late = outgoing.late
            self.later(site, outgoing.delay_s, lambda: self._handle(site, late()))
        elif outgoing.event is not None:
            self.submit(site, outgoing.event, outgoing.delay_s)
        if outgoing.offer is not None:
            offer = outgoing.offer
            raw = seal(site.keys.transport, site.id, self.roster.consortium, offer.message)
            scope = dis.Everyone() if offer.sites is None else dis.Sites(offer.sites)
            self._disseminate(
                site, dis.Offer(offer.key, raw, digest_of(raw), scope, offer.expires_s)
            )
        if outgoing.withdraw:
            self._disseminate(site, dis.Withdraw(outgoing.withdraw))
        if outgoing.fetch is not None:
            self._fetch(site, outgoing.fetch)

    def _fetch(self, site: SimulatedSite, fetch: Fetch) -> None:
        """Ask the holders one after the other; again a little later if the job is patient."""
        for holder_id in fetch.sites:
            holder = self.sites.get(holder_id)
            if holder is None or not holder.is_up or holder.still_until_s > self.now_s:
                continue
            if self._is_cut(site, holder) or self._is_cut(holder, site):
                continue
            if fetch.model in holder.blobs and holder.core.may_read(site.id, fetch.model):
                self.bytes_sent[holder.id] += len(holder.blobs[fetch.model])
                self.bytes_received[site.id] += len(holder.blobs[fetch.model])
                arrived = site.take_in(fetch, holder.blobs[fetch.model])
                self.submit(site, arrived, FETCH_S)
                return
        if fetch.failed is None:
            self.later(site, FETCH_AGAIN_S, lambda: self._fetch(site, fetch))
        else:
            self.submit(site, fetch.failed, FETCH_S)

    def _disseminate(self, site: SimulatedSite, event: dis.Event) -> None:
        if not site.is_up:
            return
        for effect in site.dissemination.handle(self.now_s + site.clock_off_s, event):
            match effect:
                case dis.SendTo(site=target, raw=raw):
                    self._carry(site, self.sites[target], raw)
                case dis.Broadcast(raw=raw):
                    for other in self.sites.values():
                        if other is not site:
                            self._carry(site, other, raw)
                case dis.Deliver(envelope=envelope):
                    self.submit(site, ev.Delivered(envelope.sender, envelope.message), 0.0)
                case dis.Refused(source=source, error=error):
                    self.submit(site, ev.PeerRefused(source, error.rule), 0.0)

    def _note(self, site: SimulatedSite, what: object) -> None:
        line = f"{self.now_s:.6f} {site.name} {canonical(what)}\n"
        self._trace.update(line.encode())


def canonical(value: object) -> str:
    """A text that is the same in every process: sets sorted, bytes as hexadecimal."""
    match value:
        case bytes():
            return value.hex() if len(value) <= 64 else hashlib.sha256(value).hexdigest()
        case Enum():
            return str(value)
        case frozenset() | set():
            return "{" + ",".join(sorted(canonical(item) for item in value)) + "}"
        case tuple() | list():
            return "(" + ",".join(canonical(item) for item in value) + ")"
        case Mapping():
            pairs = sorted((canonical(k), canonical(v)) for k, v in value.items())
            return "{" + ",".join(f"{k}:{v}" for k, v in pairs) + "}"
        case Manifest():
            return value.study_id.hex()
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = (canonical(getattr(value, f.name)) for f in dataclasses.fields(value))
            return f"{type(value).__name__}({','.join(fields)})"
        case _:
            return repr(value)
