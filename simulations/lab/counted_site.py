"""A site whose signatures and ledger writes are counted instead of made.

Its core is the node's own, fed with the same events; entries are the same checked records, but
they never become bytes. So a thousand sites fit on two cores, and a real roster's limit of 256
members, which is one of the wire format, does not hold here."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gossip.card import Card
from gossip.identifiers import NO_DIGEST, SiteId
from gossip.messages import Message
from gossip.roster import Roster
from ledger.log import Checkpoint, Draft, Entry, LogId
from p2pfl.core.effects import SeqLink
from p2pfl.core.events import TimerKey
from p2pfl.core.history import History
from p2pfl.core.node import NodeCore

Vector = NDArray[np.float32]
T = TypeVar("T")
RANKS_PER_SITE: Final = 1 << 40
OWN_MODELS_KEPT = 8
"""Newest own models, trained and averaged: neighbours may be two rounds behind."""
FOREIGN_ROUNDS_KEPT = 3
_RANDOM_AT_ONCE: Final = 128
_TRACED_AT_ONCE: Final = 64
_UNSIGNED = Checkpoint("counted", 0, bytes(32))


def counted_head(
    _card: Card,
    _consortium: str,
    _note: bytes,
    _entry_seq: int,
    _in_force: tuple[tuple[int, bytes], ...],
) -> Checkpoint:
    """Stands for a signed head that would have been verified."""
    return _UNSIGNED


class CountedCard(Card):
    """A member without keys."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """There is nothing to verify."""


class CountedRoster(Roster):
    """Members without keys, as many as one likes."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """There is nothing to verify."""
        object.__setattr__(self, "_by_site", {card.site: card for card in self.members})
        object.__setattr__(self, "_by_transport_key", {})
        object.__setattr__(self, "_body", b"counted")
        # Without addresses either: the virtual network connects them all.
        object.__setattr__(self, "dial_only", frozenset())


def counted_roster(names: Sequence[str]) -> CountedRoster:
    """Members of these names, ascending by site."""
    cards = []
    for name in names:
        site = SiteId(hashlib.sha256(name.encode()).digest())
        log_id = hashlib.sha256(site).digest()
        cards.append(CountedCard(site, name, b"", b"", b"", b"", log_id, (), b""))
    members = tuple(sorted(cards, key=lambda card: card.site))
    return CountedRoster("simulated", 1, NO_DIGEST, members)


class CountedLedger:
    """Numbers and leaves of a log, and its entries where a crash may ask for them again."""

    def __init__(self, log_id: bytes, *, keeps: bool) -> None:
        self.size = 1
        """Number 0 of every log is its beginning."""
        self.entries: list[Entry] = []
        self._log_id = LogId(log_id)
        self._keeps = keeps
        self._prefix = log_id[:24]

    def record(self, drafts: Sequence[Draft], now_us: int) -> tuple[Entry, ...]:
        """What a person's command appends while the node is down: it is read at the next start."""
        keeps, self._keeps = self._keeps, True
        entries = self.append(drafts, (), now_us)
        self._keeps = keeps
        return entries

    def append(
        self, drafts: Sequence[Draft], links: Sequence[SeqLink], now_us: int
    ) -> tuple[Entry, ...]:
        """One commit. Returns the new entries."""
        first, log_id, prefix = self.size, self._log_id, self._prefix
        bodies = [draft.body for draft in drafts]
        for link in links:
            bodies[link.draft] = {**bodies[link.draft], link.field: first + link.names}
        made = tuple(
            Entry(
                log_id,
                seq,
                b"",
                now_us,
                draft.kind,
                draft.actor,
                body,
                b"",
                b"",
                b"",
                prefix + seq.to_bytes(8, "big"),
            )
            for seq, (draft, body) in enumerate(zip(drafts, bodies, strict=True), first)
        )
        self.size = first + len(made)
        if self._keeps:
            self.entries += made
        return made


@dataclass(frozen=True, slots=True)
class Payload:
    """A model on its way. is_finite: what each of its receivers would find of its values."""

    model: Vector
    is_finite: bool


