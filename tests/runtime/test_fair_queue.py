"""What waits for one thread, of many sources: whoever sends most waits longest."""

import threading
import time

from p2pfl.runtime.fair_queue import OWN, FairQueue


def taken(waiting: FairQueue[str]) -> list[str]:
    return [item for _ in range(len(waiting)) if (item := waiting.get(0.0)) is not None]


def test_sources_take_turns_and_own_matters_come_first() -> None:
    waiting = FairQueue[str](100)
    for number in range(3):
        waiting.put("flood", f"f{number}")
    waiting.put("honest", "h0")
    waiting.put(OWN, "own")
    assert taken(waiting) == ["own", "f0", "h0", "f1", "f2"]
    assert len(waiting) == 0


def test_a_flood_leaves_room_for_everybody_else() -> None:
    waiting = FairQueue[str](10)
    fits = [waiting.put("flood", f"f{number}") for number in range(50)]
    assert fits == [True] * 10 + [False] * 40
    assert not waiting.put("honest", "h0")
    assert not waiting.put(OWN, "own")
    assert len(waiting) == 10
    assert taken(waiting)[:3] == ["own", "f0", "h0"]


def test_where_all_wait_equally_nobody_gives_way() -> None:
    waiting = FairQueue[str](3)
    assert all(waiting.put(source, source) for source in "abc")
    assert not waiting.put("d", "d")
    assert taken(waiting) == ["a", "b", "c"]


def test_own_matters_take_the_last_place_of_somebody_else_but_not_of_each_other() -> None:
    waiting = FairQueue[str](2)
    waiting.put("a", "a0")
    waiting.put("b", "b0")
    for number in range(3):
        waiting.put(OWN, f"own{number}")
    assert taken(waiting) == ["own0", "own1"]


def test_whoever_waits_is_woken_by_what_comes_and_by_the_end() -> None:
    waiting = FairQueue[str](2)
    threading.Timer(0.01, waiting.put, ("a", "came")).start()
    assert waiting.get(60.0) == "came"
    threading.Timer(0.01, waiting.close).start()
    started_s = time.monotonic()
    assert waiting.get(60.0) is None
    assert time.monotonic() - started_s < 30.0
