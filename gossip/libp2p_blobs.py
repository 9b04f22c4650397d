"""Serving and fetching blobs over `/p2pfl/blob/1` (format: `gossip.blob_protocol`).

A downloader keeps four requests for 1 MiB under way, never more than it can store, and hashes
and writes in a worker thread; reading never pauses, since libp2p resets a writer that waits 5 s.
A server asks the node before every chunk whether the site may have it, so a revocation bites in
the middle of a transfer.
"""

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.id import ID

from gossip.blob_protocol import (
    ANSWER_BYTES,
    CHUNK_BYTES,
    REQUEST_BYTES,
    REQUESTS_IN_FLIGHT,
    Answer,
    BlobProtocolError,
    Status,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    requests_for,
)
from gossip.blob_source import Source
from gossip.blob_spool import DigestMismatch, NoSpace, Spool
from gossip.blob_uploads import Upload, Uploads
from gossip.errors import (
    BlobMismatch,
    BlobNotServed,
    FetchBusy,
    FetchFailed,
    FetchInterrupted,
    FetchTimedOut,
    Unreachable,
)
from gossip.identifiers import Digest, SiteId
from gossip.libp2p_bulk import Uplink, give_credit, read_into, write_bulk
from gossip.libp2p_guards import Access, Refusals, close_quietly, reset_quietly
from gossip.libp2p_host import GuardedHost
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_push import write_shielded

BLOB = TProtocol("/p2pfl/blob/1")
REQUESTS_PER_CREDIT = 1024
"""They fit into the window that every stream begins with, several times."""
_CHUNKS_HELD = 3
"""One that arrives, one that waits, one that is stored."""

Lookup = Callable[[SiteId, Digest], Awaitable[Path | None]]


class BlobGiver:
    """Answers requests of members.

    lookup: asks the node for the file that a site may have now, or None.
    """

    def __init__(
        self, *, access: Access, refusals: Refusals, limits: NetLimits, lookup: Lookup
    ) -> None:
        self._access = access
        self._refusals = refusals
        self._limits = limits
        self._lookup = lookup
        self._uploads = Uploads(limits.uploads_max)
        self._uplink = Uplink(limits.upload_bytes_per_s)

    async def handle(self, stream: Any) -> None:
        """One inbound blob stream, until the peer closes it or asks for what it does not get."""
        site = self._access.site_of(stream.muxed_conn.peer_id)
        if site is None:
            return
        with trio.CancelScope() as scope:
            upload = self._uploads.begin(site, scope.cancel)
            if upload is None:
                await self._refuse(stream, Status.BUSY)
                return
            try:
                await self._serve(upload, stream)
            except BlobProtocolError as error:
                self._refusals.add(site.hex(), "BlobGarbled", str(error))
                await reset_quietly(stream)
            except (StreamError, trio.TooSlowError):
                await reset_quietly(stream)
            finally:
                self._uploads.end(upload)
        if scope.cancelled_caught:  # its place is another site's now
            await reset_quietly(stream)

    async def _serve(self, upload: Upload, stream: Any) -> None:
        """Write one chunk while the next one is asked for and read."""
        ready, writing = trio.open_memory_channel[memoryview](0)
        source = Source()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, writing)
                async with ready:
                    refusal = await self._prepare(upload, stream, source, ready)
        except ExceptionGroup as group:
            # The writer's error, if any, made the other one fail, too.
            causes = sorted(group.exceptions, key=lambda error: not isinstance(error, StreamError))
            raise causes[0] from group
        finally:
            source.close()
        if refusal is not None:
            await self._refuse(stream, refusal)

    async def _prepare(
        self,
        upload: Upload,
        stream: Any,
        source: Source,
        ready: "trio.MemorySendChannel[memoryview]",
    ) -> Status | None:
        """Take request after request; returns why the last one is not served, None at the end."""
        rooms = deque(memoryview(bytearray(ANSWER_BYTES + CHUNK_BYTES)) for _ in range(2))
        raw, uncredited = memoryview(bytearray(REQUEST_BYTES)), 0
        site = upload.site
        while True:
            try:
                with trio.fail_after(self._limits.idle_s):
                    await read_into(stream, raw, self._limits.idle_s)
            except StreamEOF:
                return None
            uncredited += 1
            if uncredited == REQUESTS_PER_CREDIT:
                await give_credit(stream, uncredited * REQUEST_BYTES)
                uncredited = 0
            request = decode_request(bytes(raw))
            path = None
            if self._access.site_of(stream.muxed_conn.peer_id) == site:
                path = await self._lookup(site, request.digest)
            if path is None:
                return Status.NOT_SERVED
            room = rooms[0]
            answer = room[: ANSWER_BYTES + request.length]
            answer[:ANSWER_BYTES] = encode_answer(Answer(Status.SERVED, request.length))
            # Behind the place for the answer's head.
            wanted = path, request.offset, answer[ANSWER_BYTES:]
            if not source.read_now(*wanted):
                size = await trio.to_thread.run_sync(source.read, *wanted)
                if size is None:
                    return Status.NOT_SERVED
                if size != request.length:
                    return Status.RANGE
            # Taken only once the one before was written: its room is free again then.
            await ready.send(answer)
            upload.chunks += 1
            rooms.rotate()

    async def _write(self, stream: Any, chunks: "trio.MemoryReceiveChannel[memoryview]") -> None:
        async with chunks:
            async for chunk in chunks:
                await write_bulk(stream, chunk, self._limits.chunk_s, self._uplink)

    async def _refuse(self, stream: Any, status: Status) -> None:
        await write_shielded(stream, encode_answer(Answer(status, 0)), self._limits.chunk_s)
        await close_quietly(stream)
        # The downloader has up to three more requests under way. Reading them keeps its stream
        # from being reset before it has read our answer.
        with trio.move_on_after(1.0), contextlib.suppress(StreamError):
            while await stream.read(REQUEST_BYTES):
                pass


