"""Updates heard for one study, keyed by (round, site): a neighbour may finish before we start.

Memory is bounded: per neighbour at most the rounds of the window, the two newest beyond it, and
the newest one that is on disk."""

from dataclasses import dataclass, replace
from enum import Enum

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


@dataclass(frozen=True, slots=True)
class Heard:
    """One neighbour's update for one round."""

    sender: SiteId
    round: Round
    model: ModelHash
    size_bytes: int
    seq: int
    leaf: bytes
    head: bytes
    """SHA-256 of the signed head that came with it."""
    inline: bytes
    holding: Holding


class Inbox:
    """What neighbours announced for one study."""

    def __init__(self, rounds_total: int) -> None:
        self._rounds_total = rounds_total
        self._heard: dict[tuple[Round, SiteId], Heard] = {}
        self._stored: dict[SiteId, Heard] = {}
        """Each neighbour's newest update that is on disk: it may be older than its newest one."""

    def __len__(self) -> int:
        """How many updates are held, of all neighbours and rounds."""
        return len(self._heard) + len(self._stored)

    def announce(self, current: Round, heard: Heard) -> None:
        """Take an announcement in.

        Raises RoundOutOfRange, StaleRound, Replayed, Equivocation or ReusedEntry."""
        if not 0 <= heard.round < self._rounds_total:
            raise RoundOutOfRange(
                f"round {heard.round} of a study with rounds 0 to {self._rounds_total - 1}"
            )
        for known in self._of(heard.sender):
            self._compare(known, heard)
        if heard.round < current:
            raise StaleRound(f"round {heard.round} came while round {current} is under way")
        self._heard[heard.round, heard.sender] = heard
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
        held = [heard for (_, site), heard in sorted(self._heard.items()) if site == sender]
        stored = self._stored.get(sender)
        return held if stored is None else [*held, stored]

    def _trim(self, current: Round, sender: SiteId) -> None:
        """Of what lies beyond the window keep only what the sender still offers."""
        rounds = sorted((r for r, site in self._heard if site == sender), reverse=True)
        for round_ in rounds[OFFERED_ROUNDS:]:
            if round_ > current + WINDOW_ROUNDS:
                del self._heard[round_, sender]

    def holds_leaf(self, leaf: bytes) -> bool:
        """Whether an update is held that this entry of its sender's log stands for."""
        return any(h.leaf == leaf for h in (*self._heard.values(), *self._stored.values()))

    def mark(self, heard: Heard, holding: Holding) -> Heard:
        """Note how far an update has come; one that is of no interest any more is only returned.

        What waits on disk needs no bytes in memory, and what failed is fetched the next time."""
        keeps_bytes = holding in (Holding.ANNOUNCED, Holding.OBTAINING)
        marked = replace(heard, holding=holding, inline=heard.inline if keeps_bytes else b"")
        place = (heard.round, heard.sender)
        if place in self._heard:
            self._heard[place] = marked
        if holding is Holding.READY:
            stored = self._stored.get(heard.sender)
            if stored is None or stored.round < heard.round:
                self._stored[heard.sender] = marked
        return marked

    def at(self, round_: Round) -> dict[SiteId, Heard]:
        """Everything held for a round, by sender."""
        return {site: h for (r, site), h in sorted(self._heard.items()) if r == round_}

    def newest(self) -> dict[SiteId, Heard]:
        """Each neighbour's newest update that is held."""
        newest = dict(self._stored)
        for (round_, site), heard in sorted(self._heard.items()):
            if site not in newest or newest[site].round < round_:
                newest[site] = heard
        return dict(sorted(newest.items()))

    def stored(self) -> dict[SiteId, Heard]:
        """Each neighbour's newest update that is on disk and sound."""
        return dict(sorted(self._stored.items()))

    def enter(self, current: Round) -> None:
        """Forget rounds before `current`, and bring back what is on disk and was set aside."""
        self._heard = {k: h for k, h in self._heard.items() if k[0] >= current}
        for site, heard in self._stored.items():
            if heard.round >= current:
                self._heard.setdefault((heard.round, site), heard)

    def forget(self, sender: SiteId) -> None:
        """Drop everything of a site that left the study."""
        self._stored.pop(sender, None)
        self._heard = {k: h for k, h in self._heard.items() if k[1] != sender}
