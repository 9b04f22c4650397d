"""The one thread that writes the ledger: entries that are ready together share a commit.

An fsync costs milliseconds, a signature microseconds: batching is what keeps rounds short."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from ledger.log import Committed, Draft, Entry, Log, Value
from ledger.log.errors import LedgerError, LogStopped, StoreError
from ledger.provenance import kinds
from ledger.provenance.kinds import ClockAnomaly
from p2pfl.core.effects import SeqLink
from p2pfl.core.history import DECIDING, STARTING, History, Standing
from p2pfl.core.names import StudyId
from p2pfl.runtime.node_clock import JUMP_US, NodeClock

BATCH_ENTRIES_MAX: Final = 512
CLOCK_S: Final = 10.0
"""How often the clock is looked at while nothing is written."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one request became: its own entries, under a head that may cover more."""

    entries: tuple[Entry, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Approval:
    """An own approval: the entry with this sequence number."""

    study: StudyId
    seq: int


@dataclass(frozen=True, slots=True)
class Unless:
    """What a decision stands on: the entries before number `since`, and none that spoils it.

    spoils: told kind and body of an entry that came after the decision was prepared."""

    since: int
    spoils: Callable[[str, Mapping[str, Value]], bool]


@dataclass(frozen=True, slots=True)
class InForce:
    """What people decided last: own approvals by study, with their entries' sequence numbers, and
    datasets that may not be used any more."""

    approved: Mapping[StudyId, int]
    withdrawn: frozenset[bytes] = frozenset()


def in_force_of(history: History) -> InForce:
    """What is in force at the end of a ledger."""
    return InForce(
        {
            study: past.approved_seq
            for study, past in history.studies.items()
            if past.standing is Standing.APPROVED
        },
        frozenset(ds for ds, dataset in history.datasets.items() if dataset.revoked),
    )


@dataclass(slots=True)
class _Request:
    drafts: tuple[Draft, ...]
    links: tuple[SeqLink, ...]
    done: asyncio.Future[Recorded | None]
    under: Approval | None = None
    unless: Unless | None = None
    work: Callable[[Log, int], Committed | None] | None = None


class LedgerWriter:
    """Appends in the order of the calls; `on_recorded` runs on the loop, in the log's order.

    in_force: as the log is opened; clock: what it says only this writer lets jump."""

    def __init__(
        self,
        log: Log,
        clock: NodeClock,
        on_recorded: Callable[[Recorded], None],
        in_force: InForce,
    ) -> None:
        self._log = log
        self._clock = clock
        self._on_recorded = on_recorded
        self._in_force = in_force
        self._newest_us = max((entry.time_us for entry in _last(log)), default=0)
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._is_closed = False
        self._set_aside: _Request | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that are not being written yet."""
        return self._queue.qsize()

    async def append(self, drafts: Sequence[Draft], links: Sequence[SeqLink] = ()) -> Recorded:
        """Returns once the entries are durable. Raises LedgerError; then nothing was written."""
        recorded = await self._request(_Request(tuple(drafts), tuple(links), self._future()))
        assert recorded is not None, "only an append under an approval may come to nothing"
        return recorded

    async def append_under(
        self, approval: Approval, drafts: Sequence[Draft], links: Sequence[SeqLink] = ()
    ) -> Recorded | None:
        """Append unless this approval is not the study's newest decision any more: then None.

        Decided where the order of entries is: a person's revocation may have come first.
        Raises LedgerError; then nothing was written."""
        request = _Request(tuple(drafts), tuple(links), self._future(), under=approval)
        return await self._request(request)

    async def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> Recorded | None:
        """Append unless something on record by then spoils it: then None.

        For a decision that was prepared from a snapshot, off the loop.
        Raises LedgerError; then nothing was written."""
        return await self._request(_Request(tuple(drafts), (), self._future(), unless=unless))

    async def perform(self, work: Callable[[Log, int], Committed | None]) -> Recorded | None:
        """Let `work` change the log, between two commits of others; it is told the time (µs).

        For what is more than an append: a new log key, an erased value. Raises what it raises."""
        return await self._request(_Request((), (), self._future(), work=work))

    async def watch_clock(self, may_write: Callable[[], bool], every_s: float = CLOCK_S) -> None:
        """Have the clock looked at also while nothing is written, until cancelled.

        A clock that was wrong for the last entries would else not be explained by the next ones.
        may_write: whether it is certain that the log may go on."""
        while True:
            await asyncio.sleep(every_s)
            if may_write():
                with contextlib.suppress(LedgerError):  # whoever writes next is told
                    await self.perform(lambda _log, _now_us: None)

    def _future(self) -> "asyncio.Future[Recorded | None]":
        return self._loop.create_future()

    async def _request(self, request: _Request) -> Recorded | None:
        if self._is_closed:
            raise LogStopped
        self._queue.put(request)
        return await request.done

    async def close(self) -> None:
        """Write what is queued, then end the thread. The log itself stays open."""
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- in the ledger's thread ------------------------------------------------------------------

    def _run(self) -> None:
        while (request := self._set_aside or self._queue.get()) is not None:
            self._set_aside = None
            if request.work is not None:
                self._perform(request, request.work)
                continue
            batch, is_last = self._collect(request)
            self._commit(batch)
            if is_last:
                return

    def _collect(self, first: _Request) -> tuple[list[_Request], bool]:
        batch, entries = [first], len(first.drafts)
        while entries < BATCH_ENTRIES_MAX:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
            if following is None:
                return batch, True
            if following.work is not None:
                self._set_aside = following
                return batch, False
            batch.append(following)
            entries += len(following.drafts)
        return batch, False

    def _commit(self, batch: list[_Request]) -> None:
        try:
            self._note_clock()
            in_force, written, dropped = self._judged(batch)
            if written:
                committed = self._log.append(self._linked(written), self._now_us())
                self._in_force = in_force
                self._newest_us = committed.entries[-1].time_us
                self._loop.call_soon_threadsafe(self._deliver, written, committed)
        except StoreError as error:  # the disk's doing: nobody's entries are durable
            self._loop.call_soon_threadsafe(self._fail, batch, error)
        except Exception as error:  # handed to every caller: each of them decides
            if len(batch) > 1:  # one bad request must not take its neighbours down with it
                for request in batch:
                    self._commit([request])
                return
            self._loop.call_soon_threadsafe(self._fail, batch, error)
        else:
            self._loop.call_soon_threadsafe(_drop, dropped)

    def _perform(self, request: _Request, work: Callable[[Log, int], Committed | None]) -> None:
        try:
            self._note_clock()
            committed = work(self._log, self._now_us())
        except Exception as error:  # handed to whoever asked
            self._loop.call_soon_threadsafe(self._fail, [request], error)
            return
        if committed is None:
            self._loop.call_soon_threadsafe(_drop, [request])
            return
        self._newest_us = committed.entries[-1].time_us
        self._loop.call_soon_threadsafe(self._performed, request, committed)

    def _judged(self, batch: list[_Request]) -> tuple[InForce, list[_Request], list[_Request]]:
        """What is in force after a batch, what of it is to be written, and what is not."""
        in_force, written, dropped = self._in_force, list[_Request](), list[_Request]()
        seq = self._log.checkpoint.size
        for request in batch:
            if self._stands(request, in_force, written):
                written.append(request)
                in_force = _after(in_force, request.drafts, seq)
                seq += len(request.drafts)
            else:
                dropped.append(request)
        return in_force, written, dropped

    def _note_clock(self) -> None:
        """Put on record that the clock was set; only then does the node claim the new time.

        Else the next entry contradicts the last one, or what other sites saw meanwhile."""
        set_by_us = self._clock.set_by_us()
        now_us = self._clock.now_us() + set_by_us
        delta_us = min(set_by_us, now_us - self._newest_us)
        if not set_by_us and delta_us >= -JUMP_US:
            return
        anomaly = ClockAnomaly(delta_us if delta_us < -JUMP_US else set_by_us)
        committed = self._log.append([anomaly.draft("node")], now_us)
        if set_by_us:
            self._clock.follow()
        self._newest_us = now_us
        recorded = Recorded(committed.entries, committed.note)
        self._loop.call_soon_threadsafe(self._on_recorded, recorded)

    def _now_us(self) -> int:
        """No entry is dated before the one before it: a clock that is a little behind waits."""
        return max(self._clock.now_us(), self._newest_us)

    def _stands(self, request: _Request, in_force: InForce, before: Sequence[_Request]) -> bool:
        """Whether a request may be written after the log and these requests."""
        under, unless = request.under, request.unless
        if under is not None:
            if in_force.approved.get(under.study) != under.seq:
                return False
            # Training that was under way while its data was withdrawn counts as not done: nothing
            # of it has left, and nothing of it will.
            trained = (d for d in request.drafts if d.kind == kinds.TrainDone.KIND)
            if any(draft.body["ds"] in in_force.withdrawn for draft in trained):
                return False
        if unless is None:
            return True
        recorded = ((entry.kind, entry.body) for entry in self._log.entries(unless.since))
        waiting = ((draft.kind, draft.body) for one in before for draft in one.drafts)
        return not any(unless.spoils(kind, body) for kind, body in chain(recorded, waiting))

    def _linked(self, batch: list[_Request]) -> list[Draft]:
        drafts: list[Draft] = []
        for request in batch:
            first = self._log.checkpoint.size + len(drafts)
            made = list(request.drafts)
            for link in request.links:
                body = {**made[link.draft].body, link.field: first + link.names}
                made[link.draft] = replace(made[link.draft], body=body)
            drafts += made
        return drafts

    # -- on the loop -----------------------------------------------------------------------------

    def _deliver(self, batch: list[_Request], committed: Committed) -> None:
        start = 0
        for request in batch:
            stop = start + len(request.drafts)
            recorded = Recorded(committed.entries[start:stop], committed.note)
            start = stop
            self._on_recorded(recorded)
            if not request.done.done():
                request.done.set_result(recorded)

    def _performed(self, request: _Request, committed: Committed) -> None:
        recorded = Recorded(committed.entries, committed.note)
        self._on_recorded(recorded)
        if not request.done.done():
            request.done.set_result(recorded)

    def _fail(self, batch: list[_Request], error: Exception) -> None:
        for request in batch:
            if not request.done.done():
                request.done.set_exception(error)


def _last(log: Log) -> Iterator[Entry]:
    return log.entries(max(0, log.checkpoint.size - 1))


def _drop(batch: list[_Request]) -> None:
    for request in batch:
        if not request.done.done():
            request.done.set_result(None)


def decides_on(kind: str, body: Mapping[str, Value], study: StudyId) -> bool:
    """Whether an entry changes if this site takes part in a study."""
    return kind in DECIDING and body["study"] == study


def _after(in_force: InForce, drafts: Sequence[Draft], first_seq: int) -> InForce:
    """What is in force once these drafts are written from this number on."""
    deciding = [d for d in drafts if d.kind in DECIDING or d.kind == kinds.DatasetRevoked.KIND]
    if not deciding:
        return in_force
    approved, withdrawn = dict(in_force.approved), set(in_force.withdrawn)
    for seq, draft in enumerate(drafts, first_seq):
        if draft.kind == kinds.DatasetRevoked.KIND:
            withdrawn.add(_digest(draft, "ds"))
        elif draft.kind in STARTING:
            approved[StudyId(_digest(draft, "study"))] = seq
        elif draft.kind in DECIDING:
            approved.pop(StudyId(_digest(draft, "study")), None)
    return InForce(approved, frozenset(withdrawn))


def _digest(draft: Draft, field: str) -> bytes:
    value = draft.body[field]
    assert isinstance(value, bytes), "drafts are made from kinds, which checked it"
    return value