class BlobTaker:
    """Downloads blobs from members.

    on_progress: called with the caller's callback and the bytes had so far.
    """

    def __init__(
        self,
        host: GuardedHost,
        *,
        limits: NetLimits,
        on_progress: Callable[[Callable[[int], None], int], None],
    ) -> None:
        self._host = host
        self._limits = limits
        self._on_progress = on_progress
        self._slots: dict[SiteId, trio.Semaphore] = {}
        self._waiting: Counter[SiteId] = Counter()
        self._targets: set[Path] = set()

    async def fetch(
        self, site: SiteId, peer: ID, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        """Download into the spool's target. Raises FetchFailed, Unreachable."""
        if not 0 <= spool.size_bytes <= self._limits.blob_bytes_max:
            raise FetchFailed(site, spool.digest, f"{spool.size_bytes} bytes are too many")
        if spool.into in self._targets:
            raise FetchBusy(site, spool.digest, f"{spool.into.name} is being fetched already")
        self._targets.add(spool.into)
        try:
            slowest_s = spool.size_bytes / self._limits.slowest_bytes_per_s
            with trio.fail_after(self._limits.transfer_s + slowest_s):
                async with self._slot(site):
                    await self._fetch(site, peer, spool, progress)
        except trio.TooSlowError as error:
            raise FetchTimedOut(site, spool.digest, f"had {spool.have_bytes} bytes") from error
        except (StreamError, SwarmException) as error:
            raise FetchInterrupted(
                site, spool.digest, f"after {spool.have_bytes} bytes: {type(error).__name__}"
            ) from error
        except BlobProtocolError as error:
            raise BlobMismatch(site, spool.digest, str(error)) from error
        except trio.BrokenResourceError as error:
            raise FetchFailed(site, spool.digest, "cannot be stored") from error
        except NoSpace as error:
            raise FetchFailed(site, spool.digest, f"no space: {error}") from error
        except OSError as error:
            raise FetchFailed(site, spool.digest, f"cannot be stored: {error.strerror}") from error
        finally:
            self._targets.discard(spool.into)
            spool.close()

    @contextlib.asynccontextmanager
    async def _slot(self, site: SiteId) -> AsyncIterator[None]:
        """At most `downloads_per_peer_max` transfers from one site; others wait their turn."""
        slots = self._slots.setdefault(site, trio.Semaphore(self._limits.downloads_per_peer_max))
        self._waiting[site] += 1
        try:
            async with slots:
                yield
        finally:
            self._waiting[site] -= 1
            if not self._waiting[site]:
                del self._waiting[site]
                self._slots.pop(site, None)

    async def _fetch(
        self, site: SiteId, peer: ID, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        try:
            await self._fetch_once(site, peer, spool, progress)
        except DigestMismatch as error:
            if not spool.resumed_bytes:
                raise BlobMismatch(site, spool.digest, str(error)) from error
            # The part that an earlier try left may be what was wrong: once more from nothing.
            fresh = Spool(spool.into, spool.digest, spool.size_bytes)
            try:
                await self._fetch_once(site, peer, fresh, progress)
            except DigestMismatch as again:
                raise BlobMismatch(site, spool.digest, str(again)) from again
            finally:
                fresh.close()

    async def _fetch_once(
        self, site: SiteId, peer: ID, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        reserve = self._limits.disk_reserve_bytes
        await trio.to_thread.run_sync(lambda: spool.open(reserve_bytes=reserve))
        self._on_progress(progress, spool.have_bytes)
        if spool.have_bytes < spool.size_bytes:
            if self._host.get_network().current(peer) is None:
                raise Unreachable(site, "not connected")
            stream = await self._open(site, peer)
            try:
                await self._transfer(site, stream, spool, progress)
            finally:
                await reset_quietly(stream)
        await trio.to_thread.run_sync(spool.finish)

    async def _open(self, site: SiteId, peer: ID) -> Any:
        try:
            return await self._host.new_stream(peer, [BLOB])
        except Exception as error:
            raise Unreachable(site, f"no stream: {type(error).__name__}") from error

    async def _transfer(
        self, site: SiteId, stream: Any, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        """Keep requests under way; store each chunk while the next ones arrive."""
        full, storing = trio.open_memory_channel[memoryview](1)
        free, receiving = trio.open_memory_channel[memoryview](_CHUNKS_HELD)
        for _ in range(_CHUNKS_HELD):
            free.send_nowait(memoryview(bytearray(CHUNK_BYTES)))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._store, storing, free, spool, progress)
                async with full:
                    await self._receive(site, stream, spool, receiving, full)
        except ExceptionGroup as group:
            # The store's error, if any, made the sender fail too; it comes first.
            causes = sorted(group.exceptions, key=lambda cause: not isinstance(cause, OSError))
            raise causes[0] from group

    async def _receive(
        self,
        site: SiteId,
        stream: Any,
        spool: Spool,
        empty: "trio.MemoryReceiveChannel[memoryview]",
        full: "trio.MemorySendChannel[memoryview]",
    ) -> None:
        requests = requests_for(
            spool.digest, size_bytes=spool.size_bytes, have_bytes=spool.have_bytes
        )
        under_way = deque(itertools.islice(requests, REQUESTS_IN_FLIGHT))
        head = memoryview(bytearray(ANSWER_BYTES))
        # Whatever is asked for may be sent without waiting for us.
        window = REQUESTS_IN_FLIGHT * (ANSWER_BYTES + CHUNK_BYTES)
        await give_credit(stream, 0, more=window, said=b"".join(map(encode_request, under_way)))
        while under_way:
            asked = under_way.popleft()
            await read_into(stream, head, self._limits.chunk_s)
            answer = decode_answer(bytes(head), asked=asked.length)
            _raise_refusal(site, spool.digest, answer.status)
            chunk = (await empty.receive())[: answer.length]
            await read_into(stream, chunk, self._limits.chunk_s)
            following = next(requests, None)
            said = b"" if following is None else encode_request(following)
            await give_credit(stream, ANSWER_BYTES + answer.length, said=said)
            if following is not None:
                under_way.append(following)
            await full.send(chunk)

    async def _store(
        self,
        chunks: "trio.MemoryReceiveChannel[memoryview]",
        free: "trio.MemorySendChannel[memoryview]",
        spool: Spool,
        progress: Callable[[int], None],
    ) -> None:
        async with chunks, free:
            async for chunk in chunks:
                await trio.to_thread.run_sync(spool.append, chunk)
                free.send_nowait(memoryview(chunk.obj))
                self._on_progress(progress, spool.have_bytes)


def _raise_refusal(site: SiteId, digest: Digest, status: Status) -> None:
    match status:
        case Status.SERVED:
            return
        case Status.NOT_SERVED:
            raise BlobNotServed(site, digest, "the site does not serve it to us")
        case Status.BUSY:
            raise FetchBusy(site, digest, "the site serves too many others")
        case Status.RANGE:
            raise BlobMismatch(site, digest, "the site's file is shorter than announced")
