"""Nothing that strangers or hostile members send ends the node, fills it, or stops its work."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed
from net_hostile import Hostile, ask, hostile, multistream
from net_libp2p import libp2p_net
from transport_conformance import Net, Node

from gossip.addresses import split_address
from gossip.blob_protocol import Request, encode_request
from gossip.errors import FetchBusy
from gossip.identifiers import Digest, digest_of
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_pubsub import MESHSUB, topic_of
from gossip.libp2p_transport import Libp2pTransport

PUSH, BLOB = "/p2pfl/push/1", "/p2pfl/blob/1"
TOPIC = topic_of("conformance")


def with_net(test: Callable[[Net], Awaitable[None]], limits: NetLimits | None = None) -> None:
    """Two honest nodes (0 and 1); sites 2 and 3 are on the roster but not started."""

    async def run() -> None:
        net = libp2p_net(4, limits or NetLimits())
        try:
            async with asyncio.timeout(50):
                await net.start(2)
                await test(net)
                await still_works(net)
        finally:
            await net.stop()

    asyncio.run(run())


async def still_works(net: Net) -> None:
    """The two honest nodes talk to each other, and the network never had to be restarted."""
    a, b = net.nodes[:2]
    await net.meet([a, b])
    token = os.urandom(8)
    await a.send(b, token)
    await b.send(a, token)
    for node in (a, b):
        await node.inbox.until(lambda inbox: token in inbox.payloads())
        assert transport(node).restarts == 0


def transport(node: Node) -> Libp2pTransport:
    assert isinstance(node.transport, Libp2pTransport)
    return node.transport


def total(node: Node, rule: str) -> int:
    return sum(n for name, n in transport(node).counts.items() if name.startswith(rule))


async def counted(node: Node, rule: str, times: int = 1) -> None:
    """Wait until the node has counted a violation."""
    async with asyncio.timeout(10):
        while total(node, rule) < times:  # noqa: ASYNC110 # counts change in another thread
            await asyncio.sleep(0.01)


def rpc_frame(rpc: rpc_pb2.RPC) -> bytes:
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))


# Strangers


def test_a_stranger_with_a_sound_key_is_refused_by_name() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(os.urandom(32)) as stranger:
            with pytest.raises(Exception, match="fail"):
                await stranger.connect(a)
            await a.inbox.until(lambda inbox: bool(inbox.turned_away))
            who, reason = a.inbox.turned_away[0]
            assert who.startswith("127.0.0.1:")
            assert reason.startswith("NotOnRoster: transport key ")
            assert stranger.peer_id.to_bytes()[6:].hex() in reason
        assert transport(a).counts["NotOnRoster"] == 1

    with_net(run)


def test_who_holds_our_own_key_is_refused() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(a.keys.transport) as twin:
            with pytest.raises(Exception, match=r"^"):
                await twin.connect(a)
            await counted(a, "NotOnRoster")

    with_net(run)


def test_a_member_that_was_removed_is_refused() -> None:
    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        async with hostile(c.keys.transport) as removed:
            await removed.connect(a)
            await a.inbox.until(lambda inbox: c.site in inbox.online)
            stream = await removed.open(a, PUSH)
            transport(a).set_roster(net.roster_of([a, b], version=2))
            await a.inbox.until(lambda inbox: c.site not in inbox.online)
            assert await removed.read(stream, 1) == b""
            with pytest.raises(Exception, match=r"^"):
                await removed.connect(a)
            await counted(a, "NotOnRoster")

    with_net(run)


def test_nothing_but_noise_and_yamux_is_offered() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        for protocol in ("/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0", "/yamux/1.0.0"):
            assert multistream("na") in await ask(a, protocol)
        listed = await ask(a, "ls")
        assert b"/noise" in listed
        assert not any(word in listed for word in (b"plaintext", b"secio", b"tls"))
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            for protocol in ("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.2.0", "/nonsense"):
                with pytest.raises(Exception, match="stream"):
                    await member.open(a, protocol)

    with_net(run)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(bytes(range(256)) * 400, id="bytes"),
        pytest.param(b"\xff" * 9 + b"\x7f" + b"x" * 1000, id="length of 2**70"),
        pytest.param(multistream("/multistream/1.0.0") + b"\xff" * 1000, id="negotiation"),
        pytest.param(
            multistream("/multistream/1.0.0") + multistream("/noise") + bytes(70_000), id="noise"
        ),
        pytest.param(
            multistream("/multistream/1.0.0")
            + multistream("/noise")
            + (32).to_bytes(2, "big")
            + bytes(range(32))
            + (900).to_bytes(2, "big")
            + bytes(900),
            id="noise handshake",
        ),
        pytest.param(multistream("/multistream/1.0.0") + b"\x03\xff\xfe\n", id="no UTF-8"),
    ],
)
def test_garbage_before_the_handshake_costs_only_its_connection(data: bytes) -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        for _ in range(3):
            _reader, writer = await asyncio.open_connection(*split_address(a.address))
            writer.write(data)
            # The node may have hung up already.
            with contextlib.suppress(ConnectionError, OSError):
                writer.write_eof()
                await writer.drain()
            writer.close()
        await counted(a, "HandshakeError", 3)

    with_net(run)


def test_connections_that_say_nothing_do_not_keep_members_out() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        silent = [await asyncio.open_connection(*split_address(a.address)) for _ in range(20)]
        await c.start()
        await net.meet([a, c])
        await counted(a, "HandshakeTooSlow", 10)
        for _, writer in silent:
            writer.close()

    with_net(run, NetLimits(handshakes_max=6))


def test_a_handshake_that_never_ends_is_ended() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        reader, writer = await asyncio.open_connection(*split_address(a.address))
        writer.write(multistream("/multistream/1.0.0") + multistream("/noise"))
        async with asyncio.timeout(10):
            while await reader.read(1000):
                pass
        await counted(a, "HandshakeTooSlow")
        writer.close()

    with_net(run, NetLimits(connect_s=0.5))


# What members may do with connections and streams


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


# What members may push


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff" + bytes(1000), (68 * 1024 + 1).to_bytes(4, "big"), os.urandom(9000)],
    ids=["4 GiB", "just too long", "random"],
)
def test_garbage_on_a_push_stream_ends_that_stream(data: bytes) -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            stream = await member.say(a, PUSH, b"\x00\x00\x00\x02hi" + b"\xff" * 4 + data)
            await a.inbox.until(lambda inbox: (c.site, b"hi") in inbox.got)
            assert await member.read(stream, 1) == b""
            await counted(a, "PushGarbled")
        assert (c.site.hex(), "PushGarbled") in [
            (who, reason.partition(":")[0]) for who, reason in a.inbox.turned_away
        ]

    with_net(run)


def test_a_flood_is_dropped_and_not_piled_up_while_the_node_is_busy() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            stream = await member.open(a, PUSH)
            frames = b"\x00\x00\x00\x02no" * 2000

            async def flood() -> None:
                await stream.write(frames)

            # The loop stands still until the flood is out, as it would in a long computation.
            done = asyncio.get_running_loop().create_future()
            flooding = asyncio.create_task(member.thread.call(flood))
            await asyncio.sleep(0)
            _block_until(lambda: transport(a)._refusals.counts["PushFlood"] > 100)
            await flooding
            done.cancel()
            await counted(a, "PushFlood", 100)
        assert 0 < len(a.inbox.got) < 2000

    with_net(run, NetLimits(inbox_frames_max=16, inbox_wait_s=0.002))


def _block_until(condition: Callable[[], bool]) -> None:
    import time

    end_s = time.monotonic() + 10
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)


def test_a_peer_that_falls_silent_is_cut_off() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            await member.say(a, PUSH, b"\x00\x00\x00\x02hi")
            await a.inbox.until(lambda inbox: c.site in inbox.online)
            await a.inbox.until(lambda inbox: c.site not in inbox.online)
            await counted(a, "PushIdle")
        # The honest nodes give signs of life and stay connected.
        assert ("disconnected", net.nodes[1].site) not in a.inbox.events

    with_net(run, NetLimits(keepalive_s=0.1, idle_s=1.0))


# What members may ask for


def test_garbage_on_a_blob_stream_ends_that_stream(tmp_path: Path) -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        data = os.urandom(1000)
        a.offer(data, tmp_path / "served")
        digest = digest_of(data)
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            for bad in (
                bytes(44),
                b"\xff" * 44,
                digest + (0).to_bytes(8, "big") + (2**32 - 1).to_bytes(4, "big"),
                digest + (2**64 - 1).to_bytes(8, "big") + (1).to_bytes(4, "big"),
            ):
                stream = await member.say(a, BLOB, bad)
                assert await member.read(stream, 1) == b""
            await counted(a, "BlobGarbled", 4)
            beyond = encode_request(Request(digest, 10**12, 1))
            assert await member.read(await member.say(a, BLOB, beyond), 5) == b"\x03" + bytes(4)

    with_net(run)


def test_more_downloads_than_we_serve_are_told_so(tmp_path: Path) -> None:
    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            await member.open(a, BLOB)
            a.offer(b"data", tmp_path / "served")
            with pytest.raises(FetchBusy):
                await b.fetch(a, b"data", tmp_path / "had")

    with_net(run, NetLimits(uploads_max=1))


# What members may gossip


def test_malformed_gossip_does_no_harm() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        hashed = b"\x12\x20" + bytes(range(32))
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            for frame in (
                b"\x05hello",
                b"\xff" * 10,
                bytes(encode_varint_prefixed(os.urandom(500))),
                b"\xff\xff\xff\x7f",
            ):
                await member.say(a, MESHSUB, frame)
                await asyncio.sleep(0.05)
            await counted(a, "GossipGarbled")
            bad_messages = [
                rpc_pb2.Message(
                    from_id=hashed, data=b"x", topicIDs=[TOPIC], key=b"\xff\xff", signature=b"s"
                ),
                rpc_pb2.Message(from_id=b"", data=b"x", topicIDs=[TOPIC], signature=b"s"),
                rpc_pb2.Message(from_id=member.peer_id.to_bytes(), data=b"x", topicIDs=[TOPIC]),
                rpc_pb2.Message(from_id=b"\xff" * 500, seqno=b"", topicIDs=[TOPIC, TOPIC]),
            ]
            control = rpc_pb2.ControlMessage(
                ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"zz", b"", b"00"])],
                iwant=[rpc_pb2.ControlIWant(messageIDs=[b"not hex", b"\x00"])],
                graft=[rpc_pb2.ControlGraft(topicID="another")],
                prune=[rpc_pb2.ControlPrune(topicID="another", backoff=2**63)],
            )
            control.graft.add(topicID=TOPIC)
            odd = rpc_pb2.RPC(control=control, senderRecord=b"\xff" * 100)
            odd.subscriptions.add(subscribe=True, topicid="another")
            frames = [rpc_frame(rpc_pb2.RPC(publish=[message])) for message in bad_messages]
            await member.say(a, MESHSUB, b"".join(frames) + rpc_frame(odd) * 3)
            await counted(a, "GossipNotOnRoster", 2)
            await counted(a, "GossipBadSignature")
            await counted(a, "GossipForeignTopic")
            # All of it was read: what comes now is still delivered.
            token = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
            await member.say(a, MESHSUB, rpc_frame(token))
            topics = transport(a)._running.pubsub.peer_topics
            async with asyncio.timeout(10):
                while member.peer_id not in topics.get(TOPIC, ()):  # noqa: ASYNC110 # see above
                    await asyncio.sleep(0.01)
            assert set(topics) == {TOPIC}
        assert a.inbox.got == []

    with_net(run)


def test_a_member_cannot_gossip_in_anothers_name() -> None:
    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        statement = b"what b is about to say"
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            await member.connect(b)
            for node, origin in ((a, b), (b, b)):
                forged = rpc_pb2.Message(
                    from_id=bytes.fromhex("002408011220") + origin.card.transport_pk,
                    seqno=bytes(8),
                    data=statement,
                    topicIDs=[TOPIC],
                    signature=bytes(64),
                )
                await member.say(node, MESHSUB, rpc_frame(rpc_pb2.RPC(publish=[forged])))
            await counted(a, "GossipBadSignature")
            await counted(b, "GossipOwnName")
            await transport(b).broadcast(statement)
            await a.inbox.until(lambda inbox: (b.site, statement) in inbox.got)

    with_net(run)


def test_a_gossip_flood_is_dropped() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            await member.say(a, MESHSUB, rpc_frame(rpc_pb2.RPC()) * 500)
            await counted(a, "GossipFlood", 50)

    with_net(run, NetLimits(gossip_frames_per_s=1.0, gossip_frames_burst=100.0))


def test_the_hostile_peer_of_these_tests_can_speak_properly() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        peer: Hostile
        async with hostile(c.keys.transport) as peer:
            await peer.connect(a)
            await peer.say(a, PUSH, b"\x00\x00\x00\x05hello")
            await a.inbox.until(lambda inbox: inbox.got == [(c.site, b"hello")])

    with_net(run)
