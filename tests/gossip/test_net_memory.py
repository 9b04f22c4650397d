"""The transport inside one process keeps the common promises, and can be cut and healed."""

import asyncio
from pathlib import Path

from net_stage import Net
from transport_conformance import TransportConformance

from gossip.memory_transport import MemoryTransport, Switchboard


def memory_net(count: int, board: Switchboard) -> Net:
    return Net(
        lambda node, roster: MemoryTransport(node.keys.transport, roster, board),
        [f"10.0.0.{index + 1}:4001" for index in range(count)],
    )


class TestMemoryTransport(TransportConformance):
    def net(self, count: int) -> Net:
        return memory_net(count, Switchboard())


def test_a_cut_link_is_noticed_at_both_ends_and_heals(tmp_path: Path) -> None:
    async def run() -> None:
        board = Switchboard()
        net = memory_net(3, board)
        a, b, c = await net.start(3)
        keys = a.card.transport_pk, b.card.transport_pk
        board.cut(*keys)
        await a.inbox.until(lambda inbox: inbox.online == {c.site})
        await b.inbox.until(lambda inbox: inbox.online == {c.site})
        board.heal(*keys)
        await net.meet([a, b, c])
        await net.stop()

    asyncio.run(run())
