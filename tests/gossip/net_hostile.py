"""A plain py-libp2p peer that speaks every protocol and keeps none of the rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import trio
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity_utils import create_identity_from_seed
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils.varint import encode_varint_prefixed
from net_stage import Node

from gossip.addresses import split_address
from gossip.libp2p_guards import peer_id_of
from gossip.libp2p_host import multiaddr_of
from gossip.libp2p_thread import TrioThread


class Hostile:
    """Every method runs in the peer's own trio thread; they are called from asyncio."""

    def __init__(self, seed: bytes) -> None:
        keys = create_identity_from_seed(seed)
        self.peer_id = ID.from_pubkey(keys.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(self.peer_id, keys)
        self._noise = Noise(keys, noise_privkey=create_new_key_pair().private_key)
        self._upgrader = TransportUpgrader({NOISE: self._noise}, {YAMUX: Yamux})
        self._parts = (peerstore, keys)
        self._host: Any = None
        self._ready = asyncio.get_running_loop().create_future()
        self.thread = TrioThread(self._run, name="hostile", on_death=lambda error: None)

    async def _run(self, _nursery: trio.Nursery, halt: trio.Event) -> None:
        swarm = Swarm(
            self.peer_id,
            self._parts[0],
            self._upgrader,
            transports=[TCP()],
            retry_config=RetryConfig(max_retries=0),
        )
        self._host = BasicHost(swarm)
        async with background_trio_service(swarm):
            self.thread.post(self._ready.set_result, None)
            await halt.wait()
            for connections in list(swarm.connections.values()):
                for connection in list(connections):
                    await connection.close()

    async def start(self) -> "Hostile":
        self.thread.start()
        await self._ready
        return self

    async def connect(self, node: Node) -> None:
        """One more connection. Raises what libp2p raises."""
        await self.thread.call(self._connect, node)

    async def _connect(self, node: Node) -> None:
        peer = peer_id_of(node.card.transport_pk)
        await self._host.get_network().dial_addr(multiaddr_of(*split_address(node.address)), peer)

    async def open(self, node: Node, protocol: str) -> Any:
        """A stream on which `protocol` was agreed."""
        return await self.thread.call(self._open, node, protocol)

    async def _open(self, node: Node, protocol: str) -> Any:
        peer = peer_id_of(node.card.transport_pk)
        return await self._host.new_stream(peer, [TProtocol(protocol)])

    async def say(self, node: Node, protocol: str, data: bytes) -> Any:
        """Open a stream and write `data` on it."""
        stream = await self.open(node, protocol)
        await self.thread.call(stream.write, data)
        return stream

    async def say_unnegotiated(self, node: Node, data: bytes) -> None:
        """Write on a fresh stream before any protocol is agreed, then reset it."""

        async def run() -> None:
            conn = self._host.get_network().connections[peer_id_of(node.card.transport_pk)][0]
            stream = await conn.new_stream()
            await stream.write(data)

        await self.thread.call(run)

    async def read(self, stream: Any, length: int) -> bytes:
        """Up to `length` bytes; empty when the stream ended."""

        async def run() -> bytes:
            try:
                data: bytes = await stream.read(length)
            except Exception:
                return b""
            return data

        return await asyncio.wait_for(self.thread.call(run), 40)

    async def is_cut(self, node: Node) -> None:
        """Wait until the node has closed every connection with this peer."""

        async def run() -> None:
            peer = peer_id_of(node.card.transport_pk)
            with trio.fail_after(40):
                for conn in list(self._host.get_network().connections.get(peer, [])):
                    await conn.event_closed.wait()

        await self.thread.call(run)

    async def overrun(self, stream: Any, data: bytes) -> None:
        """Write without regard to the receiver's window."""
        stream.muxed_stream.send_window = 2**40
        await self.thread.call(stream.write, data)

    async def garble_multiplexer(self, node: Node, data: bytes) -> None:
        """Prove a member's key, agree on Yamux, then write `data` instead of frames."""

        async def run() -> None:
            host, port = split_address(node.address)
            stream = await trio.open_tcp_stream(host, port)
            raw = RawConnection(TrioTCPStream(stream), True)
            peer = peer_id_of(node.card.transport_pk)
            secure = await self._upgrader.upgrade_security(raw, True, peer)
            await self._upgrader.upgrade_connection(secure, peer)
            with contextlib.suppress(Exception):
                await secure.write(data)
            await stream.aclose()

        await self.thread.call(run)

    async def stop(self) -> None:
        await self.thread.stop()


@contextlib.asynccontextmanager
async def hostile(seed: bytes) -> AsyncIterator[Hostile]:
    peer = await Hostile(seed).start()
    try:
        yield peer
    finally:
        await peer.stop()


def multistream(text: str) -> bytes:
    """A line of the protocol negotiation."""
    return bytes(encode_varint_prefixed(text.encode() + b"\n"))


async def ask(node: Node, *lines: str) -> bytes:
    """Negotiate on a bare TCP connection and return all that the node says within a moment."""
    reader, writer = await asyncio.open_connection(*split_address(node.address))
    writer.write(b"".join(multistream(line) for line in ("/multistream/1.0.0", *lines)))
    await writer.drain()
    said = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(5):
            while said.count(b"\n") <= len(lines):
                piece = await reader.read(1000)
                if not piece:
                    break
                said += piece
    writer.close()
    return said
