"""Bytes of other sites, mutated by the thousand: each is taken or refused by a named error."""

import pytest
import trio
from fuzz_network import fuzz_gossip, fuzz_multiplexer
from fuzz_running import Broken, fuzz
from fuzz_targets import NAMES, Target, target
from trio.testing import MockClock

from gossip.errors import PeerError

QUICK = 400
LONG = 75_000
"""Of each target; with the frames of GossipSub and the multiplexer over a million altogether."""

by_name = pytest.mark.parametrize("name", NAMES)


@by_name
def test_variants_are_taken_or_refused_by_name(name: str) -> None:
    fuzz(target(name), seed=1, cases=QUICK)


@pytest.mark.long
@by_name
def test_many_variants_are_taken_or_refused_by_name(name: str) -> None:
    fuzz(target(name), seed=2, cases=LONG)


@pytest.mark.parametrize("name", [each for each in NAMES if each != "box of a stranger"])
def test_good_bytes_are_taken(name: str) -> None:
    for raw in target(name).corpus:
        target(name).run(raw)


def test_what_breaks_a_rule_is_found() -> None:
    def careless(raw: bytes) -> None:
        if raw.endswith(b"\0"):
            raise KeyError("who thought of that")
        raise PeerError("refused")

    with pytest.raises(Broken, match=r"careless, case .*KeyError"):
        fuzz(Target("careless", [b"\x92\x01\x02"], careless, (PeerError,)), seed=1, cases=2000)


@pytest.mark.parametrize("cases", [300, pytest.param(60_000, marks=pytest.mark.long)])
def test_gossipsub_outlives_every_frame_of_a_member(cases: int) -> None:
    assert trio.run(fuzz_gossip, 1, cases) > 1


@pytest.mark.parametrize("connections", [100, pytest.param(5_000, marks=pytest.mark.long)])
def test_the_multiplexer_outlives_every_connection_of_a_member(connections: int) -> None:
    # Good-byes and time-outs pass in no time while nothing else can happen.
    clock = MockClock(autojump_threshold=0)
    assert trio.run(fuzz_multiplexer, 1, connections, clock=clock) > 10
