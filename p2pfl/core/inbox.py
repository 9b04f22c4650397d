"""Updates heard for one study, keyed by (round, site): a neighbour may finish before we start.

Memory is bounded: per neighbour at most the rounds of the window plus its newest one."""

from dataclasses import dataclass, replace
from enum import Enum

from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core.names import ModelHash, Round
from p2pfl.core.refusals import Equivocation, Replayed, RoundOutOfRange, StaleRound

WINDOW_ROUNDS = 2
"""Updates this many rounds ahead are stored at once; later ones only as the newest known."""


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
        self._newest: dict[SiteId, Heard] = {}

    def announce(self, current: Round, message: UpdateAnnounced, heard: Heard) -> Heard:
        """Take an announcement in. Returns what is now held.

        Raises RoundOutOfRange, StaleRound, Replayed or Equivocation."""
        if not 0 <= message.round < self._rounds_total:
            raise RoundOutOfRange(
                f"round {message.round} of a study with rounds 0 to {self._rounds_total - 1}"
            )
        known = self._heard.get((heard.round, heard.sender)) or self._newest.get(heard.sender)
        if known is not None and known.round == heard.round:
            if known.model == heard.model:
                raise Replayed(f"round {heard.round}: the same update came before")
            raise Equivocation(f"round {heard.round}: a second, different update")
        if heard.round < current:
            raise StaleRound(f"round {heard.round} came while round {current} is under way")
        if known is None or heard.round > self._newest[heard.sender].round:
            self._newest[heard.sender] = heard
        if heard.round <= current + WINDOW_ROUNDS:
            self._heard[heard.round, heard.sender] = heard
        return heard

    def mark(self, round_: Round, sender: SiteId, holding: Holding) -> Heard | None:
        """Note how far an update has come; None if it is no longer of interest."""
        marked = None
        known = self._heard.get((round_, sender))
        if known is not None:
            marked = self._heard[round_, sender] = replace(known, holding=holding, inline=b"")
        newest = self._newest.get(sender)
        if newest is not None and newest.round == round_:
            marked = self._newest[sender] = replace(newest, holding=holding, inline=b"")
        return marked

    def at(self, round_: Round) -> dict[SiteId, Heard]:
        """Everything held for a round, by sender."""
        return {site: h for (r, site), h in sorted(self._heard.items()) if r == round_}

    def newest(self) -> dict[SiteId, Heard]:
        """Each neighbour's newest update."""
        return dict(sorted(self._newest.items()))

    def enter(self, current: Round) -> None:
        """Forget rounds before `current` and let the newest ones into the window."""
        self._heard = {k: h for k, h in self._heard.items() if k[0] >= current}
        for site, heard in self._newest.items():
            if current <= heard.round <= current + WINDOW_ROUNDS:
                self._heard.setdefault((heard.round, site), heard)

    def forget(self, sender: SiteId) -> None:
        """Drop everything of a site that left the study."""
        self._newest.pop(sender, None)
        self._heard = {k: h for k, h in self._heard.items() if k[1] != sender}
