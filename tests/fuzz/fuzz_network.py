"""Variants of what a member may send below our own messages: GossipSub's frames and Yamux's.

Both run on the node's own guarded classes; only the wire under them is a list of bytes."""

import itertools
import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import trio
from fuzz_mutations import Mutator
from gossip_people import CONSORTIUM, founded, people
from libp2p.identity_utils import create_identity_from_seed
from libp2p.io.exceptions import IncompleteReadError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from gossip import ed25519
from gossip.libp2p_guards import Access, Refusals, guarded, peer_id_of
from gossip.libp2p_host import build_host
from gossip.libp2p_limits import NetLimits
from gossip.libp2p_pubsub import GuardedPubsub, topic_of
from gossip.libp2p_session import QuickSession
from gossip.libp2p_yamux import GuardedYamux

LIMITS = NetLimits(gossip_frames_per_s=1e9, gossip_frames_burst=1e9)
TOPIC = topic_of(CONSORTIUM)
CASE_S = 5.0


class Said:
    """The stream of a member that says these bytes and ends."""

    def __init__(self, peer: ID, data: bytes) -> None:
        self.muxed_conn = self
        self.peer_id = peer
        self._data = data

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        taken, self._data = self._data[:n], self._data[n:] if n is not None else b""
        return taken

    async def reset(self) -> None:
        """Nobody is at the other end."""

    def get_remote_address(self) -> None:
        """Nowhere."""


# -- GossipSub ---------------------------------------------------------------------------------


def _published(seed: bytes, data: bytes, number: int) -> rpc_pb2.Message:
    keys = create_identity_from_seed(seed)
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[TOPIC],
        from_id=ID.from_pubkey(keys.public_key).to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    message.signature = keys.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    return message


def _rpcs(seed: bytes) -> list[bytes]:
    """Frames that a good member sends: everything that GossipSub knows."""
    message = _published(seed, b"a message of ours", 1)
    topic = {"topicID": TOPIC}
    kinds: list[dict[str, Any]] = [
        {"subscriptions": [{"subscribe": True, "topicid": TOPIC}]},
        {"subscriptions": [{"subscribe": False, "topicid": TOPIC}]},
        {"publish": [message]},
        {"control": {"graft": [topic]}},
        {"control": {"prune": [{**topic, "backoff": 5}]}},
        {"control": {"ihave": [{**topic, "messageIDs": [b"a" * 32, b"b" * 32]}]}},
        {"control": {"iwant": [{"messageIDs": [b"a" * 32]}]}},
    ]
    raws = [rpc_pb2.RPC(**each).SerializeToString() for each in kinds]
    # Messages of protobuf may be joined, and then hold both.
    return [*raws, *(first + second for first, second in itertools.pairwise(raws))]


async def fuzz_gossip(seed: int, cases: int) -> int:
    """Feed variants to a running GossipSub. Returns what it delivered; raises what leaves it."""
    alice, bob, carol = people(3)
    access = Access(founded(3), ed25519.public_key_of(bob.keys.transport))
    refusals = Refusals(LIMITS, lambda who, rule: None)
    host = build_host(
        bob.keys.transport,
        access=access,
        refusals=refusals,
        limits=LIMITS,
        on_change=lambda peer: None,
    )
    delivered: list[bytes] = []
    pubsub = GuardedPubsub(
        host,
        topic=TOPIC,
        access=access,
        refusals=refusals,
        limits=LIMITS,
        deliver=lambda site, raw: delivered.append(raw),
    )
    handler = guarded(pubsub.stream_handler, access, refusals, LIMITS)
    peer = peer_id_of(alice.card.transport_pk)
    mutator = Mutator(seed, _rpcs(alice.keys.transport))
    try:
        async with background_trio_service(pubsub), background_trio_service(pubsub.router):
            await pubsub.subscribe(TOPIC)
            for number in range(cases):
                frame = mutator.bytes()
                if number % 5 == 0:  # what the member did sign is looked at more deeply
                    signed = _published(alice.keys.transport, frame, number)
                    frame = rpc_pb2.RPC(publish=[signed]).SerializeToString() + frame
                raw = encode_varint_prefixed(frame) if number % 4 else frame
                with trio.fail_after(CASE_S):
                    await handler(Said(peer, raw))
                delivered = delivered[-100:]
            last = _published(carol.keys.transport, b"still there", 2)
            good = rpc_pb2.RPC(publish=[last]).SerializeToString()
            await handler(Said(peer, encode_varint_prefixed(good)))
            assert delivered[-1] == b"still there"
    finally:
        pubsub.close()
    return len(delivered)


