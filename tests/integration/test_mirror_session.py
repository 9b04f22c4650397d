"""Asking the other sites for the own log, where they answer faster than all of them are asked."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from node_homes import Consortium, found
from node_mending import now_us

from gossip.envelope import open_envelope, seal
from gossip.errors import Unreachable
from gossip.identifiers import Digest, SiteId
from gossip.transport import Inbox
from gossip.witness_messages import PLAIN, EntriesSent, EntriesWanted, HeadsHeld, SentEntry
from ledger.log import KeyType, Log, LogReader, Signer, VerifierKey
from ledger.provenance import kinds
from p2pfl.runtime.mirror_session import ENTRIES_PER_REQUEST, MirrorSession, Wish

GAPS = 5


class _Prompt:
    """Implements `Transport`: members whose answer is there before `send` returns.

    unreachable: requests that do not arrive, by their number."""

    def __init__(self, made: Consortium, unreachable: frozenset[int] = frozenset()) -> None:
        self._made = made
        self._unreachable = unreachable
        self.asked = 0
        with closing(LogReader.open(made.home(0).path)) as reader:
            self._raws = [entry.raw for entry in reader.entries()]
            self._note = reader.note
        self._inbox: Inbox | None = None

    async def start(self, inbox: Inbox) -> None:
        self._inbox = inbox
        for index in range(1, self._made.count):
            inbox.connected(self._made.site(index))
            self._say(index, HeadsHeld((self._note,)))

    async def stop(self) -> None:
        self._inbox = None

    async def send(self, site: SiteId, raw: bytes) -> None:
        self.asked += 1
        if self.asked in self._unreachable:
            raise Unreachable(site, "cut")
        wanted = open_envelope(raw, self._made.roster).message
        assert isinstance(wanted, EntriesWanted)
        some = enumerate(self._raws[wanted.start : wanted.stop], wanted.start)
        items = tuple(SentEntry(seq, PLAIN, entry) for seq, entry in some)
        index = next(i for i in range(self._made.count) if self._made.site(i) == site)
        self._say(index, EntriesSent(wanted.log_id, wanted.start, items))

    async def broadcast(self, raw: bytes) -> None:
        raise NotImplementedError("nothing is published here")

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        raise NotImplementedError("no models are fetched here")

    def _say(self, index: int, message: HeadsHeld | EntriesSent) -> None:
        assert self._inbox is not None
        keys, roster = self._made.keys(index), self._made.roster
        site = self._made.site(index)
        self._inbox.received(site, seal(keys.transport, site, roster.consortium, message))


def _collected(made: Consortium, transport: _Prompt) -> int:
    """How many entries came."""
    with closing(LogReader.open(made.home(0).path)) as reader:
        key = VerifierKey(reader.origin, KeyType.ED25519, reader.identity.log_pk)
        wish = Wish(reader.log_id, (key,), 0, 1.0)
    session = MirrorSession(made.keys(0), made.roster, wish)
    return len(asyncio.run(session.collect(transport)).entries)


def test_everything_is_fetched_although_all_answer_while_they_are_being_asked(
    tmp_path: Path,
) -> None:
    made = found(tmp_path / "c", 3)
    with closing(Log.open(made.home(0).path, log=Signer(made.keys(0).log))) as log:
        draft = kinds.AuditRun(0, 0).draft("operator")
        log.append([draft] * (GAPS * ENTRIES_PER_REQUEST - log.checkpoint.size), now_us())
    assert _collected(made, _Prompt(made)) == GAPS * ENTRIES_PER_REQUEST
    all_cut = _Prompt(made, unreachable=frozenset(range(100)))
    assert _collected(made, all_cut) == 0
    assert all_cut.asked == 2 * GAPS, "each site is tried for each piece, then no more"
    one_cut = _Prompt(made, unreachable=frozenset({1, 2}))
    assert _collected(made, one_cut) == (GAPS - 1) * ENTRIES_PER_REQUEST
