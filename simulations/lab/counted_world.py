"""Many sites, wires and one clock, with signatures and ledger writes counted.

Messages between cores are delayed, lost and repeated as dissemination would; what everyone must
know (proposals, decisions of the start, heads of logs) is counted and taken as known. The digest
covers every event and effect: time, site, kind, and the hash of each model."""

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from gossip.identifiers import SiteId
from gossip.messages import StudyDecision, UpdateAnnounced
from gossip.roster import Roster
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.gathering import blob_size_bytes
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, StudyId
from simulations.lab.counted_site import CountedOffer, CountedSite
from simulations.lab.labour import AVERAGE_S, SCORE_S, Labour
from simulations.lab.terms import Network
from simulations.site import COMMIT_S, ENVIRONMENT, FETCH_S, OPEN_S

LOOK_EVERY_EVENTS: Final = 2000
RECONCILE_S: Final = 5.0
"""What dissemination takes on average to repair a loss."""
ANNOUNCEMENT_BYTES: Final = 520
"""A sealed announcement without its payload, its signed head included."""
MESSAGE_BYTES: Final = 260
INLINE_BYTES_MAX: Final = 16 * 1024
_RANDOM_AT_ONCE: Final = 8192
_TRACED_AT_ONCE: Final = 4096

What = ev.Event | Callable[[], ev.Event | None]


