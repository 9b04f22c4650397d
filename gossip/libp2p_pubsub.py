"""GossipSub that no peer can end, delay for long, or fill (dangers 1 and 7).

One topic per consortium. A message's id is the hash of its content, so a restarted node's
messages are not taken for old ones. libp2p's own rate limits, equivocation rule and peer
exchange are off: ours are here, and repair is the business of `gossip.dissemination`.
"""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from gossip.identifiers import SiteId
from gossip.libp2p_guards import Access, Refusals, reset_quietly
from gossip.libp2p_host import GuardedHost
from gossip.libp2p_limits import NetLimits
from gossip.limits import ENVELOPE_BYTES_MAX
from gossip.rate import TokenBucket

MESHSUB = TProtocol("/meshsub/1.1.0")
_OUTBOUND_MESSAGES_MAX = 256

Deliver = Callable[[SiteId, bytes], None]


def topic_of(consortium: str) -> str:
    """The one topic of a consortium."""
    return f"/p2pfl/{consortium}"


def content_id(message: rpc_pb2.Message) -> bytes:
    """A message's id: the hash of its content."""
    return hashlib.sha256(message.data).digest()


class GuardedGossipSub(GossipSub):  # type: ignore[misc] # libp2p is untyped here
    """The mesh of one topic."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(
            protocols=[MESHSUB],
            degree=6,
            degree_low=4,
            degree_high=8,
            heartbeat_initial_delay=0.1,
            heartbeat_interval=1,
            do_px=False,
            prune_back_off=5,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._refusals = refusals

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Control messages; whatever they provoke stays here."""
        # A signed address record is of no use to us: addresses come from the roster.
        rpc.ClearField("senderRecord")
        try:
            await super().handle_rpc(rpc, sender_peer_id)
        except Exception as error:
            self._refusals.counts[f"GossipControlError.{type(error).__name__}"] += 1

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        """Runs as a task of its own, whose error would end the service."""
        try:
            await super().on_peer_subscribed(peer_id, topic)
        except Exception as error:
            self._refusals.counts[f"GossipGraftError.{type(error).__name__}"] += 1

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """As above."""
        try:
            await super().flush_pending_messages(peer_id)
        except Exception as error:
            self._refusals.counts[f"GossipFlushError.{type(error).__name__}"] += 1

    async def heartbeat(self) -> None:
        """The mesh's upkeep, which goes on after an error."""
        while True:
            try:
                await super().heartbeat()
            except Exception as error:
                self._refusals.counts[f"GossipHeartbeatError.{type(error).__name__}"] += 1
                await trio.sleep(self.heartbeat_interval)

    def _check_spam_protection(self, peer_id: ID, msg: rpc_pb2.Message) -> bool:
        """Our own limits are where the bytes come in."""
        return True

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        """Sequence numbers restart with the node and can be guessed: they prove nothing."""
        return True

    async def _do_px(self, px_peers: Any) -> None:
        """No peer exchange: whom to dial says the roster."""

    def _periodic_security_cleanup(self) -> None:
        super()._periodic_security_cleanup()
        # These only feed the adaptive mode, which would also be what empties them.
        self.recent_message_deliveries.clear()
        self.recent_peer_connections.clear()
        self.recent_peer_disconnections.clear()


