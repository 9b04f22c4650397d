"""Token buckets: how fast one site may take something of ours."""


class TokenBucket:
    """Refills `per_s` tokens a second up to `burst`; starts full."""

    __slots__ = ("_at_s", "_burst", "_level", "_per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s: float | None = None

    def take(self, now_s: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens if that many are there, else none."""
        if self._at_s is not None:
            # A clock that was set back must neither refill nor freeze the bucket.
            elapsed_s = max(0.0, now_s - self._at_s)
            self._level = min(self._burst, self._level + elapsed_s * self._per_s)
        self._at_s = now_s
        if self._level < amount:
            return False
        self._level -= amount
        return True
