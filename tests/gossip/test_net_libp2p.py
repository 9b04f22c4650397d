"""The libp2p transport keeps the common promises."""

from net_libp2p import libp2p_net
from net_stage import Net
from transport_conformance import TransportConformance


class TestLibp2pTransport(TransportConformance):
    def net(self, count: int) -> Net:
        return libp2p_net(count)
