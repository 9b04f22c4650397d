"""What hostile members do with connections and streams ends neither the node nor its work."""

import contextlib
import os

import pytest
import trio
from libp2p.host.exceptions import StreamFailure
from net_attack import BLOB, PUSH, counted, transport, with_net
from net_hostile import hostile, multistream
from net_stage import Net

from gossip.blob_protocol import Request, encode_request
from gossip.identifiers import Digest
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_pubsub import MESHSUB


def test_garbage_instead_of_multiplexer_frames_costs_only_its_connection() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(net.nodes[2].keys.transport) as member:
            for data in (
                os.urandom(5000),
                b"\xff" * 5000,
                bytes(5000),
                # DATA and SYN+DATA frames for 16 MiB that never come; a ping; a good-bye.
                bytes.fromhex("000000000000000101000000"),
                bytes.fromhex("000000010000000101000000"),
                bytes.fromhex("000200010000000000000001") * 200,
                bytes.fromhex("000300000000000000000002"),
                b"".join(
                    bytes.fromhex("00010001") + n.to_bytes(4, "big") + bytes(4)
                    for n in range(1, 401, 2)
                ),
            ):
                await member.garble_multiplexer(a, data)

    with_net(run)


def test_a_peer_that_ignores_our_window_is_cut_off() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            # The server is busy writing what is not read, while more and more comes in.
            request = encode_request(Request(Digest(bytes(32)), 0, 1))
            stream = await member.say(a, BLOB, request)
            with pytest.raises(Exception, match=r"^"):  # noqa: PT012 # whichever write meets it
                for _ in range(200):
                    await member.overrun(stream, bytes(60_000))
            await member.is_cut(a)
        await counted(a, "MultiplexerFlood")

    with_net(run, NetLimits(buffered_bytes_per_connection_max=100_000))


def test_too_many_streams_are_refused() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            for _ in range(3):
                await member.open(a, BLOB)
            with pytest.raises(Exception, match=r"^"):  # open or write meets it
                assert await member.read(await member.say(a, BLOB, b"x"), 1) != b""
            await counted(a, "TooManyStreams")
            with pytest.raises(Exception, match=r"^"):  # noqa: PT012 # whichever open meets it
                for _ in range(60):
                    await member.say_unnegotiated(a, b"\x13")
            await member.is_cut(a)

    with_net(run)


def test_too_many_connections_are_refused() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            for _ in range(6):
                try:
                    await member.connect(a)
                except Exception:
                    break
            await counted(a, "TooManyConnections")
        await a.inbox.until(lambda inbox: c.site not in inbox.online)

    with_net(run)


def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        for _ in range(8):
            async with hostile(c.keys.transport) as member:
                await member.connect(a)
                await a.inbox.until(lambda inbox: c.site in inbox.online)
            await a.inbox.until(lambda inbox: c.site not in inbox.online)
        tasks = await transport(a)._thread.call(_tasks_named, "_handle_inbound_connection")
        assert tasks <= 1

    with_net(run)


async def _tasks_named(word: str) -> int:
    def count(task: trio.lowlevel.Task) -> int:
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        here = sum(1 for frame, _ in task.iter_await_frames() if frame.f_code.co_name == word)
        return here + sum(count(child) for child in children)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return count(root)


@pytest.mark.parametrize("protocol", [PUSH, BLOB, MESHSUB])
def test_streams_that_are_reset_or_say_nothing_do_no_harm(protocol: str) -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            for _ in range(5):
                stream = await member.open(a, protocol)
                await member.thread.call(stream.reset)
            await member.open(a, protocol)

    with_net(run)


def test_a_handler_that_raises_costs_only_its_stream() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]

        async def fails(stream: object) -> None:
            raise ZeroDivisionError

        host = transport(a)._running.host
        transport(a)._thread.soon(host.set_stream_handler, "/test/fails", fails)
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            # The reset may overtake the end of the negotiation.
            with contextlib.suppress(StreamFailure):
                stream = await member.open(a, "/test/fails")
                assert await member.read(stream, 1) == b""
            await counted(a, "StreamError.ZeroDivisionError")

    with_net(run)


def test_garbage_in_the_negotiation_of_a_stream_does_no_harm() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            for data in (b"\xff" * 2000, bytes(2000), multistream("\x00"), b"\x04\xff\xfe\xfd\n"):
                await member.say_unnegotiated(a, data)
                await member.say_unnegotiated(a, multistream("/multistream/1.0.0") + data)

    with_net(run)