class GuardedPubsub(Pubsub):  # type: ignore[misc] # libp2p is untyped here
    """Publishes and receives on one topic.

    deliver: called with the member that published a message, as it proved, and its bytes.
    """

    def __init__(
        self,
        host: GuardedHost,
        *,
        topic: str,
        access: Access,
        refusals: Refusals,
        limits: NetLimits,
        deliver: Deliver,
    ) -> None:
        super().__init__(
            host,
            GuardedGossipSub(refusals),
            msg_id_constructor=content_id,
            strict_signing=True,
            max_subscriptions_per_rpc=8,
            max_subscriptions_per_peer=1,
            max_inbound_rpc_size=limits.gossip_frame_bytes_max,
            allowed_topics={topic},
        )
        self._topic = topic
        self._access = access
        self._refusals = refusals
        self._limits = limits
        self._deliver = deliver
        self._pacing = trio.Lock()
        self._pace = TokenBucket(per_s=limits.broadcasts_per_s, burst=limits.broadcasts_burst)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Deliver a new message of the topic and pass it on. Never raises."""
        try:
            if self._is_msg_seen(msg) or not self._is_welcome(msg_forwarder, msg):
                return
            self._mark_msg_seen(msg)
            # Whoever passed it on has not opened it: a hostile publisher must not shift its blame.
            publisher = self._access.site_of(ID(msg.from_id))
            if publisher is not None:
                self._deliver(publisher, msg.data)
            await self.router.publish(msg_forwarder, msg)
        except Exception as error:
            # libp2p raises DecodeError for a garbage key, among others.
            self._refusals.counts[f"GossipMessageError.{type(error).__name__}"] += 1

    def _is_welcome(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        """Size, topic, author and signature, in this order: the cheap checks first."""
        origin = ID(msg.from_id)
        own = self.my_id
        problem = ""
        if len(msg.data) > ENVELOPE_BYTES_MAX:
            problem = "GossipTooLarge"
        elif list(msg.topicIDs) != [self._topic]:
            problem = "GossipForeignTopic"
        elif origin == own and forwarder != own:
            # Marking it as seen would let others suppress what they claim we said.
            problem = "GossipOwnName"
        elif origin != own and self._access.site_of(origin) is None:
            problem = "GossipNotOnRoster"
        elif not signature_validator(msg):
            problem = "GossipBadSignature"
        if problem:
            self._refusals.counts[problem] += 1
        return not problem

    async def continuously_read_stream(self, stream: Any) -> None:
        """Read a peer's RPCs until its stream ends; one that cannot be parsed ends it."""
        peer = stream.muxed_conn.peer_id
        bucket = TokenBucket(
            per_s=self._limits.gossip_frames_per_s, burst=self._limits.gossip_frames_burst
        )
        while self.manager.is_running:
            raw = await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size)
            if not bucket.take(trio.current_time()):
                self._refusals.counts["GossipFlood"] += 1
                continue
            rpc = rpc_pb2.RPC()
            try:
                rpc.ParseFromString(raw)
            except DecodeError:
                self._refusals.add(_name(self._access, peer), "GossipGarbled")
                break
            await self._take(peer, rpc)
        await reset_quietly(stream)

    async def _take(self, peer: ID, rpc: rpc_pb2.RPC) -> None:
        # One after the other, so that a peer's messages cannot become a crowd of tasks.
        for message in rpc.publish:
            await self.push_msg(peer, message)
        try:
            for subscription in rpc.subscriptions[: self.max_subscriptions_per_rpc]:
                self.handle_subscription(peer, subscription)
        except Exception as error:
            self._refusals.counts[f"GossipSubscriptionError.{type(error).__name__}"] += 1
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc, peer)

    async def stream_handler(self, stream: Any) -> None:
        """An inbound stream of a peer. The guard around it takes what goes wrong."""
        await self.continuously_read_stream(stream)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            # libp2p's 32 places are few for a burst of decisions, and its 1 MiB per RPC is
            # more than our readers take.
            queue.max_message_size = self._limits.gossip_frame_bytes_max - 1024
            queue._queue.max_size = _OUTBOUND_MESSAGES_MAX

    async def broadcast(self, raw: bytes) -> None:
        """Publish, no faster than libp2p's queues can take it."""
        async with self._pacing:
            if not self._pace.take(trio.current_time()):
                await trio.sleep(1.0 / self._limits.broadcasts_per_s)
                self._pace.take(trio.current_time())
        await self.publish(self._topic, raw)

    def mend(self, peer: ID) -> None:
        """Make sure that a connected peer has a live stream; libp2p gives up at some errors."""
        stream = self.peers.get(peer)
        if stream is not None and (stream.swarm_conn is None or stream.swarm_conn.is_closed):
            self._handle_dead_peer(peer)
        elif stream is None:
            self._schedule_peer_stream_retry(peer)

    def close(self) -> None:
        """End the cache's own thread."""
        with contextlib.suppress(Exception):
            self.seen_messages.stop()


def _name(access: Access, peer: ID) -> str:
    site = access.site_of(peer)
    return "unknown peer" if site is None else site.hex()
