"""The one thread that writes the ledger: entries that are ready together share a commit.

An fsync costs milliseconds, a signature microseconds: batching is what keeps rounds short."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ledger.log import Committed, Draft, Entry, Log
from p2pfl.core.effects import SeqLink

BATCH_ENTRIES_MAX = 512


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one request became: its own entries, under a head that may cover more."""

    entries: tuple[Entry, ...]
    note: bytes


@dataclass(slots=True)
class _Request:
    drafts: tuple[Draft, ...]
    links: tuple[SeqLink, ...]
    done: asyncio.Future[Recorded]


class LedgerWriter:
    """Appends in the order of the calls; `on_recorded` runs on the loop, in the log's order."""

    def __init__(
        self, log: Log, now_us: Callable[[], int], on_recorded: Callable[[Recorded], None]
    ) -> None:
        self._log = log
        self._now_us = now_us
        self._on_recorded = on_recorded
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def append(self, drafts: Sequence[Draft], links: Sequence[SeqLink] = ()) -> Recorded:
        """Returns once the entries are durable. Raises LedgerError; then nothing was written."""
        done: asyncio.Future[Recorded] = self._loop.create_future()
        self._queue.put(_Request(tuple(drafts), tuple(links), done))
        return await done

    async def close(self) -> None:
        """Write what is queued, then end the thread. The log itself stays open."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (request := self._queue.get()) is not None:
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
            batch.append(following)
            entries += len(following.drafts)
        return batch, False

    def _commit(self, batch: list[_Request]) -> None:
        try:
            committed = self._log.append(self._linked(batch), self._now_us())
        except Exception as error:  # handed to every caller: each of them decides
            if len(batch) > 1:  # one bad request must not take its neighbours down with it
                for request in batch:
                    self._commit([request])
                return
            self._loop.call_soon_threadsafe(self._fail, batch[0], error)
            return
        self._loop.call_soon_threadsafe(self._deliver, batch, committed)

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

    def _deliver(self, batch: list[_Request], committed: Committed) -> None:
        start = 0
        for request in batch:
            stop = start + len(request.drafts)
            recorded = Recorded(committed.entries[start:stop], committed.note)
            start = stop
            self._on_recorded(recorded)
            if not request.done.done():
                request.done.set_result(recorded)

    def _fail(self, request: _Request, error: Exception) -> None:
        if not request.done.done():
            request.done.set_exception(error)
