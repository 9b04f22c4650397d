"""Real libp2p nodes on loopback, for the tests."""

from free_ports import free_addresses
from net_stage import Net

from gossip.libp2p_limits import NetLimits
from gossip.libp2p_transport import Libp2pTransport

_LIMITS = NetLimits()


def libp2p_net(count: int, limits: NetLimits = _LIMITS) -> Net:
    return Net(
        lambda node, roster: Libp2pTransport(
            node.keys.transport, roster, node.address, limits=limits
        ),
        free_addresses(count),
    )
