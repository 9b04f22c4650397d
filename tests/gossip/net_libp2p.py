"""Real libp2p nodes on loopback, for the tests."""

import socket

from net_stage import Net

from gossip.libp2p_limits import NetLimits
from gossip.libp2p_transport import Libp2pTransport

_LIMITS = NetLimits()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def libp2p_net(count: int, limits: NetLimits = _LIMITS) -> Net:
    return Net(
        lambda node, roster: Libp2pTransport(
            node.keys.transport, roster, node.address, limits=limits
        ),
        [f"127.0.0.1:{port}" for port in free_ports(count)],
    )
