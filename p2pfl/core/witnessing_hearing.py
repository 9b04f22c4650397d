"""Which heads members hold: compared in one commit, no more often than honest sites tell them.

Each head costs the book some milliseconds and the disk a commit; a message holds up to 63."""

from collections.abc import Callable, Sequence

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.rate import TokenBucket
from gossip.roster import Roster
from p2pfl.core import events as ev
from p2pfl.core.witnessing_terms import TERMS, Learned, TooManyHeads, WitnessBook, WitnessOutput

Compare = Callable[[bytes, float], list[WitnessOutput]]
"""What follows from a head of another site's log, heard at a time. Raises PeerError."""


class HeadsHearing:
    """At what pace each member is heard: it outlives its connections. Bounded by the roster."""

    def __init__(self, book: WitnessBook, compare: Compare) -> None:
        self._book = book
        self._compare = compare
        self._paces = dict[SiteId, TokenBucket]()

    def set_roster(self, roster: Roster) -> None:
        """Forget who left."""
        self._paces = {site: pace for site, pace in self._paces.items() if site in roster}

    def heard(self, now_s: float, sender: SiteId, notes: Sequence[bytes]) -> list[WitnessOutput]:
        """What follows from heads of others' logs, up to the first that is none."""
        pace = self._paces.setdefault(sender, TokenBucket(TERMS.hear_per_s, TERMS.hear_burst))
        if notes and not pace.take(now_s):
            return [Learned(ev.PeerRefused(sender, TooManyHeads.__name__))]
        outputs = list[WitnessOutput]()
        with self._book.together():  # told of only afterwards
            for note in notes:
                try:
                    outputs += self._compare(note, now_s)
                except PeerError as error:
                    outputs.append(Learned(ev.PeerRefused(sender, error.rule)))
                    break
        return outputs
