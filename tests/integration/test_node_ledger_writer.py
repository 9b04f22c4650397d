"""The thread that writes the ledger: shared commits, failures that stay where they belong."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from node_homes import Consortium
from node_in_process import WatchedLog

from ledger.log import Draft, Log, Signer
from ledger.log.errors import LedgerError, LogStopped, WriteFailed
from ledger.provenance import kinds
from p2pfl.core.effects import SeqLink
from p2pfl.core.names import StudyId
from p2pfl.runtime.ledger_writer import Approval, InForce, LedgerWriter, Recorded, Unless
from p2pfl.runtime.node_clock import NodeClock

STUDY = StudyId(b"\x05" * 32)
DRAFT = kinds.PeerMisbehaved(bytes(32), "Garbled", 1).draft("node")
APPROVED = Approval(StudyId(b"\x06" * 32), 4)


class Desk:
    """A writer over a real log whose commits a test may hold up."""

    def __init__(self, log: Log) -> None:
        self.log = WatchedLog(log, lambda: None)
        self.recorded: list[Recorded] = []
        approved = InForce({APPROVED.study: APPROVED.seq})
        clock = NodeClock(lambda: 2e9)
        self.writer = LedgerWriter(self.log, clock, self.recorded.append, approved)  # type: ignore[arg-type]

    def hold(self) -> tuple[asyncio.Event, Callable[[], None]]:
        """Hold the next commit up. Returns when it began, and how to let it go."""
        loop, began, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def wait(drafts: Sequence[Draft]) -> None:
            loop.call_soon_threadsafe(began.set)
            gate.wait(40)

        self.log.before = wait
        return began, gate.set


@pytest.fixture
def log(consortium: Consortium) -> Log:
    return Log.open(consortium.home(0).path, log=Signer(consortium.keys(0).log))


@asynccontextmanager
async def writing(log: Log) -> AsyncIterator[Desk]:
    desk = Desk(log)
    try:
        yield desk
    finally:
        await desk.writer.close()
        log.close()


def revoked(study: bytes) -> Draft:
    return kinds.StudyRevoked(study, "owner").draft("data-owner")


def trained(ds: bytes) -> Draft:
    """A round of training on this dataset."""
    terms = kinds.DpTerms("none", "0", "0", 0, "0", "0", "none", "1")
    nothing = [bytes(32)] * 6
    return kinds.TrainDone(APPROVED.study, 0, ds, *nothing, terms, 0, 0).draft("node")


async def test_entries_that_are_ready_together_share_a_commit(log: Log) -> None:
    async with writing(log) as desk:
        size = log.checkpoint.size
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        rest = [asyncio.create_task(desk.writer.append([DRAFT] * n)) for n in range(1, 6)]
        await asyncio.sleep(0)
        let_go()
        recorded = await asyncio.gather(first, *rest)
    assert [len(kinds_) for kinds_ in desk.log.commits] == [1, 15]
    seqs = [entry.seq for one in recorded for entry in one.entries]
    assert seqs == list(range(size, size + 16))
    assert desk.recorded == list(recorded)


async def test_links_name_the_entry_of_the_same_request(log: Log) -> None:
    async with writing(log) as desk:
        published = kinds.UpdatePublished(STUDY, 0, bytes(32), 100, -1).draft("node")
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        link = SeqLink(draft=1, field="train_seq", names=0)
        pairs = [
            asyncio.create_task(desk.writer.append([DRAFT, published], [link])) for _ in range(3)
        ]
        await asyncio.sleep(0)
        let_go()
        for recorded in await asyncio.gather(*pairs):
            spent, release = recorded.entries
            assert release.body["train_seq"] == spent.seq
        await first


async def test_a_request_that_is_refused_does_not_take_its_neighbours_down(log: Log) -> None:
    async with writing(log) as desk:
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        bad = Draft("NOT A KIND", "node", {})
        mixed = [asyncio.create_task(desk.writer.append([d])) for d in (DRAFT, bad, DRAFT)]
        await asyncio.sleep(0)
        let_go()
        good, refused, also_good = await asyncio.gather(*mixed, return_exceptions=True)
        await first
    assert isinstance(good, Recorded)
    assert isinstance(refused, LedgerError)
    assert isinstance(also_good, Recorded)


@pytest.mark.parametrize("ahead_s", [486.0, -387.0])
async def test_a_clock_that_was_wrong_for_a_while_is_on_record(log: Log, ahead_s: float) -> None:
    """What was dated meanwhile contradicts the others' clocks, though the own times hardly do."""
    steady_s, off_s = 0.0, 0.0
    start_us = max(entry.time_us for entry in log.entries()) + 10**12
    clock = NodeClock(lambda: start_us / 1e6 + steady_s + off_s, lambda: steady_s)
    writer = LedgerWriter(log, clock, lambda _: None, InForce({}))
    size = log.checkpoint.size
    off_s = ahead_s
    await writer.append([DRAFT])
    steady_s, off_s = 200.0, 0.0
    await writer.append([DRAFT])
    await writer.append([DRAFT])
    await writer.close()
    told = [e.body.get("delta_us") for e in log.entries(size)]
    log.close()
    set_by_us = int(ahead_s * 1e6)
    assert told == [set_by_us, None, -set_by_us, None, None]


