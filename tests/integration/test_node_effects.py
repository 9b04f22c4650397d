"""What the driver promises about the order of effects, crashes of its parts, and the clock."""

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries
from node_in_process import LocalNode, living_children

from gossip.envelope import open_envelope
from gossip.memory_transport import Switchboard
from gossip.messages import UpdateAnnounced
from ledger.log import Draft, LogReader
from ledger.log.errors import WriteFailed
from ledger.provenance import kinds
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.failures import as_operator_error
from p2pfl.runtime.errors import OperatorError


@contextlib.asynccontextmanager
async def running(nodes: Sequence[LocalNode]) -> AsyncIterator[Sequence[LocalNode]]:
    """Start nodes; stop them all, whatever happens."""
    try:
        for node in nodes:
            await node.start()
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


def announced(made: Consortium, raw: bytes) -> UpdateAnnounced | None:
    message = open_envelope(raw, made.roster).message
    return message if isinstance(message, UpdateAnnounced) else None


async def turn_the_loop() -> None:
    """Let everything happen that can happen without anything else happening first."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_no_update_leaves_before_its_entry_is_on_disk(consortium: Consortium) -> None:
    seen: list[int] = []

    def check(index: int) -> Callable[[bytes], None]:
        def on_send(raw: bytes) -> None:
            message = announced(consortium, raw)
            if message is None:
                return
            reader = LogReader.open(consortium.home(index).path)  # what a crash now would leave
            try:
                entry = reader.entry(message.entry_seq)
                assert entry.kind == "update.published"
                assert entry.leaf == message.entry_leaf
                assert entry.body["hash"] == message.hash
                spent = reader.entry(message.train_seq) if message.train_seq >= 0 else None
                assert spent is None or spent.kind == "train.done"
            finally:
                reader.close()
            seen.append(message.round)

        return on_send

    board = Switchboard()
    nodes = [LocalNode(consortium, i, board, on_send=check(i)) for i in range(3)]
    async with running(nodes):
        await asyncio.gather(*(node.completed() for node in nodes))
    assert set(seen) == {0, 1, 2, 3}
    assert not [bug for node in nodes for bug in node.seen.bugs]
    assert [audit_code(home) for home in consortium.homes] == [0, 0, 0]


async def test_nothing_is_released_while_its_commit_is_held_up(consortium: Consortium) -> None:
    board, sent = Switchboard(), list[int]()
    asked, gate = threading.Event(), threading.Event()

    def on_send(raw: bytes) -> None:
        message = announced(consortium, raw)
        if message is not None:
            sent.append(message.round)

    def hold(drafts: Sequence[Draft]) -> None:
        if any(draft.kind == "update.published" for draft in drafts):
            asked.set()
            node.seen_loop.call_soon_threadsafe(node.seen.nudge)  # type: ignore[attr-defined]
            gate.wait(80)

    node = LocalNode(consortium, 0, board, on_send=on_send)
    node.seen_loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
    node.log.before = hold
    others = [LocalNode(consortium, index, board) for index in (1, 2)]
    async with running([node, *others]):
        try:
            await node.seen.until(asked.is_set)
            await turn_the_loop()
            assert sent == []
            may_read = node.driver.exchange.blob
            mine = node.driver._given.blobs.digests()
            initial = consortium.manifest.study.initial_model
            readable = {d for d in mine if may_read(others[0].keys.site, d) is not None}
            assert readable <= {initial}
        finally:
            gate.set()
        await node.completed()
    assert sent[0] == 0


async def test_a_disk_that_refuses_a_commit_stops_the_node_and_nothing_is_released(
    consortium: Consortium,
) -> None:
    board, sent = Switchboard(), list[int]()

    def on_send(raw: bytes) -> None:
        message = announced(consortium, raw)
        if message is not None:
            sent.append(message.round)

    def refuse(drafts: Sequence[Draft]) -> None:
        if any(draft.kind == "update.published" for draft in drafts):
            raise WriteFailed("no space left on device")

    nodes = [LocalNode(consortium, i, board, on_send=on_send) for i in (0,)]
    nodes += [LocalNode(consortium, i, board) for i in (1, 2)]
    nodes[0].log.before = refuse
    async with running(nodes):
        with pytest.raises(WriteFailed) as failure:
            await asyncio.wait_for(nodes[0].driver.wait(), 80)
    told = as_operator_error(failure.value)
    assert told is not None
    assert told.exit_code == 74
    assert "no space left" in told.message
    assert "disk space" in told.fix
    assert sent == []
    assert nodes[0].seen.bugs == []  # a full disk is no bug of ours
    assert entries(consortium.home(0), "update.published") == []


class FullDisk(BlobStore):
    """Takes no more files."""

    def _temporary(self) -> tuple[int, Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_that_refuses_the_own_model_stops_the_node_with_a_sentence(
    consortium: Consortium,
) -> None:
    board = Switchboard()
    nodes = [LocalNode(consortium, 0, board, blobs=FullDisk)]
    nodes += [LocalNode(consortium, index, board) for index in (1, 2)]
    async with running(nodes):
        with pytest.raises(OperatorError, match="No space left on device") as failure:
            await asyncio.wait_for(nodes[0].driver.wait(), 80)
    assert failure.value.exit_code == 74
    assert "start the node again" in failure.value.fix
    assert nodes[0].seen.bugs == []
    assert entries(consortium.home(0), "train.done") == []  # nothing was spent either


async def test_a_training_process_that_keeps_crashing_ends_the_study_on_record(
    consortium: Consortium,
) -> None:
    board = Switchboard()
    nodes = [
        LocalNode(consortium, 0, board, behaviour="crash"),
        *(LocalNode(consortium, index, board) for index in (1, 2)),
    ]
    async with running(nodes):
        await asyncio.gather(*(node.completed() for node in nodes[1:]))
        await nodes[0].seen.until(lambda: entries(consortium.home(0), "study.closed"))
        failures = nodes[0].seen.happened("training_failed")
        assert nodes[0].driver.jobs.training_pids() == ()
    (closed,) = entries(consortium.home(0), "study.closed")
    assert closed.body["reason"] == "training-failed"
    assert 3 <= len(failures) <= 4
    assert entries(consortium.home(0), "update.published") == []
    log = next(consortium.home(0).logs.glob("training-*.log"))
    assert "Segmentation fault" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert [audit_code(home) for home in consortium.homes] == [0, 0, 0]


async def test_a_clock_that_goes_back_a_day_stops_neither_timers_nor_ledger(
    consortium: Consortium,
) -> None:
    started_s = time.monotonic()
    real_s = time.time()  # noqa: TID251 - the node's clock
    jumped = threading.Event()

    def clock_s() -> float:
        return real_s + time.monotonic() - started_s - (86_400.0 if jumped.is_set() else 0.0)

    board = Switchboard()
    nodes = [LocalNode(consortium, 0, board, clock_s=clock_s)]
    nodes += [LocalNode(consortium, index, board) for index in (1, 2)]
    async with running(nodes):
        await nodes[0].seen.until(lambda: len(entries(consortium.home(0), "agg.done")) >= 1)
        jumped.set()
        await asyncio.gather(*(node.completed() for node in nodes))
    assert nodes[0].seen.bugs == []
    (noticed,) = entries(consortium.home(0), "clock.anomaly")
    delta_us = noticed.body["delta_us"]
    assert isinstance(delta_us, int)
    assert -86_401_000_000 < delta_us < -86_000_000_000
    assert [audit_code(home) for home in consortium.homes] == [0, 0, 0]


async def test_a_study_revoked_while_its_process_starts_leaves_no_process(
    consortium: Consortium,
) -> None:
    node = LocalNode(consortium, 0, Switchboard(), behaviour="silent")
    async with running([node]):
        study = bytes.fromhex(consortium.study)
        revoked = kinds.StudyRevoked(study, "owner").draft("data-owner")
        await node.driver.append([revoked])  # the process has not even been created yet
        await node.seen.until(lambda: node.seen.happened("study_left"))
        await turn_the_loop()
        await node.seen.until(lambda: not node.driver.jobs._tasks or node.seen.nudge())
        assert node.driver.jobs.training_pids() == ()
        assert living_children() == []


async def test_an_update_offered_again_is_checked_before_it_is_sent(
    consortium: Consortium,
) -> None:
    """A model that the own disk garbled is neither sent nor does it stop the node."""
    board = Switchboard()
    first = [LocalNode(consortium, index, board) for index in (0, 1)]
    async with running(first):
        await first[0].seen.until(lambda: entries(consortium.home(0), "update.published"))
    for entry in entries(consortium.home(0), "update.published"):
        path = consortium.home(0).blobs / entry.body["hash"].hex()
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    sent = list[int]()

    def on_send(raw: bytes) -> None:
        message = announced(consortium, raw)
        if message is not None:
            sent.append(message.round)

    board = Switchboard()
    again = LocalNode(consortium, 0, board, on_send=on_send)
    async with running([again, LocalNode(consortium, 1, board)]):
        await again.seen.until(lambda: again.seen.happened("blob_damaged"))
    assert again.seen.bugs == []
    assert sent == []
