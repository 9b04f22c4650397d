"""A member that breaks very many rules is heard slowly, on record, and the others as before."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "gossip"))

from gossip_people import decision, founded, people

from gossip.identifiers import SiteId
from gossip.memory_transport import MemoryTransport, Switchboard
from p2pfl.core import events as ev
from p2pfl.runtime.exchange import HEARD_SLOWLY, STANDING_LIMITS, Exchange

ALICE, BOB, CAROL = people(3)


class Ear:
    """One site's exchange on a clock that stands, and what it told the core."""

    def __init__(self) -> None:
        self.told: list[ev.Event] = []
        self.now_s = 0.0
        roster, seed = founded(3), ALICE.keys.transport
        self.exchange = Exchange(
            site=ALICE.site,
            transport_seed=seed,
            roster=roster,
            transport=MemoryTransport(seed, roster, Switchboard()),
            clock=lambda: self.now_s,
            random=lambda: 0.5,
            submit=self.told.append,
            may_read=lambda site, digest: False,
            blob_path=lambda digest: None,
            on_refused=lambda who, reason: None,
            about_logs=lambda given: None,
            about_members=lambda given: None,
        )

    def recorded(self, rule: str) -> list[SiteId]:
        return [e.site for e in self.told if isinstance(e, ev.PeerRefused) and e.rule == rule]

    def delivered(self) -> list[SiteId]:
        return [e.sender for e in self.told if isinstance(e, ev.Delivered)]

    def blame_bob(self) -> None:
        """As the core does for everything it refuses."""
        for _ in range(int(STANDING_LIMITS.points_max) + 1):
            self.exchange.blame(BOB.site, "UnknownStudy")


async def test_a_member_that_breaks_very_many_rules_is_heard_slowly_and_the_others_as_before() -> (
    None
):
    ear = Ear()
    ear.blame_bob()
    assert ear.recorded(HEARD_SLOWLY) == [BOB.site]
    assert ear.exchange.heard_slowly() == [BOB.site]
    for number in range(100):
        ear.exchange.received(BOB.site, BOB.seal(decision(f"b{number}")))
        ear.exchange.received(CAROL.site, CAROL.seal(decision(f"c{number}")))
    assert ear.delivered().count(CAROL.site) == 100
    assert ear.delivered().count(BOB.site) == STANDING_LIMITS.slow_messages_burst
    assert ear.exchange.unheard == 100 - STANDING_LIMITS.slow_messages_burst


async def test_it_is_heard_again_once_it_behaved_for_some_minutes() -> None:
    ear = Ear()
    ear.blame_bob()
    ear.now_s = 120.0
    assert ear.exchange.heard_slowly() == []
    for number in range(100):
        ear.exchange.received(BOB.site, BOB.seal(decision(f"b{number}")))
    assert ear.delivered().count(BOB.site) == 100


async def test_floods_below_the_messages_count_against_a_member_and_not_against_strangers() -> None:
    ear = Ear()
    for _ in range(20):
        ear.exchange.refused(BOB.site.hex(), "MultiplexerFlood: too much")
        ear.exchange.refused("192.0.2.7:4001", "NotOnRoster")
        ear.exchange.refused(os.urandom(32).hex(), "MultiplexerFlood: too much")
    assert ear.exchange.heard_slowly() == [BOB.site]