async def test_a_clock_that_is_set_while_nothing_is_written_is_on_record(log: Log) -> None:
    off_s, noted, looks = 0.0, asyncio.Event(), 0
    size, start_us = log.checkpoint.size, max(entry.time_us for entry in log.entries())

    def may_write() -> bool:
        nonlocal looks
        looks += 1
        assert log.checkpoint.size == size, "as long as it may not, nothing is written"
        return looks > 3

    clock = NodeClock(lambda: start_us / 1e6 + off_s, lambda: 0.0)
    writer = LedgerWriter(log, clock, lambda _: noted.set(), InForce({}))
    off_s = 400.0
    watching = asyncio.create_task(writer.watch_clock(may_write, 0.0))
    await asyncio.wait_for(noted.wait(), 40)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await writer.close()
    told = [(entry.kind, entry.body["delta_us"]) for entry in log.entries(size)]
    log.close()
    assert told == [(kinds.ClockAnomaly.KIND, 400_000_000)]
    assert looks >= 4


async def test_an_entry_is_never_dated_before_the_one_before_it(log: Log) -> None:
    """A machine that starts with its clock a little behind what its ledger says."""
    newest_us, size = max(entry.time_us for entry in log.entries()), log.checkpoint.size
    clock = NodeClock(lambda: newest_us / 1e6 - 40.0, lambda: 0.0)
    writer = LedgerWriter(log, clock, lambda _: None, InForce({}))
    await writer.append([DRAFT])
    await writer.close()
    times_us = [entry.time_us for entry in log.entries(size)]
    log.close()
    assert times_us == [newest_us]


async def test_a_start_with_a_clock_minutes_behind_is_on_record(log: Log) -> None:
    newest_us, size = max(entry.time_us for entry in log.entries()), log.checkpoint.size
    clock = NodeClock(lambda: newest_us / 1e6 - 200.0, lambda: 0.0)
    writer = LedgerWriter(log, clock, lambda _: None, InForce({}))
    await writer.append([DRAFT])
    await writer.close()
    noted, written = log.entries(size)
    log.close()
    assert noted.body == {"delta_us": -200_000_000}
    assert written.time_us == noted.time_us == newest_us - 200_000_000


async def test_a_disk_that_fails_tells_every_caller_the_cause(log: Log) -> None:
    def refuse(drafts: Sequence[Draft]) -> None:
        raise WriteFailed("no space left on device")

    async with writing(log) as desk:
        size = log.checkpoint.size
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        rest = [asyncio.create_task(desk.writer.append([DRAFT])) for _ in range(3)]
        await asyncio.sleep(0)
        desk.log.before = refuse
        let_go()
        outcomes = await asyncio.gather(*rest, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WriteFailed] * 3
        await first
        assert log.checkpoint.size == size + 1
    assert len(desk.recorded) == 1


async def test_an_append_under_an_approval_comes_to_nothing_after_a_revocation(log: Log) -> None:
    async with writing(log) as desk:
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append_under(APPROVED, [DRAFT]))
        await began.wait()
        # All of these are decided inside one commit, in this order.
        second = asyncio.create_task(desk.writer.append_under(APPROVED, [DRAFT]))
        revoking = asyncio.create_task(desk.writer.append([revoked(APPROVED.study)]))
        third = asyncio.create_task(desk.writer.append_under(APPROVED, [DRAFT]))
        unknown = asyncio.create_task(desk.writer.append_under(Approval(STUDY, 4), [DRAFT]))
        await asyncio.sleep(0)
        let_go()
        assert isinstance(await first, Recorded)
        assert isinstance(await second, Recorded)
        assert isinstance(await revoking, Recorded)
        assert await third is None
        assert await unknown is None
        assert await desk.writer.append_under(APPROVED, [DRAFT]) is None
    assert len(desk.recorded) == 3


