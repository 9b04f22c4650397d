"""After a start: how many sites have said which head of the own log they know, and is it enough."""

from gossip.identifiers import SiteId
from p2pfl.core.witnessing_terms import TERMS


class Words:
    """One liar alone must not let an old copy of a home go on, where honest sites can be asked."""

    def __init__(self) -> None:
        self._spoke = set[SiteId]()
        self._first_s = 0.0

    @property
    def count(self) -> int:
        """Sites that spoke."""
        return len(self._spoke)

    def hear(self, now_s: float, site: SiteId) -> bool:
        """A site spoke; whether it is the first time."""
        if site in self._spoke:
            return False
        self._first_s = self._first_s if self._spoke else now_s
        self._spoke.add(site)
        return True

    def is_enough(self, now_s: float, needed: int) -> bool:
        """Whether so many spoke as exclude a conspiracy, or no more come within some seconds."""
        if self.count >= needed:
            return True
        # A clock that was set back ends the waiting: it must not last for hours.
        return bool(self._spoke) and not 0.0 <= now_s - self._first_s < TERMS.quorum_wait_s
