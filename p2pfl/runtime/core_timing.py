"""The time of the core's events: a clock set by minutes comes in slowly, one set by hours at once.

An approval that has expired must end by the right time, so hours are not waited for; but no round
took them. The core is told of the leap before the event that comes after it."""

from collections.abc import Callable
from typing import Protocol

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.runtime.node_clock import LEAP_US, NodeClock, steady_s


class Handles(Protocol):
    """What is told of events: `p2pfl.core.node.NodeCore`."""

    def handle(self, now_s: float, event: ev.Event) -> list[fx.Effect]:
        """What to do about an event."""


class CoreTiming:
    """wall_s, steady_s: see `NodeClock`."""

    def __init__(
        self, wall_s: Callable[[], float], steady_s: Callable[[], float] = steady_s
    ) -> None:
        self._clock = NodeClock(wall_s, steady_s, LEAP_US)

    def timing_s(self) -> float:
        """The time of whatever happens now, unix seconds."""
        return self._clock.timing_s()

    def handled(self, core: Handles, event: ev.Event) -> list[fx.Effect]:
        """What the core wants done about an event that happens now."""
        now_s = self._clock.timing_s()
        lept_s = self._clock.taken_leap_s()
        told = core.handle(now_s, ev.ClockLept(lept_s)) if lept_s else []
        return [*told, *core.handle(now_s, event)]
