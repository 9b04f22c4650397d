"""Updates heard for one study, keyed by (round, site): a neighbour may finish before we start.

Memory is bounded: per neighbour at most the rounds of the window, the two newest beyond it, and
the newest one that is on disk."""

from enum import Enum
from typing import NamedTuple

from gossip.identifiers import SiteId
from p2pfl.core.names import ModelHash, Round
from p2pfl.core.refusals import Equivocation, Replayed, ReusedEntry, RoundOutOfRange, StaleRound

WINDOW_ROUNDS = 2
"""Updates up to this many rounds ahead are all kept."""
OFFERED_ROUNDS = 2
"""As many of its newest updates does a site offer: a neighbour may be one round behind. As many
are kept of each neighbour, wherever it is."""


class Holding(Enum):
    """How far an announced update has come."""

    ANNOUNCED = "announced"
    OBTAINING = "obtaining"
    READY = "ready"
    FAILED = "failed"
    REJECTED = "rejected"


class Heard(NamedTuple):
    """One neighbour's update for one round. A tuple: one is made at every step of every update."""

    sender: SiteId
    log_id: bytes
    """The sender's log when it was heard."""
    round: Round
    model: ModelHash
    size_bytes: int
    seq: int
    leaf: bytes
    head: bytes
    """SHA-256 of the signed head that came with it."""
    inline: bytes
    holding: Holding

    def marked(self, holding: Holding, inline: bytes) -> "Heard":
        """The same update, come further."""
        return Heard(
            self.sender,
            self.log_id,
            self.round,
            self.model,
            self.size_bytes,
            self.seq,
            self.leaf,
            self.head,
            inline,
            holding,
        )


