"""Who gets which entries of a real node over libp2p: fixed by the kind of the entry alone."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from net_hostile import hostile
from node_enemy import Target
from node_homes import Consortium, entries, found, p2pfl, p2pfl_json
from node_mending import mirrored
from node_processes import running

from gossip.envelope import open_envelope, seal
from gossip.identifiers import Digest, SiteId
from gossip.libp2p_transport import Libp2pTransport
from gossip.memory_transport import Switchboard
from gossip.witness_messages import (
    PLAIN,
    EntriesSent,
    EntriesWanted,
    HeadsHeld,
    LeavesSent,
    LeavesWanted,
)
from ledger.log import LogId
from ledger.log.witness_store import WITNESS_NAME, EntryForm, WitnessDatabase
from ledger.provenance.readers import Readers, readers_of

WAIT_S = 60.0


class Reader:
    """A member whose own program asks for everything and keeps every byte that it is sent."""

    def __init__(self, made: Consortium, index: int) -> None:
        self.keys, self.roster = made.keys(index), made.roster
        self.owner = self.roster.member(made.site(0))
        self.raws: list[bytes] = []
        self.met = asyncio.Event()
        self.heard = asyncio.Event()
        card = self.roster.member(self.keys.site)
        self.transport = Libp2pTransport(self.keys.transport, self.roster, card.addresses[0])

    def connected(self, site: SiteId) -> None:
        if site == self.owner.site:
            self.met.set()

    def disconnected(self, site: SiteId) -> None: ...

    def received(self, source: SiteId, raw: bytes) -> None:
        self.raws.append(raw)
        self.heard.set()

    def refused(self, address_or_site: str, reason: str) -> None: ...

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        return None

    async def say(self, message: HeadsHeld | EntriesWanted | LeavesWanted) -> None:
        raw = seal(self.keys.transport, self.keys.site, self.roster.consortium, message)
        await self.transport.send(self.owner.site, raw)

    def told(self) -> list[EntriesSent | LeavesSent]:
        messages = [open_envelope(raw, self.roster).message for raw in self.raws]
        return [one for one in messages if isinstance(one, EntriesSent | LeavesSent)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.heard.wait()
                self.heard.clear()


@asynccontextmanager
async def reading(made: Consortium, index: int) -> AsyncIterator[Reader]:
    reader = Reader(made, index)
    await reader.transport.start(reader)
    try:
        async with asyncio.timeout(WAIT_S):
            await reader.met.wait()
        await reader.say(HeadsHeld((b"",)))
        yield reader
    finally:
        await reader.transport.stop()


@pytest.fixture
def made(tmp_path: Path) -> Consortium:
    """Three members; the first two are in a study that the first one approved, the third not."""
    made = found(tmp_path / "c", 3)
    manifest = made.folder / "study.toml"
    p2pfl(made.home(0), "study", "new", "--data", "patients", "--out", str(manifest))
    outsider = made.site(2).hex()
    text = manifest.read_text().replace(f'"{outsider}",', "").replace(f'"{outsider}"', "")
    manifest.write_text(
        text.replace("sites_min = 3", "sites_min = 2").replace(
            "neighbours_min = 2", "neighbours_min = 1"
        )
    )
    study = p2pfl_json(made.home(0), "study", "propose", str(manifest))["study"]
    proposed = replace(made, study=study)
    proposed.approve(0)
    return proposed


async def test_a_mirror_holds_in_plain_what_its_site_may_read_and_nothing_else(
    made: Consortium,
) -> None:
    await mirrored(made, Switchboard())
    log_id = LogId(made.roster.member(made.site(0)).log_id)
    for holder, may_read in (
        (1, {Readers.EVERYONE, Readers.STUDY}),
        (2, {Readers.EVERYONE}),
    ):
        with closing(WitnessDatabase.open(made.home(holder).path / WITNESS_NAME)) as book:
            held = list(book.entries(log_id))
        for entry, item in zip(entries(made.home(0)), held, strict=True):
            assert (item.data == entry.raw) is (readers_of(entry.kind) in may_read), entry.kind
            assert (item.form is EntryForm.PLAIN) is (item.data == entry.raw)


@pytest.mark.nodes
async def test_each_kind_of_entry_reaches_its_readers_alone(made: Consortium) -> None:
    written = entries(made.home(0))
    log_id = made.roster.member(made.site(0)).log_id
    with running([made.home(0)]) as (node,):
        await asyncio.to_thread(node.wait, "node_ready")
        async with reading(made, 1) as participant, reading(made, 2) as member:
            for one in (participant, member):
                await one.say(HeadsHeld((b"",)))
                while len(one.told()) < 2:  # nothing is shown of an unconfirmed log
                    await one.say(LeavesWanted(log_id, 0, len(written)))
                    await one.say(EntriesWanted(log_id, 0, len(written)))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(2.0):
                            await one.until(lambda one=one: len(one.told()) >= 2)
            async with hostile(os.urandom(32)) as stranger:
                with pytest.raises(Exception, match=r"^"):
                    await stranger.connect(Target(participant.owner))  # type: ignore[arg-type]
            status = await asyncio.to_thread(node.status)
        assert status["turned_away"]["NotOnRoster"] >= 1
    plain = {one: _plain(one) for one in (participant, member)}
    for entry in written:
        readers = readers_of(entry.kind)
        assert (plain[participant].get(entry.seq) == entry.raw) is (readers is not Readers.SELF)
        assert (plain[member].get(entry.seq) == entry.raw) is (readers is Readers.EVERYONE)
    kinds = {readers_of(entry.kind) for entry in written}
    assert kinds == set(Readers), "a reader that no entry has proves nothing"
    # Not in any other message, either: nothing that was sent contains a private entry's bytes.
    for one in (participant, member):
        private = [e.raw for e in written if e.seq not in plain[one]]
        assert not any(raw in message for raw in private for message in one.raws)
        (leaves,) = {m.hashes[: 32 * len(written)] for m in one.told() if isinstance(m, LeavesSent)}
        assert leaves == b"".join(entry.leaf for entry in written)


def _plain(reader: Reader) -> dict[int, bytes]:
    """Number → what came in plain; everything came, at least sealed."""
    items = [i for m in reader.told() if isinstance(m, EntriesSent) for i in m.items]
    assert {item.seq for item in items} >= set(range(len(items) and items[-1].seq + 1))
    return {item.seq: item.data for item in items if item.form == PLAIN}
