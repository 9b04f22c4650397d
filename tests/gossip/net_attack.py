"""The setting of every attack: two honest nodes that must still work afterwards."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed
from net_libp2p import libp2p_net
from net_stage import Net, Node

from gossip.libp2p_limits import NetLimits
from gossip.libp2p_pubsub import topic_of
from gossip.libp2p_transport import Libp2pTransport

PUSH, BLOB = "/p2pfl/push/1", "/p2pfl/blob/1"
TOPIC = topic_of("conformance")


def with_net(test: Callable[[Net], Awaitable[None]], limits: NetLimits | None = None) -> None:
    """Two honest nodes (0 and 1); sites 2 and 3 are on the roster but not started."""

    async def run() -> None:
        net = libp2p_net(4, limits or NetLimits())
        try:
            async with asyncio.timeout(200):
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
    async with asyncio.timeout(40):
        while total(node, rule) < times:  # noqa: ASYNC110 # counts change in another thread
            await asyncio.sleep(0.01)


def rpc_frame(rpc: rpc_pb2.RPC) -> bytes:
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))
