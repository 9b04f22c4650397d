"""What is sent to one site: in order, and without waiting for one message after the other."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "gossip"))

from gossip_people import founded, people

from gossip.errors import Unreachable
from gossip.identifiers import SiteId
from gossip.memory_transport import MemoryTransport, Switchboard
from gossip.witness_messages import LeavesWanted
from p2pfl.runtime.exchange import SENDS_TOGETHER_MAX, Exchange

ALICE, BOB, _ = people(3)
MESSAGES = SENDS_TOGETHER_MAX + 10


class SlowTransport(MemoryTransport):
    """Each message leaves after several turns of the loop; some do not."""

    def __init__(self) -> None:
        super().__init__(ALICE.keys.transport, founded(3), Switchboard())
        self.given: list[bytes] = []
        self.under_way = self.most_under_way = 0
        self.all_left = asyncio.Event()

    async def send(self, site: SiteId, raw: bytes) -> None:
        """In the order of the calls, as the real one."""
        self.given.append(raw)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(10):
            await asyncio.sleep(0)
        self.under_way -= 1
        if len(self.given) == MESSAGES and not self.under_way:
            self.all_left.set()
        if len(self.given) % 3 == 0:
            raise Unreachable(site, "not connected")


async def test_messages_to_a_site_go_out_together_in_order_and_losses_stop_nothing() -> None:
    transport = SlowTransport()
    exchange = Exchange(
        site=ALICE.site,
        transport_seed=ALICE.keys.transport,
        roster=founded(3),
        transport=transport,
        clock=lambda: 0.0,
        random=lambda: 0.5,
        submit=lambda event: None,
        may_read=lambda site, digest: False,
        blob_path=lambda digest: None,
        on_refused=lambda who, reason: None,
        about_logs=lambda given: None,
        about_members=lambda given: None,
    )
    wanted = [LeavesWanted(bytes(32), number, number + 1) for number in range(MESSAGES)]
    for message in wanted:
        exchange.tell(BOB.site, message)
    assert exchange.waiting == MESSAGES
    async with asyncio.timeout(10):
        await transport.all_left.wait()
    assert transport.given == [ALICE.seal(message) for message in wanted]
    assert transport.most_under_way == SENDS_TOGETHER_MAX
    await exchange.stop()
