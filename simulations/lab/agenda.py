"""Virtual time: what is due when, and in which order.

Of two things due at one time the one with the lower rank is first. Ranks come from the site that
causes something, so the order does not depend on which process plays which site."""

import heapq
import math
from collections.abc import Callable
from typing import Final

from gossip.card import Card
from gossip.identifiers import SiteId
from p2pfl.core import events as ev
from simulations.lab.counted_site import CountedCard, CountedSite

What = ev.Event | Callable[[], ev.Event | None]
"""An event, or what makes one when it is due."""
_Due = tuple[float, int, CountedSite, int, What]
SLOT_S: Final = 0.02
"""What lies ahead is kept in slots of virtual time, in no order until one of them begins."""
Handle = Callable[[CountedSite, ev.Event], None]


class Agenda:
    """What lies ahead of the sites of one process."""

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s
        self._start_s = start_s
        self._slot = 0
        self._near: list[_Due] = []
        """A heap of what is due in the slot under way: small, however much lies ahead."""
        self._far: dict[int, list[_Due]] = {}
        self._slots: list[int] = []
        """A heap of the slots in `_far`."""
        self._rank = 0

    @property
    def next_s(self) -> float:
        """When something is due next; infinite if nothing is."""
        return self._near[0][0] if self._near or self._next_slot() else math.inf

    def submit(self, site: CountedSite, what: What, delay_s: float) -> int:
        """Let a site's core handle an event a little later, unless it has crashed until then."""
        site.rank = rank = site.rank + 1
        self.put(self.now_s + delay_s, rank, site, what)
        return rank

    def put(self, due_s: float, rank: int, site: CountedSite, what: What) -> None:
        """The same for what another site caused."""
        slot = int((due_s - self._start_s) / SLOT_S)
        if slot <= self._slot:
            heapq.heappush(self._near, (due_s, rank, site, site.incarnation, what))
        elif slot in self._far:
            self._far[slot].append((due_s, rank, site, site.incarnation, what))
        else:
            self._far[slot] = [(due_s, rank, site, site.incarnation, what)]
            heapq.heappush(self._slots, slot)

    def _next_slot(self) -> bool:
        """Go on to the next slot in which something is due; False if there is none."""
        if not self._slots:
            return False
        self._slot = heapq.heappop(self._slots)
        self._near = self._far.pop(self._slot)
        heapq.heapify(self._near)
        return True

    def at(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do something to the world later, whatever has become of any site."""

        def happen() -> None:
            call()

        self._rank += 1  # below every site's
        self.put(self.now_s + delay_s, self._rank, _NOBODY, happen)

    def work_off(self, until_s: float, handle: Handle) -> None:
        """Handle what is due before a time."""
        pop = heapq.heappop
        while (self._near or self._next_slot()) and self._near[0][0] < until_s:
            self.now_s, rank, site, incarnation, what = pop(self._near)
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
