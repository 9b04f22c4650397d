"""Virtual time: what is due when, and in which order.

Of two things due at one time the one with the lower rank is first. Ranks come from the site that
causes something, so the order does not depend on which process plays which site."""

import heapq
import math
from collections.abc import Callable

from gossip.card import Card
from gossip.identifiers import SiteId
from p2pfl.core import events as ev
from simulations.lab.counted_site import CountedCard, CountedSite

What = ev.Event | Callable[[], ev.Event | None]
"""An event, or what makes one when it is due."""
Handle = Callable[[CountedSite, ev.Event], None]


class Agenda:
    """What lies ahead of the sites of one process."""

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s
        self._queue: list[tuple[float, int, CountedSite, int, What]] = []
        self._rank = 0

    @property
    def next_s(self) -> float:
        """When something is due next; infinite if nothing is."""
        return self._queue[0][0] if self._queue else math.inf

    def submit(self, site: CountedSite, what: What, delay_s: float) -> int:
        """Let a site's core handle an event a little later, unless it has crashed until then."""
        site.rank = rank = site.rank + 1
        heapq.heappush(self._queue, (self.now_s + delay_s, rank, site, site.incarnation, what))
        return rank

    def put(self, due_s: float, rank: int, site: CountedSite, what: What) -> None:
        """The same for what another site caused."""
        heapq.heappush(self._queue, (due_s, rank, site, site.incarnation, what))

    def at(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do something to the world later, whatever has become of any site."""

        def happen() -> None:
            call()

        self._rank += 1  # below every site's
        heapq.heappush(self._queue, (self.now_s + delay_s, self._rank, _NOBODY, 0, happen))

    def work_off(self, until_s: float, handle: Handle) -> None:
        """Handle what is due before a time."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] < until_s:
            self.now_s, rank, site, incarnation, what = pop(queue)
            if site.incarnation != incarnation:
                continue
            if isinstance(what, ev.TimerFired):
                if site.timers.get(what.key) != rank:
                    continue
                del site.timers[what.key]
            event = what() if callable(what) else what
            if event is not None:
                handle(site, event)


def _nobody() -> CountedSite:
    """Whose events are the world's own."""
    card: Card = CountedCard(SiteId(bytes(32)), "", b"", b"", b"", b"", bytes(32), (), b"")
    return CountedSite(-1, card)


_NOBODY = _nobody()