class CountedWorld:
    """See the module's text. labour: what training, scoring and averaging come to."""

    def __init__(
        self,
        *,
        seed: int,
        sites: list[CountedSite],
        roster: Roster,
        manifest: Manifest,
        network: Network,
        labour: Labour,
        start_s: float,
    ) -> None:
        self.now_s = start_s
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
        self._rng = np.random.Generator(np.random.PCG64([seed, 5]))
        self._numbers: list[float] = []
        self._queue: list[tuple[float, int, CountedSite, int, What]] = []
        self._order = itertools.count()
        self._trace = hashlib.sha256()
        self._lines: list[str] = []
        self._inline = blob_size_bytes(manifest.study.parameters)
        self._perform: dict[type, Callable[[CountedSite, fx.Effect], None]] = self._performers()

    # -- running ---------------------------------------------------------------------------------

    def boot(self, site: CountedSite, neighbours: list[CountedSite]) -> None:
        """Start a site's node from what its disk holds; it knows what everybody knows."""
        site.boot(self._roster)
        if len(self._known) != len(self.decisions) or self._is_changed:
            self._known = {s: ev.KnownDecision(s, d) for s, d in self.decisions.items()}
            self._is_changed = False
        known = tuple(self._known[s] for s in self._known if s != site.id)
        models = frozenset(ModelHash(digest) for digest in (*site.own, *site.foreign))
        self.submit(site, ev.Begin((self._manifest,), models, b"", decisions=known), 0.0)
        for other in neighbours:
            if other.is_up:
                self.submit(site, ev.Connected(other.id), 0.0)
                self.submit(other, ev.Connected(site.id), 0.0)
                for offer in tuple(other.offers.values()):
                    if offer.sites is None or site.id in offer.sites:
                        offer.told.discard(site.id)
                        self._carry(other, site, offer)

    def crash(self, site: CountedSite, neighbours: list[CountedSite]) -> None:
        """Power off: what is not on the disk is gone."""
        site.crash()
        for other in neighbours:
            if other.is_up:
                self.submit(other, ev.Disconnected(site.id), 0.0)

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; False if virtual time or events ran out.

        The condition is looked at now and then: that is no event, so nothing depends on it."""
        queue, end_s, handled = self._queue, self.now_s + limit_s, 0
        while queue:
            if handled % LOOK_EVERY_EVENTS == 0 and until():
                return True
            handled += 1
            due_s, order, site, incarnation, what = heapq.heappop(queue)
            if due_s > end_s:
                return False
            self.now_s = due_s
            if site.incarnation != incarnation:
                continue
            if isinstance(what, ev.TimerFired):
                if site.timers.get(what.key) != order:
                    continue
                del site.timers[what.key]
            event = what() if callable(what) else what
            if event is not None:
                self._handle(site, event)
        return until()

    def digest(self) -> str:
        """SHA-256 over every event and effect so far."""
        self._trace.update("".join(self._lines).encode())
        self._lines.clear()
        return self._trace.hexdigest()

    def submit(self, site: CountedSite, what: What, delay_s: float) -> int:
        """Let a site's core handle an event a little later, unless it has crashed until then."""
        order = next(self._order)
        due_s = self.now_s + delay_s
        heapq.heappush(self._queue, (due_s, order, site, site.incarnation, what))
        return order

    def at(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do something to the world later, whatever has become of any site."""

        def happen() -> None:
            call()

        heapq.heappush(self._queue, (self.now_s + delay_s, next(self._order), _NOBODY, 0, happen))

    # -- events and effects ----------------------------------------------------------------------

    def _handle(self, site: CountedSite, event: ev.Event) -> None:
        effects = site.core.handle(self.now_s, event)
        line = f"{self.now_s:.6f} {site.number} {type(event).__name__}"
        if isinstance(event, ev.Trained | ev.Averaged):
            line += f" {event.round} {event.model.hex()}"
        for effect in effects:
            line += f" {type(effect).__name__}"
            perform = self._perform.get(type(effect))
            if perform is not None:
                perform(site, effect)
        lines = self._lines
        lines.append(line + "\n")
        if len(lines) > _TRACED_AT_ONCE:
            self._trace.update("".join(lines).encode())
            lines.clear()

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
        entries = site.ledger.append(effect.drafts, effect.links, int(self.now_s * 1e6))
        self.counts["entries"] += len(entries)
        self.counts["signatures_made"] += len(entries) + 1
        self.submit(site, ev.Appended(entries, b""), COMMIT_S)

    def _do_timer(self, site: CountedSite, effect: fx.SetTimer) -> None:
        delay_s = max(0.0, effect.at_s - self.now_s)
        site.timers[effect.key] = self.submit(site, ev.TimerFired(effect.key), delay_s)

    def _do_open(self, site: CountedSite, effect: fx.OpenTraining) -> None:
        self._labour.opened(site)
        d = self._manifest.study.parameters
        event = ev.TrainingOpened(effect.study, d, ENVIRONMENT, ENVIRONMENT)
        self.submit(site, event, OPEN_S)

    def _do_train(self, site: CountedSite, effect: fx.Train) -> None:
        terms = self._network
        span_s = terms.train_max_s - terms.train_min_s
        delay_s = terms.train_min_s + span_s * self._random()
        # A hostile site waits for the honest ones: it knows what they have trained.
        extra_s = terms.train_max_s if self._labour.is_hostile(site) else 0.0
        self.submit(site, self._labour.train(site, effect), delay_s + extra_s)

    def _do_average(self, site: CountedSite, effect: fx.Average) -> None:
        self.submit(site, self._labour.average(site, effect), AVERAGE_S)

    def _do_score(self, site: CountedSite, effect: fx.Score) -> None:
        scored = self._labour.score(site, effect, self.now_s - self.start_s)
        self.submit(site, scored, SCORE_S)

    def _do_release(self, site: CountedSite, effect: fx.ReleaseModel) -> None:
        self.submit(site, ev.ModelReleased(effect.study, effect.model), 0.0)

    def _do_obtain(self, site: CountedSite, effect: fx.Obtain) -> None:
        place = (effect.study, effect.round, effect.sender, effect.model)
        holder = self._by_id[effect.sender]
        model = holder.own.get(effect.model)
        if effect.model in site.foreign:
            self.submit(site, ev.Obtained(*place), 0.0)
        elif model is None or not holder.is_up or self._is_cut(site, holder):
            failed = ev.ObtainFailed(*place, "not-fetched", hostile=False)
            self.submit(site, failed, FETCH_S)
        elif not np.isfinite(model).all():
            failed = ev.ObtainFailed(*place, "NotFinite", hostile=True)
            self.submit(site, failed, FETCH_S)
        else:
            if self._inline > INLINE_BYTES_MAX:
                holder.bytes_out += self._inline
                site.bytes_in += self._inline
            site.keep_foreign(effect.model, model)
            self.submit(site, ev.Obtained(*place), FETCH_S)

    def _do_fetch(self, site: CountedSite, effect: fx.FetchModel) -> None:
        self.submit(site, ev.ModelReady(effect.study, effect.model), FETCH_S)

    def _do_withdraw(self, site: CountedSite, effect: fx.Withdraw) -> None:
        site.offers.pop(effect.key, None)

    # -- wires -----------------------------------------------------------------------------------

    def _do_offer(self, site: CountedSite, effect: fx.Offer) -> None:
        message = effect.message
        self.counts["signatures_made"] += 1
        if isinstance(message, UpdateAnnounced):
            payload = self._inline if self._inline <= INLINE_BYTES_MAX else 0
            offer = CountedOffer(effect.key, message, effect.sites)
            offer.bytes_each = ANNOUNCEMENT_BYTES + payload
        elif isinstance(message, StudyDecision):
            if self._is_known(site, message):
                return
            offer = CountedOffer(effect.key, message, None, bytes_each=MESSAGE_BYTES)
        else:
            self.counts["messages"] += len(self.sites) - 1
            return
        before = site.offers.get(effect.key)
        if before is not None and before.message == message:
            before.sites = offer.sites
            offer = before  # who was told is not told again
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
        is_lost = terms.loss > 0.0 and self._random() < terms.loss
        if is_lost or self._is_cut(source, target):
            delay_s = RECONCILE_S * (0.8 + 0.4 * self._random())
            self.submit(source, partial(self._carry_again, source, target, offer), delay_s)
            return
        offer.told.add(target.id)
        target.bytes_in += offer.bytes_each
        self.counts["signatures_checked"] += 2
        delay_s = terms.delay_min_s + (terms.delay_max_s - terms.delay_min_s) * self._random()
        self.submit(target, ev.Delivered(source.id, offer.message), delay_s)

    def _carry_again(self, source: CountedSite, target: CountedSite, offer: CountedOffer) -> None:
        if source.offers.get(offer.key) is offer and target.id not in offer.told:
            self._carry(source, target, offer)

    def _is_cut(self, source: CountedSite, target: CountedSite) -> bool:
        return bool(self.cut) and frozenset((source.id, target.id)) in self.cut

    def _random(self) -> float:
        if not self._numbers:
            self._numbers = self._rng.random(_RANDOM_AT_ONCE).tolist()
        return self._numbers.pop()

    def complete(self, study: StudyId) -> int:
        """How many sites have released their model and closed the study."""
        return sum(
            1 for site in self.sites if site.is_up and site.core.history.study(study).is_complete
        )


def _nobody() -> CountedSite:
    """Whose events are the world's own."""
    from gossip.card import Card
    from simulations.lab.counted_site import CountedCard

    card: Card = CountedCard(SiteId(bytes(32)), "", b"", b"", b"", b"", bytes(32), (), b"")
    return CountedSite(-1, card)


_NOBODY: Final = _nobody()
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
