"""What one site lets others take of its connections, streams, memory and time."""

from dataclasses import dataclass

from gossip.limits import BLOB_BYTES_MAX


@dataclass(frozen=True, slots=True)
class NetLimits:
    """Limits of the libp2p transport; libp2p's own resource manager did not hold."""

    connect_s: float = 10.0
    """A dial, or an inbound handshake, from TCP to multiplexer."""
    connections_per_peer_max: int = 2
    handshakes_max: int = 32
    """Inbound connections that have not proved a roster key yet; one more evicts the oldest."""
    redial_first_s: float = 0.2
    redial_fast_attempts: int = 6
    redial_s_max: float = 3.0
    """Whoever comes back, or was parted from us, is met again within seconds. A failed dial is one
    packet; to a place that swallows it, one every few seconds."""
    yield_s: float = 0.3
    """The site with the greater key waits this long for the other's dial: they meet once."""
    stable_s: float = 5.0
    """A connection that lasted so long resets the redial pause; an older one yields to a newer."""
    linger_s: float = 1.0
    """A surplus connection is kept this long, for what is under way on it."""

    keepalive_s: float = 8.0
    idle_s: float = 30.0
    """A push stream without a frame for so long means that the peer is gone."""
    negotiate_s: float = 10.0

    push_queue_frames_max: int = 512
    push_queue_bytes_max: int = 8 * 1024 * 1024
    inbox_frames_max: int = 256
    """Frames of one site that the node has not taken yet; above, its stream is read slower."""
    inbox_wait_s: float = 4.0
    """… but not paused for longer, then dropped: after 5 s libp2p resets the writer's stream."""

    streams_per_connection_max: int = 24
    """Inbound streams on one connection, of all protocols."""
    streams_per_protocol_max: int = 3
    """Inbound streams of one peer for one protocol."""
    buffered_bytes_per_connection_max: int = 16 * 1024 * 1024
    frame_bytes_max: int = 1024 * 1024
    """Largest multiplexer frame taken; ours are 64 KiB."""

    chunk_s: float = 15.0
    """The longest wait for the next bytes of a transfer."""
    transfer_s: float = 600.0
    slowest_bytes_per_s: float = 125_000.0
    """A transfer may take `transfer_s`, and as long as its bytes take at this rate."""
    upload_bytes_per_s: float = 0.0
    """What serving blobs may take of the line, all together; 0: all there is. Messages are never
    held back."""
    uploads_max: int = 8
    """Inbound blob streams of all peers: see `gossip.blob_uploads`."""
    downloads_per_peer_max: int = 2
    blob_bytes_max: int = BLOB_BYTES_MAX
    disk_reserve_bytes: int = 64 * 1024 * 1024

    gossip_frame_bytes_max: int = 192 * 1024
    gossip_frames_per_s: float = 100.0
    gossip_frames_burst: float = 400.0
    broadcasts_per_s: float = 20.0
    broadcasts_burst: float = 16.0
    """Own pacing: libp2p's queues hold 32 messages and drop the rest in silence."""

    notices_per_s: float = 10.0
    notices_burst: float = 50.0
    """Refusals reported to the node; the rest is only counted."""


def redial_pause_s(attempt: int, limits: NetLimits, jitter: float) -> float:
    """How long to wait after the `attempt`-th failed dial (from 0): quick at first, then 1 → 3 s.

    jitter: uniform in [0, 1); spreads dials so that sites do not all call at once.

    >>> [round(redial_pause_s(a, NetLimits(), 0.0), 1) for a in (0, 5, 6, 8, 20)]
    [0.2, 0.2, 1.0, 3.0, 3.0]
    """
    if attempt < limits.redial_fast_attempts:
        return limits.redial_first_s * (1.0 + 0.5 * jitter)
    doubled = 2.0 ** min(attempt - limits.redial_fast_attempts, 16)
    return min(limits.redial_s_max, doubled) * (1.0 - 0.5 * jitter)
