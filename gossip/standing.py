"""How a member has behaved lately, and how quickly it is heard for it.

Everything that breaks a rule costs points; points halve with time. Whoever has too many is heard
slowly, at a rate that costs next to nothing, until they are gone: no ban, nothing for people to
undo, and a site that had a bad day is back within minutes.
"""

from dataclasses import dataclass

from gossip.rate import TokenBucket


@dataclass(frozen=True, slots=True)
class StandingLimits:
    """How much is borne, and how long it is remembered."""

    points_max: float = 500.0
    """Above this a member is heard slowly; honest sites have next to none."""
    forgiving_half_s: float = 60.0
    """After so long half of the points are forgotten."""
    slow_messages_per_s: float = 2.0
    slow_messages_burst: float = 10.0


class Standing:
    """Of one member. Times are the caller's, in seconds."""

    __slots__ = ("_at_s", "_limits", "_points", "_slow", "_was_slow")

    def __init__(self, limits: StandingLimits) -> None:
        self._limits = limits
        self._points = 0.0
        self._at_s: float | None = None
        self._slow = TokenBucket(limits.slow_messages_per_s, limits.slow_messages_burst)
        self._was_slow = False

    def blame(self, now_s: float, points: float = 1.0) -> bool:
        """Count something against it. True when it is heard slowly from now on."""
        self._points = self.points(now_s) + points
        self._at_s = now_s
        begins = self.is_slow(now_s) and not self._was_slow
        self._was_slow = self.is_slow(now_s)
        return begins

    def points(self, now_s: float) -> float:
        """What is left of the points by now; a clock that was set back forgives nothing."""
        if self._at_s is None:
            return 0.0
        elapsed_s = max(0.0, now_s - self._at_s)
        return float(self._points * 0.5 ** (elapsed_s / self._limits.forgiving_half_s))

    def is_slow(self, now_s: float) -> bool:
        """Whether it is heard slowly."""
        return self.points(now_s) > self._limits.points_max

    def hears(self, now_s: float) -> bool:
        """Whether its next message is looked at."""
        return not self.is_slow(now_s) or self._slow.take(now_s)