# -- Yamux -------------------------------------------------------------------------------------

_HEADER = struct.Struct("!BBHII")
_KINDS = (0, 1, 2, 3, 4, 255)  # data, window update, ping, go away; unknown ones
_FLAGS = (0, 0, 0, 1, 2, 4, 8, 3, 5, 0xFFFF)  # SYN, ACK, FIN, RST
_STREAMS = (1, 3, 5, 7, 2, 4, 0, 2**31, 2**32 - 1)
_LENGTHS = (0, 1, 12, 1000, 65_536, 2**20, 2**20 + 1, 2**31, 2**32 - 1)


class PlainSession(QuickSession):
    """The node's own session behind its cipher: the messages are given, what is written is lost."""

    def __init__(self, peer: ID, messages: Iterator[bytes]) -> None:
        self.remote_peer = peer
        self._plain = memoryview(b"")
        self._messages = messages
        self.before_read = None
        self.is_initiator = False

    async def _next_message(self) -> int:
        await trio.lowlevel.checkpoint()
        for message in self._messages:
            if message:
                self._plain = memoryview(message)
                return len(message)
        raise IncompleteReadError("the end", expected_bytes=1, received_bytes=0)

    async def write(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Nothing is open."""

    def get_remote_address(self) -> None:
        """Nowhere."""


def _frames(rng: random.Random) -> Iterator[bytes]:
    """A connection's worth of frames: some good, some whose parts contradict each other."""
    for number in range(rng.randint(1, 30)):
        if rng.random() < 0.3:
            stream = 1 + 2 * number
            yield _HEADER.pack(0, 0, 1, stream, 5) + b"hello"
            continue
        length = rng.choice(_LENGTHS) if rng.random() < 0.5 else rng.randrange(200)
        body = rng.randbytes(min(length, rng.choice((0, 100, length, 70_000)), 70_000))
        header = _HEADER.pack(
            0 if rng.random() < 0.95 else rng.randrange(256),
            rng.choice(_KINDS),
            rng.choice(_FLAGS),
            rng.choice(_STREAMS),
            length,
        )
        cut = rng.randrange(13) if rng.random() < 0.05 else 12
        yield header[:cut] + body


async def fuzz_multiplexer(seed: int, connections: int) -> int:
    """Run variants of whole connections. Returns how many streams they opened."""
    rng = random.Random(seed)  # noqa: S311 - test data
    alice = people(3)[0]
    peer = peer_id_of(alice.card.transport_pk)
    return sum([await _connection(peer, list(_frames(rng))) for _ in range(connections)])


async def _connection(peer: ID, frames: Sequence[bytes]) -> int:
    muxed = GuardedYamux(PlainSession(peer, iter(frames)), peer, is_initiator=False)
    muxed.limits, opened = LIMITS, 0

    async def read(stream: Any) -> None:
        with suppress(Exception):  # what a handler meets, the guard around handlers takes
            while await stream.read(1000):
                pass

    async def accept(nursery: trio.Nursery) -> None:
        nonlocal opened
        with suppress(Exception):
            while True:
                stream = await muxed.accept_stream()
                opened += 1
                nursery.start_soon(read, stream)

    with trio.fail_after(CASE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery)
            await muxed.start()
            await muxed.close()
            nursery.cancel_scope.cancel()
    held = sum(len(buffer) for buffer in muxed.stream_buffers.values())
    assert held <= LIMITS.buffered_bytes_per_connection_max
    return opened
