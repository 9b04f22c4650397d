"""Large blobs: a receiver that is killed, several at once beside small messages, a capped line."""

import asyncio
import contextlib
import hashlib
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID

from gossip.blob_protocol import CHUNK_BYTES, REQUESTS_IN_FLIGHT, WRITE_BYTES
from gossip.identifiers import Digest, SiteId
from gossip.libp2p_blobs import _CHUNKS_HELD
from gossip.libp2p_bulk import Uplink
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_transport import Libp2pTransport
from gossip.libp2p_yamux import Awaited, GuardedYamux
from simulations.benchmarks.transfer_bench import Echo, Stage, free_ports, keys_of, roster_of

CHUNKS = 40
SLOW = NetLimits(upload_bytes_per_s=30e6)
"""So slow that a kill meets the transfer in its middle."""


class Counting(Echo):
    """Serves one file and counts the chunks that are asked for."""

    def __init__(self, blob: Path) -> None:
        super().__init__(blob)
        self.asked = 0

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        """One more chunk."""
        self.asked += 1
        return super().blob(site, digest)


@contextlib.asynccontextmanager
async def giving(stage: Stage) -> AsyncIterator[Counting]:
    inbox = Counting(stage.blob)
    listen = f"127.0.0.1:{stage.ports[1]}"
    transport = Libp2pTransport(keys_of(1).transport, roster_of(stage), listen, limits=SLOW)
    await transport.start(inbox)
    try:
        yield inbox
    finally:
        await transport.stop()


async def receiver(stage: Stage, digest: Digest, chunks: int) -> asyncio.subprocess.Process:
    script = Path(__file__).with_name("net_fetching.py")
    arguments = [stage.folder, *stage.ports, digest.hex(), chunks * CHUNK_BYTES]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


def test_a_receiver_that_is_killed_fetches_no_stored_byte_again(tmp_path: Path) -> None:
    asyncio.run(_killed(tmp_path, CHUNKS))


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_model_of_240_mb_passes_a_kill_in_the_memory_of_a_few_chunks(tmp_path: Path) -> None:
    grown = asyncio.run(_killed(tmp_path, 240))
    # Three chunks in hand, those that were asked for on the line, and as much again for the heap.
    assert grown <= 2 * (REQUESTS_IN_FLIGHT + _CHUNKS_HELD) * CHUNK_BYTES


