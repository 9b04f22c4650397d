"""What a study hears from its neighbours, and when it has heard enough.

Knows nothing of training, the ledger or time: a deadline is something it is told of."""

from collections.abc import Collection, Iterable, Mapping

from gossip.identifiers import SiteId
from p2pfl.core import effects as fx
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.inbox import Heard, Holding, Inbox
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.participants import Neighbourhood, Neighbourhoods
from p2pfl.core.patience import Patience
from p2pfl.core.refusals import NotANeighbour, WrongSize

BEHIND_ROUNDS = 2
"""A neighbour this far ahead has gone on without us: catching up is the only way back."""


class Gathering:
    """The neighbours of one study and the updates heard from them."""

    def __init__(self, me: SiteId, manifest: Manifest, bucket: int) -> None:
        self.me = me
        self.connected: frozenset[SiteId] = frozenset()
        self.is_overdue = False
        self._newer: frozenset[SiteId] = frozenset()
        self._stand_ins: frozenset[SiteId] = frozenset()
        self._manifest = manifest
        self._study = StudyId(manifest.study_id)
        self._inbox = Inbox(manifest.study.rounds_total, manifest.averaging.staleness)
        self.patience = Patience(manifest.study.round_deadline_s)
        self._passed_over: set[SiteId] = set()
        self._left: set[SiteId] = set()
        self._under_way: dict[tuple[Round, SiteId], Heard] = {}
        self._awaited_last: SiteId | None = None
        """Whom this round waited for the last time that was asked: looked at first."""
        self._value_max = manifest.value_max
        self._hoods = Neighbourhoods(manifest, me, bucket)
        self._round = Round(0)
        self.unused: list[Heard] = []
        """On disk, and their round is over; whoever puts them on record empties it."""

    @property
    def buckets(self) -> Mapping[SiteId, int]:
        """Sites that approve at present, this one included, with their patient buckets."""
        return self._hoods.buckets

    @property
    def hood(self) -> Neighbourhood:
        """Neighbours and shares of this round, among the sites that approve at present."""
        return self._hoods.at(self._round)

    def neighbours_at(self, round_: Round) -> tuple[SiteId, ...]:
        """Whom this site averages with in a round: its update of that round goes to them."""
        return self._hoods.at(round_).neighbours

    @property
    def held(self) -> int:
        """How many updates are remembered or on their way."""
        return len(self._inbox) + len(self._under_way)

    @property
    def enough(self) -> int:
        """Neighbours that have to be heard for a round to count."""
        return min(self._manifest.study.neighbours_min, len(self._manifest.study.sites) - 1)

    def oldest(self, current: Round) -> Round:
        """The earliest round whose updates are still of use."""
        return Round(current - self._manifest.averaging.staleness)

    def sites_changed(
        self,
        current: Round,
        buckets: dict[SiteId, int],
        dial_only: frozenset[SiteId] = frozenset(),
    ) -> list[fx.Effect]:
        """Another site approved, revoked, left or moved; `buckets` holds the others that approve.

        What a site announced before its approval arrived here is asked for now."""
        for gone in set(self.buckets) - set(buckets) - {self.me}:
            self._inbox.forget(gone)
            self._left.add(gone)
            self._under_way = {k: h for k, h in self._under_way.items() if k[1] != gone}
        self._left -= set(buckets)
        self._awaited_last = None
        self._hoods.sites_changed(buckets, dial_only)
        return self._obtain_near(current)

    def has_left(self, used: Iterable[Heard]) -> bool:
        """Whether one of these updates is of a site that takes part no more."""
        return any(heard.sender in self._left for heard in used)

    # -- announcements ---------------------------------------------------------------------------

    def announce(self, current: Round, heard: Heard) -> list[fx.Effect]:
        """Take an announcement in, and ask for its payload if it is near enough.

        One that overtakes its sender's approval is kept until that arrives.
        Raises an UpdateRefused."""
        is_possible = self._hoods.is_possible(heard.round, heard.sender)
        if not is_possible or heard.sender in self._left:
            raise NotANeighbour("the sender is not averaged with here")
        encoding = self._manifest.encoding_at(heard.round)
        expected = blob_size_bytes(self._manifest.study.parameters, encoding)
        if heard.size_bytes != expected:
            raise WrongSize(f"{heard.size_bytes} bytes, expected {expected}")
        self._inbox.announce(current, heard)
        self.patience.heard(heard.sender)
        if self._wants_far(current):
            return self._obtain_near(current)
        # Everything else that is near was asked for when it came, or when the round began.
        is_soon = heard.round <= current + 1
        return [self._obtain(heard)] if is_soon and self._is_near(heard) else []

    @property
    def models(self) -> frozenset[ModelHash]:
        """Updates that are remembered or on their way: they may be needed yet."""
        under_way = (heard.model for heard in self._under_way.values())
        return self._inbox.models.union(under_way)

    def holds_leaf(self, leaf: bytes) -> bool:
        """Whether an update is held that this entry of its sender's log stands for."""
        return self._inbox.holds_leaf(leaf)

    def enter(self, current: Round) -> list[fx.Effect]:
        """A round began: forget older ones, ask for what was announced for it before."""
        self.is_overdue, self._round, self._awaited_last = False, current, None
        self._passed_over.clear()
        self._newer = self._stand_ins = frozenset()
        self.unused += self._inbox.enter(current)
        return self._obtain_near(current)

    def obtained(self, round_: Round, sender: SiteId) -> bool:
        """A neighbour's update is stored and sound. Returns whether it was asked for."""
        heard = self._under_way.pop((round_, sender), None)
        if heard is not None:
            ready = self._inbox.mark(heard, Holding.READY)
            self.unused += [ready] if self._inbox.is_over(self._round, round_) else []
        return heard is not None

    def failed(self, round_: Round, sender: SiteId) -> None:
        """A neighbour's update could not be fetched; it can be tried again."""
        heard = self._under_way.pop((round_, sender), None)
        if heard is not None:
            self._inbox.mark(heard, Holding.FAILED)

    def rejected(self, round_: Round, sender: SiteId) -> Heard | None:
        """A neighbour's update is not what was announced. None if it was not asked for."""
        heard = self._under_way.pop((round_, sender), None)
        return None if heard is None else self._inbox.mark(heard, Holding.REJECTED)

    def obtain_again(self, current: Round) -> list[fx.Effect]:
        """Ask once more for what failed, at neighbours that can be reached."""
        for heard in self._interesting(current):
            if heard.holding is Holding.FAILED and heard.sender in self.connected:
                self._inbox.mark(heard, Holding.ANNOUNCED)
        return self._obtain_near(current)

    def _obtain_near(self, current: Round) -> list[fx.Effect]:
        wanted = [h for h in self._interesting(current) if h.holding is Holding.ANNOUNCED]
        return [self._obtain(h) for h in wanted]

    def _interesting(self, current: Round) -> list[Heard]:
        """What this round and the next can use; of what lies further ahead, one per neighbour.

        A neighbour that announces round after round must not fill the disk."""
        find = self._inbox.held
        held = [
            heard
            for round_ in (current, Round(current + 1))
            for site in self.neighbours_at(round_)
            if (heard := find(round_, site)) is not None
        ]
        if self._manifest.averaging.staleness:
            older = (self._inbox.older(current, site) for site in self.missing(current))
            held += [heard for heard in older if heard is not None]
        if self._wants_far(current):
            busy = {site for _, site in self._under_way}
            newest = self._inbox.newest().items()
            far = (h for site, h in newest if h.round > current + 1 and site not in busy)
            held += [heard for heard in far if self._is_near(heard)]
        return held

    def _wants_far(self, current: Round) -> bool:
        """Whether updates of rounds further ahead than the next one are of use."""
        if self.is_overdue or self.ahead(current):
            return True
        return self._inbox.reaches(current + BEHIND_ROUNDS) and self.is_short(current)

    def is_short(self, current: Round) -> bool:
        """Whether too few were heard, and nobody is waited for any more."""
        hood = self.hood.neighbours
        if any(self._is_awaited(current, site) for site in hood):
            return False
        held = (self._at_hand(current, site) for site in hood)
        return sum(h is not None and h.holding is Holding.READY for h in held) < self.enough

    def obtain_far(self, current: Round) -> list[fx.Effect]:
        """Too few were heard of this round: ask for what neighbours have of later ones."""
        return self._obtain_near(current) if self._wants_far(current) else []

    def _is_near(self, heard: Heard) -> bool:
        """Whether its sender is a neighbour in the round it is for."""
        return heard.sender in self.neighbours_at(heard.round)

    def _obtain(self, heard: Heard) -> fx.Effect:
        asked = self._inbox.mark(heard, Holding.OBTAINING)
        self._under_way[heard.round, heard.sender] = asked
        return fx.Obtain(
            self._study,
            heard.round,
            heard.sender,
            heard.model,
            heard.size_bytes,
            self._manifest.study.parameters,
            heard.inline,
            self._value_max,
            self._manifest.encoding_at(heard.round),
        )

    # -- enough? ---------------------------------------------------------------------------------

    def ready(self, round_: Round) -> dict[SiteId, Heard]:
        """Sound updates of present neighbours for a round.

        Where the study allows it, an update of an earlier round stands in for a missing one. If
        they are too few, newer updates do: of a neighbour that left this round out at once, of one
        whose update may yet be fetched long after the deadline. Whoever is furthest behind can then
        always go on, and no study stops with everybody waiting for what nobody offers any more."""
        held = ((s, self._at_hand(round_, s)) for s in self.hood.neighbours)
        present = {s: h for s, h in held if h is not None and h.holding is Holding.READY}
        if len(present) >= self.enough:
            return present
        for site, heard in self._newer_than(round_).items():
            if site in self._stand_ins or self._inbox.held(round_, site) is None:
                present.setdefault(site, heard)
        return dict(sorted(present.items()))

    def _at_hand(self, round_: Round, site: SiteId) -> Heard | None:
        held = self._inbox.held(round_, site)
        is_ready = held is not None and held.holding is Holding.READY
        return held if is_ready else self._inbox.stale(round_, site)

    @property
    def may_stand_in(self) -> bool:
        """Whether earlier updates may stand in for missing ones at all."""
        return self._manifest.averaging.staleness > 0

    def has_stale(self, round_: Round, site: SiteId) -> bool:
        """Whether an earlier update of a neighbour can stand in for this round's."""
        return self._inbox.stale(round_, site) is not None

    def _newer_than(self, round_: Round) -> dict[SiteId, Heard]:
        stored = self._inbox.stored().items()
        return {s: h for s, h in stored if h.round > round_ and s in self.hood.neighbours}

    def is_settled(self, round_: Round) -> bool:
        """Whether nothing more is worth waiting for, and somebody was heard."""
        if self.is_overdue:
            return True
        last = self._awaited_last
        if last is not None and self._is_awaited(round_, last):
            return False
        hood = self.hood.neighbours
        for site in hood:
            if self._is_awaited(round_, site):
                self._awaited_last = site
                return False
        return any(self._is_in(round_, site) for site in hood)

    def awaited(self, round_: Round) -> tuple[SiteId, ...]:
        """Neighbours whose update is waited for.

        Not waited for: a neighbour whose own deadline is over, one that was missed and has given no
        sign of life since, and one that is in a later round already and left this one out."""
        return tuple(site for site in self.hood.neighbours if self._is_awaited(round_, site))

    def missing(self, round_: Round) -> tuple[SiteId, ...]:
        """Neighbours whose update is neither here nor refused."""
        return tuple(site for site in self.hood.neighbours if not self._is_in(round_, site))

    def pass_over(self, late: Collection[SiteId]) -> None:
        """These neighbours' own deadlines are over: this round waits for them no longer."""
        self._passed_over.update(late)
        for site in late:
            self.patience.missed(site)

    def _is_in(self, round_: Round, site: SiteId) -> bool:
        held = self._inbox.held(round_, site)
        return held is not None and held.holding in (Holding.READY, Holding.REJECTED)

    def _is_awaited(self, round_: Round, site: SiteId) -> bool:
        if self._is_in(round_, site) or site in self._passed_over:
            return False
        if self.patience.is_hopeless(site):
            return False
        if self._inbox.held(round_, site) is not None or not self._inbox.reaches(round_ + 1):
            return True
        # A site tells of its rounds in order: of this one it would have told before.
        newest = self._inbox.newest_of(site)
        return newest is None or newest.round <= round_

    def deadline(self, round_: Round) -> list[fx.Effect]:
        """The round's time is up, once more while it cannot go on.

        A newer update stands in only if it was here the last time, too: until then repairs may
        still bring the one that was missed."""
        newer = frozenset(self._newer_than(round_))
        self.is_overdue, self._stand_ins, self._newer = True, self._newer & newer, newer
        for site in self.missing(round_):
            self.patience.missed(site)
        return self._obtain_near(round_)

    # -- left behind -----------------------------------------------------------------------------

    def ahead(self, current: Round) -> tuple[Heard, ...]:
        """Newest updates of neighbours that went on without us, if they are enough of them.

        Those that keep pace outvote them: where `neighbours_min` is 1, one liar that says it is
        far ahead must not draw a site away from an honest neighbour."""
        if not self._inbox.reaches(current + BEHIND_ROUNDS):
            return ()
        newest = [h for h in self._inbox.newest().values() if self._is_near(h)]
        near = {h.sender for h in newest if -1 <= h.round - current < BEHIND_ROUNDS}
        needed = max(self.enough, len(near & self.connected) + 1)
        ahead = tuple(
            h
            for h in newest
            if h.round >= current + BEHIND_ROUNDS and h.holding is not Holding.REJECTED
        )
        return ahead if len(ahead) >= needed else ()

    def catch_up(self, current: Round) -> tuple[Heard, ...]:
        """The inputs of a catch-up once all of them are here, else nothing.

        Neighbours go on meanwhile: what is on disk counts, though newer ones were announced."""
        ahead, stored = self.ahead(current), self._inbox.stored()
        near = [stored[h.sender] for h in ahead if h.sender in stored]
        ready = tuple(h for h in near if h.round >= current + BEHIND_ROUNDS)
        is_complete = len(ready) == len(ahead) or (self.is_overdue and len(ready) >= self.enough)
        return ready if ahead and is_complete else ()


def target_round(inputs: tuple[Heard, ...]) -> Round:
    """The round that a catch-up stands for: the next one is the oldest of its inputs' rounds.

    So the site publishes in a round where its neighbours may still wait for it, and every site
    publishes in the last round."""
    return Round(min(heard.round for heard in inputs) - 1)
