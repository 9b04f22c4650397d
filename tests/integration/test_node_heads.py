"""Heads of other logs on their way to disk: few writes, and no fork without its evidence."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from node_homes import Consortium
from node_in_process import until

from ledger.log import Checkpoint, Log, Signer, note_sign, origin_of
from ledger.log.errors import LedgerError, WriteFailed
from p2pfl.core import effects as fx
from p2pfl.runtime.peer_heads import FORK_NOTES_MAX, PeerHeads

PEER = Signer(b"\x09" * 32)
LOG_ID = b"\x07" * 32
ORIGIN = origin_of("test", LOG_ID)  # type: ignore[arg-type]


def head(size: int, root: int = 0) -> fx.KeepPeerHead:
    root_hash = bytes([root]) * 32
    note = note_sign(Checkpoint(ORIGIN, size, root_hash).text, ORIGIN, PEER)
    return fx.KeepPeerHead(None, LOG_ID, note, size, root_hash)


@dataclass
class Desk:
    """Peer heads over a real log."""

    log: Log
    folder: Path
    forks: list[bytes] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heads = PeerHeads(
            self.log, self.folder / "forks", self.forks.append, self.failures.append
        )

    def held(self) -> list[int]:
        return [known.size for known in self.log.peer_heads() if known.log_id == LOG_ID]

    def evidence(self) -> list[Path]:
        return sorted((self.folder / "forks" / LOG_ID.hex()).glob("*.note"))

    async def settled(self) -> None:
        await until(lambda: self.heads._writing is None)


@pytest.fixture
def desk(consortium: Consortium) -> Desk:
    home = consortium.home(0)
    return Desk(Log.open(home.path, log=Signer(consortium.keys(0).log)), home.path)


async def test_the_largest_head_is_kept_and_older_ones_change_nothing(desk: Desk) -> None:
    for size in (3, 5, 4, 9, 2):
        desk.heads.keep(head(size, size))
    await desk.settled()
    assert desk.held() == [9]
    desk.heads.keep(head(4, 4))
    await desk.settled()
    assert desk.held() == [9]
    assert desk.forks == []


async def test_a_flood_of_heads_costs_few_writes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    put: Callable[..., None] = desk.log.put_peer_head

    def counted(log_id: bytes, note: bytes, size: int, root: bytes) -> None:
        written.append(size)
        put(log_id, note, size, root)

    monkeypatch.setattr(desk.log, "put_peer_head", counted)
    for size in range(1, 2001):
        desk.heads.keep(head(size))
    await desk.settled()
    assert len(written) <= 2
    assert desk.held() == [2000]


async def test_a_fork_is_told_and_both_notes_are_kept(desk: Desk) -> None:
    desk.heads.keep(head(5, 1))
    await desk.settled()
    desk.heads.keep(head(5, 2))
    await desk.settled()
    assert desk.forks == [LOG_ID]
    assert {path.read_bytes() for path in desk.evidence()} == {head(5, 1).note, head(5, 2).note}
    desk.heads.keep(head(6, 3))  # the evidence outlives the next head
    await desk.settled()
    assert desk.held() == [6]
    assert len(desk.evidence()) == 2


async def test_two_histories_that_wait_together_are_a_fork_too(desk: Desk) -> None:
    desk.heads.keep(head(5, 1))
    desk.heads.keep(head(5, 2))
    desk.heads.keep(head(8, 4))
    await desk.settled()
    assert desk.forks == [LOG_ID]
    assert len(desk.evidence()) == 2


async def test_a_site_that_forks_without_end_does_not_fill_the_disk(desk: Desk) -> None:
    desk.heads.keep(head(5, 0))
    await desk.settled()
    for root in range(1, 120):
        desk.heads.keep(head(5, root))
        await desk.settled()
    assert len(desk.evidence()) <= FORK_NOTES_MAX + 1
    assert desk.failures == []


async def test_a_disk_that_refuses_a_head_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WriteFailed("no space left")

    monkeypatch.setattr(desk.log, "put_peer_head", refuse)
    desk.heads.keep(head(5))
    await desk.settled()
    assert [type(error) for error in desk.failures] == [WriteFailed]
    assert isinstance(desk.failures[0], LedgerError)


async def test_stopping_waits_for_the_write_under_way_and_forgets_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, gate, written = threading.Event(), threading.Event(), list[int]()

    def slow(log_id: bytes, note: bytes, size: int, root: bytes) -> None:
        began.set()
        gate.wait(10)
        written.append(size)

    monkeypatch.setattr(desk.log, "put_peer_head", slow)
    desk.heads.keep(head(1))
    await until(began.is_set)
    desk.heads.keep(head(2))
    stopping = asyncio.create_task(desk.heads.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert written == [1]