class Inbox:
    """What neighbours announced for one study."""

    def __init__(self, rounds_total: int, staleness: int = 0) -> None:
        """staleness: how many rounds old an update may be to be of use."""
        self._rounds_total = rounds_total
        self._staleness = staleness
        self._heard: dict[SiteId, dict[Round, Heard]] = {}
        self._stored: dict[SiteId, Heard] = {}
        """Each neighbour's newest update that is on disk: it may be older than its newest one."""
        self._furthest = -1

    def __len__(self) -> int:
        """How many updates are held, of all neighbours and rounds."""
        return sum(map(len, self._heard.values())) + len(self._stored)

    def announce(self, current: Round, heard: Heard) -> None:
        """Take an announcement in.

        Raises RoundOutOfRange, StaleRound, Replayed, Equivocation or ReusedEntry."""
        if not 0 <= heard.round < self._rounds_total:
            raise RoundOutOfRange(
                f"round {heard.round} of a study with rounds 0 to {self._rounds_total - 1}"
            )
        for known in self._of(heard.sender):
            self._compare(known, heard)
        if self.is_over(current, heard.round):
            raise StaleRound(f"round {heard.round} came while round {current} is under way")
        self._heard.setdefault(heard.sender, {})[heard.round] = heard
        if heard.round > self._furthest:
            self._furthest = heard.round
        self._trim(current, heard.sender)

    def _compare(self, known: Heard, heard: Heard) -> None:
        if known.round != heard.round:
            if known.leaf == heard.leaf:
                raise ReusedEntry(f"one entry for the rounds {known.round} and {heard.round}")
            return
        if known.model == heard.model:
            raise Replayed(f"round {heard.round}: the same update came before")
        raise Equivocation(f"round {heard.round}: a second, different update")

    def _of(self, sender: SiteId) -> list[Heard]:
        """Everything held of one sender, in the order of the rounds."""
        of_site = self._heard.get(sender, {})
        held = [of_site[round_] for round_ in (sorted(of_site) if len(of_site) > 1 else of_site)]
        stored = self._stored.get(sender)
        return held if stored is None else [*held, stored]

    def _trim(self, current: Round, sender: SiteId) -> None:
        """Of what lies beyond the window keep only what the sender still offers."""
        of_site = self._heard[sender]
        if len(of_site) <= OFFERED_ROUNDS:
            return
        for round_ in sorted(of_site, reverse=True)[OFFERED_ROUNDS:]:
            if round_ > current + WINDOW_ROUNDS:
                del of_site[round_]

    @property
    def models(self) -> frozenset[ModelHash]:
        """Everything that is held, announced or on disk."""
        held = (heard for of_site in self._heard.values() for heard in of_site.values())
        return frozenset(heard.model for heard in (*held, *self._stored.values()))

    def holds_leaf(self, leaf: bytes) -> bool:
        """Whether an update is held that this entry of its sender's log stands for."""
        held = (heard for of_site in self._heard.values() for heard in of_site.values())
        return any(h.leaf == leaf for h in (*held, *self._stored.values()))

    def mark(self, heard: Heard, holding: Holding) -> Heard:
        """Note how far an update has come; one that is of no interest any more is only returned.

        What waits on disk needs no bytes in memory, and what failed is fetched the next time."""
        keeps_bytes = holding in (Holding.ANNOUNCED, Holding.OBTAINING)
        marked = heard.marked(holding, heard.inline if keeps_bytes else b"")
        of_site = self._heard.get(heard.sender, {})
        if heard.round in of_site:
            of_site[heard.round] = marked
        if holding is Holding.READY:
            stored = self._stored.get(heard.sender)
            if stored is None or stored.round < heard.round:
                self._stored[heard.sender] = marked
        return marked

    def held(self, round_: Round, site: SiteId) -> Heard | None:
        """One site's update for one round."""
        of_site = self._heard.get(site)
        return None if of_site is None else of_site.get(round_)

    def reaches(self, round_: int) -> bool:
        """Whether an update of this round or a later one may be held: quick, seldom wrongly yes."""
        return self._furthest >= round_

    def newest_of(self, site: SiteId) -> Heard | None:
        """A neighbour's newest update that is held."""
        of_site, stored = self._heard.get(site), self._stored.get(site)
        heard = of_site[max(of_site)] if of_site else None
        if heard is None or (stored is not None and stored.round >= heard.round):
            return stored
        return heard

    def newest(self) -> dict[SiteId, Heard]:
        """Each neighbour's newest update that is held."""
        found = {site: self.newest_of(site) for site in sorted({*self._heard, *self._stored})}
        return {site: heard for site, heard in found.items() if heard is not None}

    def older(self, current: Round, site: SiteId) -> Heard | None:
        """A neighbour's newest update of an earlier round that is still of use, wherever it is."""
        rounds = range(max(0, current - self._staleness), current)
        of_site = self._heard.get(site, {})
        found = [heard for heard in of_site.values() if heard.round in rounds]
        stored = self._stored.get(site)
        if stored is not None and stored.round in rounds:
            found.append(stored)
        usable = [heard for heard in found if heard.holding is not Holding.REJECTED]
        return max(usable, key=lambda heard: heard.round, default=None)

    def stale(self, current: Round, site: SiteId) -> Heard | None:
        """The newest such update that is on disk and sound."""
        stored = self._stored.get(site)
        is_of_use = stored is not None and 0 < current - stored.round <= self._staleness
        return stored if is_of_use else None

    def stored(self) -> dict[SiteId, Heard]:
        """Each neighbour's newest update that is on disk and sound."""
        return dict(sorted(self._stored.items()))

    def enter(self, current: Round) -> list[Heard]:
        """Forget rounds before `current`, and bring back what is on disk and was set aside.

        Returns what is forgotten though it is on disk: nothing can use it any more."""
        forgotten, oldest = list[Heard](), current - self._staleness
        for of_site in self._heard.values():
            for round_ in [r for r in of_site if r < oldest]:
                forgotten.append(of_site.pop(round_))
        for site, heard in self._stored.items():
            if heard.round >= current:
                self._heard.setdefault(site, {}).setdefault(heard.round, heard)
        return [heard for heard in forgotten if heard.holding is Holding.READY]

    def is_over(self, current: Round, round_: Round) -> bool:
        """Whether no round from `current` on can use an update of this one."""
        return round_ < current - self._staleness

    def forget(self, sender: SiteId) -> None:
        """Drop everything of a site that left the study."""
        self._stored.pop(sender, None)
        self._heard.pop(sender, None)