async def test_nothing_is_written_while_a_site_is_away_and_under_its_return_alone_afterwards(
    log: Log,
) -> None:
    study = APPROVED.study
    async with writing(log) as desk:
        away = [kinds.StudyAway(study, "maintenance").draft("operator")]
        assert isinstance(await desk.writer.append(away), Recorded)
        assert await desk.writer.append_under(APPROVED, [DRAFT]) is None
        recorded = await desk.writer.append([kinds.StudyBack(study).draft("operator")])
        assert await desk.writer.append_under(APPROVED, [DRAFT]) is None
        returned = Approval(study, recorded.entries[-1].seq)
        assert isinstance(await desk.writer.append_under(returned, [DRAFT]), Recorded)


async def test_training_under_way_comes_to_nothing_once_its_data_is_withdrawn(log: Log) -> None:
    """Its data was withdrawn in the commit before, or a moment earlier in the same one."""
    ds, other = b"\x07" * 32, b"\x08" * 32
    async with writing(log) as desk:
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append_under(APPROVED, [trained(ds)]))
        await began.wait()
        withdrawing = asyncio.create_task(
            desk.writer.append([kinds.DatasetRevoked(ds, "withdrawn").draft("data-manager")])
        )
        second = asyncio.create_task(desk.writer.append_under(APPROVED, [trained(ds)]))
        elsewhere = asyncio.create_task(desk.writer.append_under(APPROVED, [trained(other)]))
        await asyncio.sleep(0)
        let_go()
        assert isinstance(await first, Recorded)
        assert isinstance(await withdrawing, Recorded)
        assert await second is None
        assert isinstance(await elsewhere, Recorded)
        assert await desk.writer.append_under(APPROVED, [trained(ds), DRAFT]) is None
        # The study's own end is still written in the name of its approval.
        ended = [revoked(APPROVED.study)]
        assert isinstance(await desk.writer.append_under(APPROVED, ended), Recorded)


async def test_only_the_very_approval_that_was_given_will_do(log: Log) -> None:
    terms = kinds.DpTerms("none", "0", "0", 0, "0", "0", "none", "1")
    async with writing(log) as desk:
        study, expires_us = APPROVED.study, 3 * 10**15
        again = kinds.StudyApproved(
            study, "data-owner", "train", bytes(32), bytes(32), expires_us, terms, (0, 0)
        ).draft("data-owner")
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        approving = asyncio.create_task(desk.writer.append([DRAFT, again]))
        old = asyncio.create_task(desk.writer.append_under(APPROVED, [DRAFT]))
        newer = Approval(study, log.checkpoint.size + 2)
        new = asyncio.create_task(desk.writer.append_under(newer, [DRAFT]))
        await asyncio.sleep(0)
        let_go()
        await first
        approved = await approving
        assert approved.entries[1].seq == newer.seq
        assert await old is None
        assert isinstance(await new, Recorded)


async def test_what_was_prepared_from_a_snapshot_comes_to_nothing_if_it_is_spoilt(log: Log) -> None:
    def is_skip(kind: str, body: object) -> bool:
        return kind == kinds.RoundSkipped.KIND

    skipped = kinds.RoundSkipped(STUDY, 0, "alone").draft("node")
    async with writing(log) as desk:
        since = log.checkpoint.size
        began, let_go = desk.hold()
        first = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        # All of these are decided inside one commit, in this order.
        early = asyncio.create_task(desk.writer.append_unless([DRAFT], Unless(since, is_skip)))
        skipping = asyncio.create_task(desk.writer.append([skipped]))
        late = asyncio.create_task(desk.writer.append_unless([DRAFT], Unless(since, is_skip)))
        await asyncio.sleep(0)
        let_go()
        await first
        assert isinstance(await early, Recorded)
        await skipping
        assert await late is None
        assert await desk.writer.append_unless([DRAFT], Unless(since, is_skip)) is None
        after = Unless(log.checkpoint.size, is_skip)
        assert isinstance(await desk.writer.append_unless([DRAFT], after), Recorded)


async def test_a_revocation_that_could_not_be_written_takes_no_effect(log: Log) -> None:
    async with writing(log) as desk:
        bad = Draft("NOT A KIND", "node", {})
        with pytest.raises(LedgerError):
            await desk.writer.append([revoked(APPROVED.study), bad])
        assert isinstance(await desk.writer.append_under(APPROVED, [DRAFT]), Recorded)


async def test_after_the_end_nothing_is_accepted_and_nobody_waits(log: Log) -> None:
    async with writing(log) as desk:
        began, let_go = desk.hold()
        last = asyncio.create_task(desk.writer.append([DRAFT]))
        await began.wait()
        closing = asyncio.create_task(desk.writer.close())
        await asyncio.sleep(0)
        with pytest.raises(LogStopped):
            await desk.writer.append([DRAFT])
        let_go()
        assert isinstance(await last, Recorded)  # what was queued is still written
        await closing
