"""What hostile members push, ask for and gossip ends neither the node nor its work."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from libp2p.identity_utils import create_identity_from_seed
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed
from net_attack import BLOB, PUSH, TOPIC, counted, rpc_frame, transport, with_net
from net_hostile import Hostile, hostile
from net_stage import Net

from gossip.blob_protocol import Request, encode_request
from gossip.blob_uploads import Upload, Uploads
from gossip.errors import FetchBusy
from gossip.identifiers import SiteId, digest_of
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_pubsub import MESHSUB

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


@pytest.mark.parametrize("asks", [False, True])
def test_streams_that_ask_for_nothing_or_take_nothing_keep_nobody_else_from_being_served(
    tmp_path: Path, *, asks: bool
) -> None:
    data = os.urandom(3 << 20)

    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        a.offer(data, tmp_path / "served")
        request = encode_request(Request(digest_of(data), 0, 1 << 20))
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            for _ in range(3):
                if asks:
                    await member.say(a, BLOB, request)
                else:
                    await member.open(a, BLOB)
            await b.fetch(a, data, tmp_path / "had")
            assert (tmp_path / "had").read_bytes() == data

    with_net(run, NetLimits(uploads_max=3))


def test_places_are_shared_out_evenly() -> None:
    given_up: list[str] = []
    one, two, three = (SiteId(bytes([n]) * 32) for n in range(3))
    uploads = Uploads(4)

    def begin(site: SiteId, name: str) -> Upload | None:
        return uploads.begin(site, lambda: given_up.append(name))

    first = [begin(one, f"one {n}") for n in range(4)]
    assert all(first)
    for upload in first[:3]:
        upload.chunks = 5
    assert begin(one, "one 4") is None, "it has all of them already"
    assert begin(two, "two 0")
    assert given_up == ["one 3"], "it had got the least"
    assert begin(two, "two 1")
    assert begin(two, "two 2") is None, "as many as the other"
    third = begin(three, "three 0")
    assert third is not None
    assert len(given_up) == 3
    assert begin(three, "three 1") is None
    uploads.end(first[3])  # it has no place any more
    uploads.end(third)
    assert begin(two, "two 3") is not None
    assert len(given_up) == 3


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
            async with asyncio.timeout(40):
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


def test_what_an_honest_member_passes_on_is_laid_to_whoever_published_it() -> None:
    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        garbage = b"no envelope, though properly published"
        async with hostile(c.keys.transport) as member:
            await member.connect(a)
            message = rpc_pb2.Message(
                from_id=member.peer_id.to_bytes(), seqno=bytes(8), data=garbage, topicIDs=[TOPIC]
            )
            keys = create_identity_from_seed(c.keys.transport)
            signed = b"libp2p-pubsub:" + message.SerializeToString()
            message.signature = keys.private_key.sign(signed)
            await member.say(a, MESHSUB, rpc_frame(rpc_pb2.RPC(publish=[message])))
            for node in (a, b):
                await node.inbox.until(lambda inbox: garbage in inbox.payloads())
        assert a.inbox.got == [(c.site, garbage)]
        assert b.inbox.got == [(c.site, garbage)]  # and not a's, who only passed it on

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
