"""Which sites are trained together: decided by the scenario alone.

Sums in another order differ in the last bits, so who shares a batch must not depend on how many
processes there are: with one or with many, here or on a cluster, the numbers are the same."""

from dataclasses import dataclass
from typing import Final

SITES_MAX: Final = 250
"""A larger batch would be hardly cheaper per site, and there would be fewer to spread."""
SITES_FROM: Final = 16
"""With fewer sites than this a batch is not divided to keep several processes busy."""
VALUES_MAX: Final = 1 << 18
"""Of all models of a bench: beyond this, stacking them gains nothing."""


@dataclass(frozen=True, slots=True)
class Benches:
    """Sites in order of their numbers, cut into benches of nearly the same size."""

    sites: int
    count: int

    def of(self, site: int) -> int:
        """The bench of a site.

        >>> [Benches(5, 2).of(site) for site in range(5)]
        [0, 0, 0, 1, 1]
        """
        return site * self.count // self.sites

    def sites_of_part(self, part: int, parts: int) -> range:
        """The sites of one of `parts` (at most as many as benches): whole benches.

        >>> [Benches(10, 4).sites_of_part(part, 2) for part in range(2)]
        [range(0, 5), range(5, 10)]
        """
        first, last = (n * self.count // parts for n in (part, part + 1))
        return range(self._first(first), self._first(last))

    def _first(self, bench: int) -> int:
        return -(-bench * self.sites // self.count)


def benches_for(sites: int, parameters: int) -> Benches:
    """The benches of a scenario. parameters: of its model.

    >>> benches_for(1000, 210).count, benches_for(12, 210).count, benches_for(12, 100_000).count
    (4, 1, 6)
    """
    wanted = min(max(SITES_FROM, -(-sites // 4)), SITES_MAX)
    size = max(1, min(wanted, VALUES_MAX // parameters))
    return Benches(sites, -(-sites // size))