async def _killed(tmp_path: Path, chunks: int) -> int:
    """Returns by how much the second receiver's memory grew at most, in bytes."""
    one, other = free_ports(2)
    stage = Stage(tmp_path, (one, other), 0, 0)
    chunk, size_bytes = os.urandom(CHUNK_BYTES), chunks * CHUNK_BYTES
    with stage.blob.open("wb") as file:
        for _ in range(chunks):
            file.write(chunk)
    digest = _digest_of(stage.blob)
    async with giving(stage) as inbox:
        first = await receiver(stage, digest, chunks)
        while int(await said(first)) < size_bytes // 2:
            pass
        first.kill()
        await first.wait()
        stored = (tmp_path / "had.part").stat().st_size
        assert size_bytes // 2 <= stored < size_bytes
        asked_before = inbox.asked
        second = await receiver(stage, digest, chunks)
        assert int(await said(second)) == stored
        memory = [_anonymous_bytes(second.pid)]
        while (line := await said(second)) != "done":
            assert int(line) > stored
            memory.append(_anonymous_bytes(second.pid))
        assert await second.wait() == 0
        assert inbox.asked - asked_before == -(-(size_bytes - stored) // CHUNK_BYTES)
        # What was on its way when it died is all that is sent twice.
        assert inbox.asked <= chunks + REQUESTS_IN_FLIGHT + _CHUNKS_HELD + 2
    assert _digest_of(tmp_path / "had") == digest
    return max(memory) - memory[0]


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").digest())


def _anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file holds; 0 where it has just ended or nobody says."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def test_small_messages_pass_two_blobs_on_the_same_line(tmp_path: Path) -> None:
    """Counted in bytes of the blobs that pass them, for times say more of the machine."""
    passed = asyncio.run(_messages_beside_blobs(tmp_path))
    assert len(passed) >= 5, "the blobs were over too soon"
    # What was asked for of both blobs may be under way before the message.
    assert sorted(passed)[len(passed) // 2] <= REQUESTS_IN_FLIGHT * CHUNK_BYTES


async def _messages_beside_blobs(tmp_path: Path) -> list[int]:
    """How many bytes of blobs each message met before it arrived."""
    one, other = free_ports(2)
    stage = Stage(tmp_path, (one, other), 0, 0)
    data = os.urandom(CHUNK_BYTES) * CHUNKS
    stage.blob.write_bytes(data)
    digest, had, passed = Digest(hashlib.sha256(data).digest()), [0, 0], list[int]()
    inboxes = Echo(), Echo(stage.blob)
    ends = [
        Libp2pTransport(
            keys_of(at).transport, roster_of(stage), f"127.0.0.1:{stage.ports[at]}", limits=SLOW
        )
        for at in range(2)
    ]
    for end, inbox in zip(ends, inboxes, strict=True):
        await end.start(inbox)
    giver, taker = await inboxes[0].met.get(), await inboxes[1].met.get()

    def counter(at: int) -> Callable[[int], None]:
        return lambda size: had.__setitem__(at, size)

    fetching = [
        asyncio.create_task(
            ends[0].fetch(giver, digest, len(data), tmp_path / f"had-{at}", counter(at))
        )
        for at in range(2)
    ]
    while not all(fetch.done() for fetch in fetching):
        before = sum(had)
        await ends[1].send(taker, b"small")
        await inboxes[0].arrived.get()
        if 0 < before < 2 * len(data):
            passed.append(sum(had) - before)
        await asyncio.sleep(0.01)
    await asyncio.gather(*fetching)
    for end in ends:
        await end.stop()
    return passed


def test_a_capped_line_gives_all_transfers_together_its_rate() -> None:
    async def run() -> None:
        uplink = Uplink(WRITE_BYTES)  # one frame a second

        async def transfer() -> None:
            for _ in range(5):
                await uplink.wait(WRITE_BYTES)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(transfer)
        assert trio.current_time() - start_s == pytest.approx(14.0)

    async def timed() -> None:
        nonlocal start_s
        start_s = trio.current_time()
        await run()

    start_s = 0.0
    trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_line_without_a_cap_waits_for_nothing() -> None:
    async def run() -> None:
        start_s = trio.current_time()
        for _ in range(1000):
            await Uplink(0.0).wait(WRITE_BYTES)
        assert trio.current_time() == start_s

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_frames_fill_the_room_that_a_reader_waits_for_and_the_rest_is_kept_back() -> None:
    room = bytearray(5)
    awaited = Awaited(memoryview(room))
    assert bytes(awaited.put(memoryview(b"abc"))) == b""
    assert (awaited.have, awaited.is_full) == (3, False)
    assert bytes(awaited.put(memoryview(b"defg"))) == b"fg"
    assert (bytes(room), awaited.is_full) == (b"abcde", True)


def test_a_blob_arrives_whole_over_a_line_that_takes_frames_together(tmp_path: Path) -> None:
    data = os.urandom(3 * CHUNK_BYTES + 1)
    asyncio.run(_fetched(tmp_path, data))
    assert (tmp_path / "had").read_bytes() == data


async def _fetched(tmp_path: Path, data: bytes) -> None:
    one, other = free_ports(2)
    stage = Stage(tmp_path, (one, other), 0, 0)
    stage.blob.write_bytes(data)
    inboxes = Echo(), Echo(stage.blob)
    ends = [
        Libp2pTransport(keys_of(at).transport, roster_of(stage), f"127.0.0.1:{stage.ports[at]}")
        for at in range(2)
    ]
    for end, inbox in zip(ends, inboxes, strict=True):
        await end.start(inbox)
    giver = await inboxes[0].met.get()
    digest = Digest(hashlib.sha256(data).digest())
    await ends[0].fetch(giver, digest, len(data), tmp_path / "had", lambda _: None)
    for end in ends:
        await end.stop()


class Wire:
    """What a multiplexer writes, frame by frame."""

    is_initiator = True

    def __init__(self) -> None:
        self.frames: list[tuple[int, ...]] = []

    async def write(self, data: bytes) -> None:
        self.frames.append(struct.unpack("!BBHII", data))


def test_credit_for_a_few_bytes_waits_and_none_of_it_is_lost() -> None:
    wire = Wire()
    muxed = GuardedYamux(wire, ID(b"peer"))

    async def credit(number: int, *sizes: int) -> None:
        for size in sizes:
            await muxed._write_frame(struct.pack("!BBHII", 0, 1, 0, number, size))

    async def go() -> None:
        await credit(1, *[1000] * 65)
        await credit(3, 300_000)
        await credit(1, 1000, 1000)
        await muxed._write_frame(struct.pack("!BBHII", 0, 1, 1, 5, 0))  # opens a stream
        for number in range(7, 2007, 2):
            await credit(number, 10)  # of streams that are gone

    trio.run(go)
    assert wire.frames == [(0, 1, 0, 3, 300_000), (0, 1, 0, 1, 66_000), (0, 1, 1, 5, 0)]
    assert len(muxed._owed) < 100, "what is owed to streams that are gone is forgotten"
