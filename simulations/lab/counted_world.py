"""Many sites, wires and one clock, with signatures and ledger writes counted.

Messages between cores are delayed, lost and repeated as dissemination would; what everyone must
know (proposals, decisions of the start, heads of logs) is counted and taken as known. Each site's
trace covers every event and effect: time, kind, and the hash of each model.

A world may be one part of a larger one: of the sites of other parts it knows who they are."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from gossip.identifiers import SiteId
from gossip.messages import StudyDecision, UpdateAnnounced
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, StudyId
from simulations.lab.agenda import Agenda, What
from simulations.lab.counted_site import CountedOffer, CountedSite, Payload, payload_of
from simulations.lab.exchange import Exchange, Parcel, Place, Standing
from simulations.lab.labour import AVERAGE_S, SCORE_S, Labour
from simulations.lab.terms import Network
from simulations.site import COMMIT_S, ENVIRONMENT, FETCH_S, OPEN_S

WINDOW_MIN_S: Final = 0.001
"""Virtual time passes in windows as long as the network's shortest delay, or this."""
LOOK_EVERY_WINDOWS: Final = 50
LINGER_S: Final = 1.0
"""After the last site has come to its end: the last scores are still on their way."""
RECONCILE_S: Final = 5.0
"""What dissemination takes on average to repair a loss."""
ANNOUNCEMENT_BYTES: Final = 520
"""A sealed announcement without its payload, its signed head included."""
MESSAGE_BYTES: Final = 260
INLINE_BYTES_MAX: Final = 16 * 1024

Look = Callable[[int], None]
"""Is told how many site-rounds were played."""


