"""The time a node claims: steady, whatever happens to the machine's clock."""

import pytest

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.runtime.core_timing import CoreTiming
from p2pfl.runtime.node_clock import JUMP_US, LEAP_US, NodeClock

START_S = 1_800_000_000.0
OFFLINE = ev.OfflineStart()


class Machine:
    """A clock that nobody sets, and a wall clock that is off by what a test says."""

    def __init__(self) -> None:
        self.steady_s = 1_000.0
        self.off_s = 0.0

    def wall_s(self) -> float:
        return START_S + self.steady_s + self.off_s

    def clock(self, jump_us: int = JUMP_US) -> NodeClock:
        return NodeClock(self.wall_s, lambda: self.steady_s, jump_us)


def test_it_goes_on_with_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.steady_s += 100.0
    assert clock.now_s() == machine.wall_s()
    assert clock.now_us() == int(machine.wall_s() * 1e6)
    assert clock.set_by_us() == 0


@pytest.mark.parametrize("by_s", [489.0, -86_400.0])
def test_a_clock_that_was_set_is_claimed_only_after_it_was_followed(by_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    right_s = machine.wall_s()
    machine.off_s = by_s
    assert clock.now_s() == right_s
    assert clock.set_by_us() == by_s * 1e6
    clock.follow()
    assert clock.now_s() == right_s + by_s
    assert clock.set_by_us() == 0


def test_a_clock_that_was_wrong_between_two_looks_was_never_claimed() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.off_s = 489.0
    machine.steady_s += 6.0
    during_s = clock.now_s()
    machine.off_s = 0.0
    assert during_s == machine.wall_s()
    assert clock.set_by_us() == 0


def test_a_small_difference_comes_in_slowly_and_time_never_runs_back() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.off_s = -40.0
    claimed = []
    for _ in range(100):
        machine.steady_s += 10.0
        claimed.append(clock.now_s())
    assert claimed == sorted(claimed)
    assert claimed[0] > machine.wall_s() - 990.0 + 30.0, "not at once"
    assert claimed[-1] == pytest.approx(machine.wall_s())
    assert clock.set_by_us() == 0


def test_a_machine_that_sleeps_loses_no_time() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.steady_s += 86_400.0  # the clock that nobody sets goes on while the machine sleeps
    assert clock.now_s() == machine.wall_s()


def test_what_rounds_are_timed_by_does_not_notice_minutes_and_follows_hours() -> None:
    machine = Machine()
    timing = machine.clock(LEAP_US)
    began_s = timing.timing_s()
    machine.off_s = -600.0
    machine.steady_s += 2.0
    assert timing.timing_s() - began_s == pytest.approx(2.0, abs=0.2)
    machine.off_s = -10_000.0
    assert timing.timing_s() == machine.wall_s()


class Core:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, object]] = []

    def handle(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        self.told.append((now_s, event))
        return []


@pytest.mark.parametrize("by_s", [7200.0, -7200.0])
def test_the_core_is_told_once_of_hours_that_were_not_lived_through(by_s: float) -> None:
    machine, core = Machine(), Core()
    timing = CoreTiming(machine.wall_s, lambda: machine.steady_s)
    timing.handled(core, OFFLINE)
    machine.steady_s += 2.0
    machine.off_s = by_s
    assert timing.timing_s() == machine.wall_s(), "somebody looked at the clock before"
    timing.handled(core, OFFLINE)
    timing.handled(core, OFFLINE)
    assert [event for _, event in core.told] == [OFFLINE, ev.ClockLept(by_s), OFFLINE, OFFLINE]
    assert core.told[1][0] == core.told[2][0] == machine.wall_s()


def test_minutes_are_no_leap() -> None:
    machine, core = Machine(), Core()
    timing = CoreTiming(machine.wall_s, lambda: machine.steady_s)
    machine.off_s = 600.0
    timing.handled(core, OFFLINE)
    assert [event for _, event in core.told] == [OFFLINE]
