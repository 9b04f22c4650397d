"""Which of several sites a model is fetched from that all of them may hold.

Any of them may be gone, slow, or serve just enough for ever: each is tried for a while, and whoever
was quickest is kept for as long as it stays so. Knows rates, not the network: time is the caller's.
"""

from collections.abc import Sequence
from typing import Final

from gossip.identifiers import SiteId

LOOK_S: Final = 10.0
"""After so long, and again and again, it is looked at how quickly a holder serves."""
LOOK_S_MAX: Final = 640.0
SOON_S: Final = 60.0
"""Nobody else is tried for a transfer that ends within this time."""
QUICKER: Final = 2.0
"""How much quicker another one has to have been."""


class Holders:
    """The holders of one model, in the order in which they are tried. look_s: see LOOK_S.

    >>> slow, quick = SiteId(bytes(32)), SiteId(bytes([1]) * 32)
    >>> holders = Holders((slow, quick))
    >>> holders.next() == slow, holders.keeps(slow, have_bytes=20, left_bytes=10**6)
    (True, False)
    >>> holders.next() == quick, holders.keeps(quick, have_bytes=10**5, left_bytes=10**6)
    (True, True)
    """

    def __init__(self, sites: Sequence[SiteId], look_s: float = LOOK_S) -> None:
        self.look_s = look_s
        self._rates: dict[SiteId, float | None] = dict.fromkeys(sites)
        """Bytes per second at the last look; None: not tried yet."""
        self._had = dict.fromkeys(sites, 0)

    def next(self) -> SiteId | None:
        """Whom to ask: everybody once, then the quickest; None if nobody gave anything."""
        for site, rate in self._rates.items():
            if rate is None:
                return site
        quickest = max(self._rates, key=lambda site: self._rates[site] or 0.0, default=None)
        return quickest if quickest is not None and self._rates[quickest] else None

    def keeps(self, site: SiteId, *, have_bytes: int, left_bytes: int) -> bool:
        """Whether a site is asked on, `look_s` after the last look at what it gave."""
        rate = max(0, have_bytes - self._had[site]) / self.look_s
        self._had[site] = have_bytes
        self._rates[site] = rate
        if not rate:
            return False
        if left_bytes <= rate * SOON_S:
            return True
        others = (other for held_by, other in self._rates.items() if held_by != site)
        return all(other is not None and other <= QUICKER * rate for other in others)

    def failed(self, site: SiteId) -> None:
        """It gave nothing, or not what it should have."""
        self._rates[site] = 0.0
        self._had[site] = 0

    def try_again(self) -> None:
        """Everybody once more, and longer: on a slow line a chunk takes its time."""
        self._rates = dict.fromkeys(self._rates)
        self.look_s = min(2.0 * self.look_s, max(self.look_s, LOOK_S_MAX))