class CountedWorld:
    """See the module's text. labour: what training, scoring and averaging come to."""

    def __init__(
        self,
        *,
        sites: list[CountedSite],
        roster: Roster,
        manifest: Manifest,
        network: Network,
        labour: Labour,
        start_s: float,
        exchange: Exchange,
    ) -> None:
        self.agenda = Agenda(start_s)
        self.submit = self.agenda.submit
        self.start_s = start_s
        self.sites = sites
        self.counts: Counter[str] = Counter()
        self.cut: set[frozenset[SiteId]] = set()
        self.decisions: dict[SiteId, StudyDecision] = {}
        """What everybody is taken to know of each other's approval."""
        self._known: dict[SiteId, ev.KnownDecision] = {}
        self._is_changed = False
        self._by_id = {site.id: site for site in sites}
        self._roster = roster
        self._manifest = manifest
        self._network = network
        self._labour = labour
        self._exchange = exchange
        self._parcels: list[Parcel] = []
        self._complete: int | None = 0
        """None: somebody may have come to the end, or is no longer there."""
        self._blob_bytes = blob_size_bytes(manifest.study.parameters)
        self._is_inline = self._blob_bytes <= INLINE_BYTES_MAX
        self._perform: dict[type, Callable[[CountedSite, fx.Effect], None]] = self._performers()

    @property
    def now_s(self) -> float:
        """Virtual unix seconds."""
        return self.agenda.now_s

    # -- running ---------------------------------------------------------------------------------

    def boot(self, site: CountedSite, neighbours: list[CountedSite]) -> None:
        """Start a site's node from what its disk holds; it knows what everybody knows."""
        self._complete = None
        site.boot(self._roster)
        if site.is_here:
            self.submit(site, self._begin(site), 0.0)
        for other in neighbours:
            if not other.is_up:
                continue
            if site.is_here:
                self.submit(site, ev.Met(other.id), 0.0)
            if other.is_here:
                self.submit(other, ev.Met(site.id), 0.0)
                for offer in tuple(other.offers.values()):
                    if offer.sites is None or site.id in offer.sites:
                        offer.told.discard(site.id)
                        self._carry(other, site, offer)

    def _begin(self, site: CountedSite) -> ev.Begin:
        if len(self._known) != len(self.decisions) or self._is_changed:
            self._known = {s: ev.KnownDecision(s, d) for s, d in self.decisions.items()}
            self._is_changed = False
        known = tuple(self._known[s] for s in self._known if s != site.id)
        models = frozenset(ModelHash(digest) for digest in (*site.own, *site.foreign))
        return ev.Begin((self._manifest,), models, b"", decisions=known)

    def crash(self, site: CountedSite, neighbours: list[CountedSite]) -> None:
        """Power off: what is not on the disk is gone."""
        self._complete = None
        site.crash()
        for other in neighbours:
            if other.is_up and other.is_here:
                self.submit(other, ev.Lost(site.id), 0.0)

    def run(self, expected: int, done: Callable[[], int], look: Look, limit_s: float) -> bool:
        """Let time pass until so many sites are complete; False if time or events ran out.

        done: site-rounds that were played here; look: is told of all of them now and then."""
        is_over, end_s = False, self.agenda.now_s + limit_s
        window_s = max(self._network.delay_min_s, WINDOW_MIN_S)
        for window in itertools.count():
            sent, self._parcels = self._parcels, []
            standing = Standing(self.agenda.next_s, self.complete(), done())
            everybody, parcels = self._exchange.swap(standing, sent)
            for parcel in parcels:
                self._unpack(parcel)
            if everybody.complete >= expected and not is_over:
                is_over, end_s = True, everybody.next_s + LINGER_S
            if everybody.next_s > end_s or math.isinf(everybody.next_s):
                return is_over
            if window % LOOK_EVERY_WINDOWS == 0:
                look(everybody.rounds_done)
            self.agenda.work_off(everybody.next_s + window_s, self._handle)
        raise AssertionError("counting has no end")

    # -- events and effects ----------------------------------------------------------------------

    def _handle(self, site: CountedSite, event: ev.Event) -> None:
        effects = site.core.handle(self.agenda.now_s, event)
        line = f"{self.agenda.now_s:.6f} {type(event).__name__}"
        if isinstance(event, ev.Trained | ev.Averaged):
            line += f" {event.round} {event.model.hex()}"
        if effects:
            performers = self._perform
            for effect in effects:
                kind = type(effect)
                line += f" {kind.__name__}"
                perform = performers.get(kind)
                if perform is not None:
                    perform(site, effect)
        site.note(line)

    def _performers(self) -> dict[type, Callable[[CountedSite, fx.Effect], None]]:
        """What is done about each kind of effect; people are not told and processes not killed."""
        found: dict[type, Callable[[CountedSite, fx.Effect], None]] = {}
        for name in dir(self):
            if name.startswith("_do_"):
                found[_EFFECTS[name.removeprefix("_do_")]] = getattr(self, name)
        return found

    def _do_append(self, site: CountedSite, effect: fx.Append) -> None:
        if effect.under is not None and effect.approved_seq != site.approved_seq:
            return  # a person's decision was committed first
        entries = site.ledger.append(effect.drafts, effect.links, int(self.agenda.now_s * 1e6))
        self.counts["entries"] += len(entries)
        self.counts["signatures_made"] += len(entries) + 1
        appended = ev.Appended(entries, b"")
        is_end = entries[-1].kind == kinds.StudyClosed.KIND
        self.submit(site, partial(self._ended, appended) if is_end else appended, COMMIT_S)

    def _ended(self, event: ev.Event) -> ev.Event:
        self._complete = None
        return event

    def _do_timer(self, site: CountedSite, effect: fx.SetTimer) -> None:
        delay_s = max(0.0, effect.at_s - self.agenda.now_s)
        site.timers[effect.key] = self.submit(site, ev.TimerFired(effect.key), delay_s)

    def _do_open(self, site: CountedSite, effect: fx.OpenTraining) -> None:
        self._labour.opened(site)
        d = self._manifest.study.parameters
        event = ev.TrainingOpened(effect.study, d, ENVIRONMENT, ENVIRONMENT)
        self.submit(site, event, OPEN_S)

    def _do_train(self, site: CountedSite, effect: fx.Train) -> None:
        terms = self._network
        span_s = terms.train_max_s - terms.train_min_s
        delay_s = terms.train_min_s + span_s * site.random()
        # A hostile site waits for the honest ones: it knows what they have trained.
        extra_s = terms.train_max_s if self._labour.is_hostile(site) else 0.0
        self.submit(site, self._labour.train(site, effect), delay_s + extra_s)

    def _do_average(self, site: CountedSite, effect: fx.Average) -> None:
        self.submit(site, self._labour.average(site, effect), AVERAGE_S)

    def _do_score(self, site: CountedSite, effect: fx.Score) -> None:
        scored = self._labour.score(site, effect, self.agenda.now_s - self.start_s)
        self.submit(site, scored, SCORE_S)

    def _do_release(self, site: CountedSite, effect: fx.ReleaseModel) -> None:
        self.submit(site, ev.ModelReleased(effect.study, effect.model), 0.0)

    def _do_obtain(self, site: CountedSite, effect: fx.Obtain) -> None:
        place = (effect.study, effect.round, effect.sender, effect.model)
        if effect.model in site.foreign:
            self.submit(site, ev.Obtained(*place), 0.0)
            return
        payload = self._payload(site, effect)
        if payload is None:
            failed = ev.ObtainFailed(*place, "not-fetched", hostile=False)
            self.submit(site, failed, FETCH_S)
        elif not payload.is_finite:
            failed = ev.ObtainFailed(*place, "NotFinite", hostile=True)
            self.submit(site, failed, FETCH_S)
        else:
            site.keep_foreign(effect.model, payload.model)
            self.submit(site, ev.Obtained(*place), FETCH_S)

    def _payload(self, site: CountedSite, effect: fx.Obtain) -> Payload | None:
        """A small model came with its announcement, a larger one is fetched from its maker."""
        if self._is_inline:
            return site.inline.get(effect.model)
        holder = self._by_id[effect.sender]
        model = holder.own.get(effect.model)
        if model is None or not holder.is_up or self._is_cut(site, holder):
            return None
        holder.bytes_out += self._blob_bytes
        site.bytes_in += self._blob_bytes
        return payload_of(model)

    def _do_fetch(self, site: CountedSite, effect: fx.FetchModel) -> None:
        self.submit(site, ev.ModelReady(effect.study, effect.model), FETCH_S)

    def _do_withdraw(self, site: CountedSite, effect: fx.Withdraw) -> None:
        site.offers.pop(effect.key, None)

    # -- wires -----------------------------------------------------------------------------------

    def _do_offer(self, site: CountedSite, effect: fx.Offer) -> None:
        message, before = effect.message, site.offers.get(effect.key)
        self.counts["signatures_made"] += 1
        if before is not None and before.message == message:
            before.sites = effect.sites  # who was told is not told again
            offer = before
        elif isinstance(message, UpdateAnnounced):
            offer = CountedOffer(effect.key, message, effect.sites)
            offer.bytes_each = ANNOUNCEMENT_BYTES + (self._blob_bytes if self._is_inline else 0)
            model = site.own.get(message.hash) if self._is_inline else None
            offer.payload = None if model is None else payload_of(model)
        elif isinstance(message, StudyDecision):
            if self._is_known(site, message):
                return
            offer = CountedOffer(effect.key, message, None, bytes_each=MESSAGE_BYTES)
        else:
            self.counts["messages"] += len(self.sites) - 1
            return
        site.offers[effect.key] = offer
        for target in self.sites if offer.sites is None else self._sorted(offer.sites):
            if target is not site and target.id not in offer.told:
                self._carry(site, target, offer)

    def _is_known(self, site: CountedSite, decision: StudyDecision) -> bool:
        """Of the start everybody is told as one; what is decided later goes over the wires."""
        known = self.decisions.get(site.id)
        is_known = known is not None and known.entry_seq == decision.entry_seq
        if is_known:
            self.counts["messages"] += len(self.sites) - 1
        else:
            self.decisions[site.id] = decision
            self._is_changed = True
        return is_known

    def _sorted(self, sites: frozenset[SiteId]) -> list[CountedSite]:
        return [self._by_id[site] for site in sorted(sites)]

    def _carry(self, source: CountedSite, target: CountedSite, offer: CountedOffer) -> None:
        if not target.is_up:
            return  # it is told when it is back
        source.bytes_out += offer.bytes_each
        self.counts["messages"] += 1
        terms = self._network
        is_lost = terms.loss > 0.0 and source.random() < terms.loss
        if is_lost or self._is_cut(source, target):
            delay_s = RECONCILE_S * (0.8 + 0.4 * source.random())
            self.submit(source, partial(self._carry_again, source, target, offer), delay_s)
            return
        offer.told.add(target.id)
        target.bytes_in += offer.bytes_each
        self.counts["signatures_checked"] += 2
        delay_s = terms.delay_min_s + (terms.delay_max_s - terms.delay_min_s) * source.random()
        source.rank = rank = source.rank + 1
        if target.is_here:
            event = ev.Delivered(source.id, offer.message)
            self._arrive(target, event, offer.payload, self.agenda.now_s + delay_s, rank)
        else:
            self._hand_over(source, offer, (self.agenda.now_s + delay_s, rank, target.number))

    def _arrive(
        self,
        target: CountedSite,
        event: ev.Delivered,
        payload: Payload | None,
        due_s: float,
        rank: int,
    ) -> None:
        what: What = event
        if payload is not None:
            what = partial(self._with_payload, target, event, payload)
        self.agenda.put(due_s, rank, target, what)

    @staticmethod
    def _with_payload(target: CountedSite, event: ev.Delivered, payload: Payload) -> ev.Event:
        assert isinstance(event.message, UpdateAnnounced)
        target.keep_inline(event.message.hash, payload)
        return event

    def _hand_over(self, source: CountedSite, offer: CountedOffer, place: Place) -> None:
        """To a site of another part: at the end of the window, long before it is due."""
        assert isinstance(offer.message, UpdateAnnounced), "nothing else crosses a split world"
        assert offer.payload is not None, "only worlds with small models are split"
        newest = self._parcels[-1] if self._parcels else None
        if newest is None or newest.message is not offer.message:
            newest = Parcel(source.number, offer.message, offer.payload.model, [])
            self._parcels.append(newest)
        newest.places.append(place)

    def _unpack(self, parcel: Parcel) -> None:
        event = ev.Delivered(self.sites[parcel.source].id, parcel.message)
        payload = payload_of(parcel.model)
        for due_s, rank, number in parcel.places:
            self._arrive(self.sites[number], event, payload, due_s, rank)

    def _carry_again(self, source: CountedSite, target: CountedSite, offer: CountedOffer) -> None:
        if source.offers.get(offer.key) is offer and target.id not in offer.told:
            self._carry(source, target, offer)

    def _is_cut(self, source: CountedSite, target: CountedSite) -> bool:
        return bool(self.cut) and frozenset((source.id, target.id)) in self.cut

    def complete(self) -> int:
        """How many sites that are played here have released their model and closed the study."""
        if self._complete is None:
            study = StudyId(self._manifest.study_id)
            here = (site for site in self.sites if site.is_here and site.is_up)
            self._complete = sum(site.core.history.study(study).is_complete for site in here)
        return self._complete


_EFFECTS: Final[dict[str, type]] = {
    "append": fx.Append,
    "timer": fx.SetTimer,
    "open": fx.OpenTraining,
    "train": fx.Train,
    "average": fx.Average,
    "score": fx.Score,
    "release": fx.ReleaseModel,
    "obtain": fx.Obtain,
    "fetch": fx.FetchModel,
    "withdraw": fx.Withdraw,
    "offer": fx.Offer,
}
