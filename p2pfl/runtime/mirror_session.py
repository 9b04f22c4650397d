"""A talk with the other sites without a node: what do they hold of this site's own log?

The home's lock is held and no node runs, so this listens and dials in the node's place. It says
nothing but "send me these entries of my own log"; it signs no head and answers nobody."""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey

from gossip.envelope import open_envelope, seal
from gossip.errors import PeerError, TransportError
from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster
from gossip.transport import Transport
from gossip.witness_messages import (
    PLAIN,
    EntriesSent,
    EntriesWanted,
    HeadsHeld,
    KeysShown,
    SentEntry,
)
from ledger.log import Checkpoint, LedgerError, LogId, VerifierKey, note_verify, parse_entry
from p2pfl.runtime.log_lineage import keys_of_lineage

ENTRIES_PER_REQUEST: Final = 128
ANSWER_S: Final = 4.0
"""A request that nobody answered by then is asked again, or of somebody else."""
UNANSWERED_MAX: Final = 3
"""So many requests in a row without an answer: this site is asked no more."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What the others hold of the own log.

    answered: sites that said which head they hold. notes: those heads, signed by this site.
    log_keys: that put each other in force, as the log's own entries prove, the newest last; none
    where nobody knew of a replaced one. entries: number → raw bytes; whoever uses them verifies
    them. liars: sites that sent what this site never wrote."""

    answered: tuple[SiteId, ...]
    notes: tuple[bytes, ...]
    log_keys: tuple[VerifierKey, ...]
    entries: dict[int, bytes]
    given_by: dict[SiteId, int]
    liars: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to ask for. keys: under which this site's heads may be signed.

    start: the first entry that is missing here. wait_s: how long members may take to appear."""

    log_id: LogId
    keys: Sequence[VerifierKey]
    start: int
    wait_s: float


@dataclass(slots=True)
class _Gap:
    """Entries [start, stop) that are still to be had, and who has said not to hold the first."""

    start: int
    stop: int
    refused: set[SiteId] = field(default_factory=set)


@dataclass(slots=True)
class _Peer:
    asked: _Gap | None = None
    asked_s: float = 0.0
    unanswered: int = 0


class MirrorSession:
    """Implements the transport's `Inbox`. Use `collect` once."""

    def __init__(self, keys: SiteKeys, roster: Roster, wish: Wish) -> None:
        self._keys = keys
        self._roster = roster
        self._wish = wish
        self._box = SealedBox(SigningKey(keys.identity).to_curve25519_private_key())
        self._peers: dict[SiteId, _Peer] = {}
        self._answered: dict[SiteId, bytes] = {}
        self._log_keys: tuple[VerifierKey, ...] = ()
        self._gaps: list[_Gap] = []
        self._entries: dict[int, bytes] = {}
        self._given: dict[SiteId, int] = {}
        self._liars: set[SiteId] = set()
        self._changed = asyncio.Event()

    async def collect(
        self, transport: Transport, tell: Callable[[str], None] = lambda line: None
    ) -> Collected:
        """Ask whoever appears. Raises TransportError when the address cannot be had."""
        others = len(self._roster.members) - 1
        await transport.start(self)
        try:
            await self._until(lambda: len(self._answered) >= others, self._wish.wait_s)
            notes = self._notes()
            size = max(notes, default=0)
            tell(f"{len(self._answered)} of {others} sites answered; the log has {size} entries")
            self._gaps = [
                _Gap(start, min(size, start + ENTRIES_PER_REQUEST))
                for start in range(self._wish.start, size, ENTRIES_PER_REQUEST)
            ]
            await self._fetch(transport)
        finally:
            await transport.stop()
        return Collected(
            tuple(sorted(self._answered)),
            tuple(note for _, note in sorted(notes.items())),
            self._log_keys,
            self._entries,
            self._given,
            tuple(sorted(self._liars)),
        )

    async def _until(self, condition: Callable[[], bool], wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):  # whoever is there by then has to do
            async with asyncio.timeout(wait_s):
                while not condition():
                    await self._changed.wait()
                    self._changed.clear()

    async def _change(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    # -- asking ----------------------------------------------------------------------------------

    async def _fetch(self, transport: Transport) -> None:
        while self._gaps or any(peer.asked for peer in self._peers.values()):
            self._changed.clear()
            asked = await self._ask_everybody(transport)
            # Whoever answered while the others were being asked can be asked again at once.
            if not asked and not any(peer.asked for peer in self._peers.values()):
                return  # nobody is left who might hold the rest
            await self._change(ANSWER_S / 4)
            self._give_up_waiting(asyncio.get_running_loop().time())

    async def _ask_everybody(self, transport: Transport) -> int:
        """Ask whoever is free for the next gap it might fill; how many there were."""
        now_s, asked = asyncio.get_running_loop().time(), 0
        for site, peer in tuple(self._peers.items()):
            if peer.asked or site not in self._answered or peer.unanswered >= UNANSWERED_MAX:
                continue
            gap = next((gap for gap in self._gaps if site not in gap.refused), None)
            if gap is None:
                continue
            self._gaps.remove(gap)
            peer.asked, peer.asked_s, asked = gap, now_s, asked + 1
            message = EntriesWanted(self._wish.log_id, gap.start, gap.stop)
            raw = seal(self._keys.transport, self._keys.site, self._roster.consortium, message)
            try:
                await transport.send(site, raw)
            except TransportError:
                self._put_back(peer, site)
        return asked

    def _give_up_waiting(self, now_s: float) -> None:
        for site, peer in self._peers.items():
            if peer.asked and now_s - peer.asked_s >= ANSWER_S:
                peer.unanswered += 1
                refused_by = site if peer.unanswered >= UNANSWERED_MAX else None
                self._put_back(peer, refused_by)

    def _put_back(self, peer: _Peer, refused_by: SiteId | None) -> None:
        if peer.asked is not None:
            if refused_by is not None:
                peer.asked.refused.add(refused_by)
            self._gaps.insert(0, peer.asked)
            peer.asked = None
            self._changed.set()  # somebody else can be asked for it at once

    # -- what they say ---------------------------------------------------------------------------

    def _entries_sent(self, source: SiteId, message: EntriesSent) -> None:
        peer = self._peers.get(source)
        if peer is None or peer.asked is None or message.start != peer.asked.start:
            return
        gap, peer.unanswered = peer.asked, 0
        raws = [self._opened(item) for item in message.items if item.seq < gap.stop]
        if any(raw is None for raw in raws):
            self._liars.add(source)
            peer.unanswered = UNANSWERED_MAX
            self._put_back(peer, source)
            return
        if not raws:
            self._put_back(peer, source)
            return
        for seq, raw in enumerate(raws, gap.start):
            assert raw is not None, "looked at above"
            self._entries.setdefault(seq, raw)
        self._given[source] = self._given.get(source, 0) + len(raws)
        peer.asked = None
        if gap.start + len(raws) < gap.stop:
            self._gaps.insert(0, _Gap(gap.start + len(raws), gap.stop))

    def _opened(self, item: SentEntry) -> bytes | None:
        """The raw entry; None if it is not one that this log could hold there."""
        try:
            raw = item.data if item.form == PLAIN else self._box.decrypt(item.data)
            entry = parse_entry(raw)
        except (CryptoError, ValueError, LedgerError):
            return None
        return raw if (entry.log_id, entry.seq) == (self._wish.log_id, item.seq) else None

    def _notes(self) -> dict[int, bytes]:
        """Size → a head of the own log that somebody holds.

        Two of one size and with different roots are a fork, which is not found out here."""
        notes = dict[int, bytes]()
        keys = dict.fromkeys([*self._wish.keys, *self._log_keys])
        for _, own in sorted(self._answered.items()):
            try:
                head = Checkpoint.parse(note_verify(own, *keys).text)
            except LedgerError:
                continue  # also of whoever holds none
            if head.origin.endswith(f"/{self._wish.log_id.hex()}"):
                notes.setdefault(head.size, own)
        return notes

    def _keys_shown(self, entries: Sequence[bytes]) -> None:
        """The own log's keys, as somebody knows them: a home may be older than its newest key."""
        try:
            keys = keys_of_lineage(self._wish.log_id, self._wish.keys[0].name, entries).keys
        except LedgerError:
            return
        if len(keys) > len(self._log_keys):
            self._log_keys = keys

    # -- the transport's inbox -------------------------------------------------------------------

    def connected(self, site: SiteId) -> None:
        """See `Inbox`."""
        self._peers.setdefault(site, _Peer())
        self._changed.set()

    def disconnected(self, site: SiteId) -> None:
        """See `Inbox`."""
        peer = self._peers.pop(site, None)
        if peer is not None:
            self._put_back(peer, None)
        self._changed.set()

    def received(self, source: SiteId, raw: bytes) -> None:
        """See `Inbox`. Only what the sender says for itself counts."""
        try:
            envelope = open_envelope(raw, self._roster)
        except PeerError:
            return
        if envelope.sender != source:
            return
        match envelope.message:
            case HeadsHeld(notes=(own, *_)):
                self._answered.setdefault(source, own)
            case KeysShown(log_id=log_id, entries=entries) if log_id == self._wish.log_id:
                self._keys_shown(entries)
            case EntriesSent(log_id=log_id) if log_id == self._wish.log_id:
                self._entries_sent(source, envelope.message)
            case _:
                return
        self._changed.set()

    def refused(self, address_or_site: str, reason: str) -> None:
        """See `Inbox`: strangers are no business of this."""

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        """See `Inbox`: nothing is served."""
        return None


def merged(theirs: dict[int, bytes], here: Iterable[bytes]) -> Iterable[bytes]:
    """Entries by number: what others gave, and what can still be read here beyond that."""
    given = ((seq, raw) for seq, raw in sorted(theirs.items()))
    return (raw for _, raw in heapq.merge(given, _numbered(here), key=lambda one: one[0]))


def _numbered(raws: Iterable[bytes]) -> Iterable[tuple[int, bytes]]:
    newest = -1
    for raw in raws:
        try:
            seq = parse_entry(raw).seq
        except LedgerError:
            continue
        if seq > newest:  # a number that falls was altered
            newest = seq
            yield seq, raw