def payload_of(model: Vector) -> Payload:
    """Quick where no square overflows: then a finite sum of squares says it."""
    return Payload(model, math.isfinite(np.dot(model, model)) or bool(np.isfinite(model).all()))


@dataclass(slots=True)
class CountedOffer:
    """What a site tells others until something else takes its place."""

    key: str
    message: Message
    sites: frozenset[SiteId] | None
    told: set[SiteId] = field(default_factory=set)
    bytes_each: int = 0
    payload: Payload | None = None
    """What goes with it, if it is small."""


class CountedSite:
    """A site and its node, with draws, ranks and a trace of its own: nothing depends on what
    other sites did meanwhile, nor on which process plays them."""

    def __init__(
        self,
        number: int,
        card: Card,
        *,
        seed: int = 0,
        is_here: bool = True,
        may_crash: bool = False,
        neighbours: int = 0,
    ) -> None:
        """is_here: whether this process plays it; if not, it is only written to."""
        self.number = number
        self.card = card
        self.id: SiteId = card.site
        self.is_here = is_here
        self.ledger = CountedLedger(card.log_id, keeps=may_crash)
        self.incarnation = 0
        self.is_up = False
        self.rank = (number + 1) * RANKS_PER_SITE
        """Of the newest event that it caused: of those due at one time, who is first."""
        self.core: NodeCore
        self.own: dict[bytes, Vector] = {}
        self.foreign: dict[bytes, Vector] = {}
        self.foreign_max = FOREIGN_ROUNDS_KEPT * neighbours + 2
        self.inline: dict[bytes, Payload] = {}
        """Models that came with their announcements, in memory until they are asked for."""
        self.approved_seq = -1
        """The newest decision on record, if it is an approval."""
        self.timers: dict[TimerKey, int] = {}
        self.offers: dict[str, CountedOffer] = {}
        self.bytes_out = 0
        self.bytes_in = 0
        self._rng = np.random.Generator(np.random.PCG64([seed, 5, number + 1]))
        self._numbers: list[float] = []
        self._trace = hashlib.sha256()
        self._lines: list[str] = []

    def boot(self, roster: Roster) -> None:
        """A fresh process on the old disk."""
        self.incarnation += 1
        self.is_up = True
        self.timers, self.offers, self.inline = {}, {}, {}
        if self.is_here:
            self.core = NodeCore(self.id, roster, History(self.ledger.entries), counted_head)

    def crash(self) -> None:
        """The process is gone."""
        self.is_up = False
        self.incarnation += 1

    def random(self) -> float:
        """In [0, 1)."""
        if not self._numbers:
            self._numbers = self._rng.random(_RANDOM_AT_ONCE).tolist()
        return self._numbers.pop()

    def note(self, line: str) -> None:
        """One more line of its trace."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= _TRACED_AT_ONCE:
            self._trace_lines()

    def digest(self) -> bytes:
        """SHA-256 over its trace so far."""
        if self._lines:
            self._trace_lines()
        return self._trace.digest()

    def _trace_lines(self) -> None:
        self._lines.append("")  # the last one ends, too
        self._trace.update("\n".join(self._lines).encode())
        self._lines.clear()

    def keep_own(self, digest: bytes, model: Vector) -> None:
        """Store an own model; the oldest make room."""
        _keep(self.own, digest, model, OWN_MODELS_KEPT)

    def keep_foreign(self, digest: bytes, model: Vector) -> None:
        """Store a neighbour's model; the oldest make room."""
        _keep(self.foreign, digest, model, self.foreign_max)

    def keep_inline(self, digest: bytes, payload: Payload) -> None:
        """Hold what came with an announcement; the oldest make room."""
        _keep(self.inline, digest, payload, self.foreign_max)

    def model(self, digest: bytes) -> Vector:
        """A stored model."""
        found = self.own.get(digest)
        return self.foreign[digest] if found is None else found


def _keep(kept: dict[bytes, T], digest: bytes, one: T, most: int) -> None:
    kept[digest] = one
    if len(kept) > most:
        del kept[next(iter(kept))]
