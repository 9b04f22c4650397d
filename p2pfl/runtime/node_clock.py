"""The time that this node claims: in its ledger, in cosignatures, towards its peers.

A wall clock is set now and then, by seconds or by hours, also while the node runs. Whoever claims
such a time at once contradicts what others saw, though nothing was forged. So the node counts on
by a clock that nobody sets, lets small differences come in slowly, and takes a large one over only
once the ledger says that the clock was set. It knows no ledger."""

import threading
import time
from collections.abc import Callable
from typing import Final

MICRO: Final = 1_000_000
JUMP_US: Final = 60 * MICRO
"""More than this is a clock that was set, and goes on record; less comes in slowly."""
LEAP_US: Final = 60 * JUMP_US
"""What rounds are timed by takes over only this much at once: a clock that was set by minutes
neither ends a wait nor makes a round look long. Of more the core is told (`core_timing`)."""
SLEW: Final = 0.05
"""How much faster or slower than real time the claimed time may run to meet the wall clock."""
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """A clock that nobody sets. It goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(_STEADY)


class NodeClock:
    """May be read in any thread.

    wall_s: unix seconds; steady_s: a clock that nobody sets, from any beginning; jump_us: what
    differs by more does not come in by itself."""

    def __init__(
        self,
        wall_s: Callable[[], float],
        steady_s: Callable[[], float] = steady_s,
        jump_us: int = JUMP_US,
    ) -> None:
        self._wall_s = wall_s
        self._steady_s = steady_s
        self._jump_us = jump_us
        self._lock = threading.Lock()
        self._looked_s = steady_s()
        self._claimed_s = wall_s()
        self._lept_s = 0.0

    def now_s(self) -> float:
        """The claimed time, unix seconds. Runs back only after `follow`."""
        with self._lock:
            return self._look()[0]

    def now_us(self) -> int:
        """The same in microseconds."""
        return int(self.now_s() * MICRO)

    def set_by_us(self) -> int:
        """By how much the wall clock was set, if that has to go on record; else 0."""
        with self._lock:
            claimed_s, wall_s = self._look()
        set_by_us = round((wall_s - claimed_s) * MICRO)
        return set_by_us if abs(set_by_us) > self._jump_us else 0

    def timing_s(self) -> float:
        """The claimed time for whoever records nothing: a large difference is followed at once."""
        if self.set_by_us():
            self.follow()
        return self.now_s()

    def follow(self) -> None:
        """Claim what the wall clock says from now on: that it was set is on record."""
        with self._lock:
            claimed_s, wall_s = self._look()
            self._claimed_s = wall_s
            self._lept_s += wall_s - claimed_s

    def taken_leap_s(self) -> float:
        """By how much the claimed time leapt since this was asked last."""
        with self._lock:
            lept_s, self._lept_s = self._lept_s, 0.0
        return lept_s

    def _look(self) -> tuple[float, float]:
        """The claimed time and the wall clock's, both now."""
        wall_s, steady_s = self._wall_s(), self._steady_s()
        passed_s = max(0.0, steady_s - self._looked_s)
        claimed_s = self._claimed_s + passed_s
        off_s = wall_s - claimed_s
        if abs(off_s) * MICRO <= self._jump_us:
            most_s = SLEW * passed_s
            claimed_s += max(-most_s, min(most_s, off_s))
        self._claimed_s, self._looked_s = claimed_s, steady_s
        return claimed_s, wall_s
