"""How long a neighbour is worth waiting for: learnt from earlier rounds, within the study's terms.

Only the own clock counts: when the own round began, and when the neighbour's update was here. What
a neighbour says of its own times plays no part, and no wait exceeds the study's deadline."""

from collections import deque
from collections.abc import Iterable, Sequence

from gossip.identifiers import SiteId
from p2pfl.core.history import RoundPace
from p2pfl.core.names import Round

REPAIR_S = 6.0
"""A lost message comes again with the next reconciliation, after about five seconds."""
SHORTEST_SHARE = 0.1
"""No wait is shorter than this share of the study's deadline: nobody is dropped for a hiccup."""
LEARNT_MIN = 3
"""Rounds of a neighbour after which its own times count; until then the study's deadline does."""
LEARNT_FROM = 16
SPREAD = 6.0
"""How many median deviations above the median an update is still waited for."""
MISSES_MAX = 5
"""Waits in vain, one after the other, until only an update that is here helps: announcements cost
nothing, and must not hold up a round for ever."""
STARTS_KEPT = 64


def expected_s(lags_s: Sequence[float]) -> float:
    """When an update is late, in seconds after the own round began. lags_s: when earlier ones came.

    Twice the usual time, or more where it varies. One outlier moves a median hardly at all.

    >>> expected_s([2.0, 2.0, 90.0, 2.1]), expected_s([1.0, 5.0, 9.0])
    (4.1, 29.0)
    """
    usual_s = _median(lags_s)
    deviation_s = _median([abs(lag_s - usual_s) for lag_s in lags_s])
    return usual_s + max(usual_s, SPREAD * deviation_s)


def _median(values: Sequence[float]) -> float:
    """What `statistics.median` says of a few numbers, several times as fast."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Patience:
    """What one study learnt about its neighbours' times at this site.

    A restart loses it, and begins with what the own ledger says of the rounds before (`recall`).

    deadline_s: the study's; the longest wait after the own update is out."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.shortest_s = min(deadline_s, max(REPAIR_S, SHORTEST_SHARE * deadline_s))
        self._began_s: dict[Round, float] = {}
        self._lags_s: dict[SiteId, deque[float]] = {}
        self._misses: dict[SiteId, int] = {}
        self._quiet: set[SiteId] = set()

    def begin(self, round_: Round, now_s: float) -> None:
        """The own round begins."""
        self._began_s[round_] = now_s
        if len(self._began_s) > STARTS_KEPT:
            for old in sorted(self._began_s)[:-STARTS_KEPT]:
                del self._began_s[old]

    def recall(self, paces: Iterable[RoundPace]) -> None:
        """Start values for a study that goes on: how long its newest rounds took here.

        When an update came does not stand in the ledger, only that it was there when its round was
        closed: it is waited for rather too long than too short, until it was heard a few times. A
        stop between two rounds, or a clock that was set, is an outlier like others."""
        before: RoundPace | None = None
        for pace in paces:
            if before is not None and pace.round == before.round + 1:
                took_s = (pace.closed_us - before.closed_us) / 1e6
                for site in pace.heard if took_s >= 0.0 else ():
                    self._add(SiteId(site), took_s)
            before = pace

    def lept(self, by_s: float) -> None:
        """The clock was set by so much: what has begun began by the new clock."""
        for round_ in self._began_s:
            self._began_s[round_] += by_s

    def arrived(self, site: SiteId, round_: Round, now_s: float) -> None:
        """A neighbour's update is here, and sound."""
        self._learn(site, round_, now_s)
        self._misses.pop(site, None)
        self._quiet.discard(site)

    def late(self, site: SiteId, round_: Round, now_s: float) -> None:
        """A neighbour told of its update when the round was over here: it is slow, not gone."""
        self._learn(site, round_, now_s)
        self._quiet.discard(site)

    def heard(self, site: SiteId) -> None:
        """There is a sign of life."""
        self._quiet.discard(site)

    def missed(self, site: SiteId) -> None:
        """The wait for a neighbour ended without it. Counts again after the next sign of life."""
        if site not in self._quiet:
            self._quiet.add(site)
            self._misses[site] = self._misses.get(site, 0) + 1

    def is_hopeless(self, site: SiteId) -> bool:
        """Whether there is nothing to wait for: no sign of life since the last wait in vain."""
        return site in self._quiet or self._misses.get(site, 0) >= MISSES_MAX

    def due_s(self, site: SiteId, began_s: float, published_s: float) -> float:
        """Until when a neighbour is waited for, by the own clock.

        began_s, published_s: when the own round began, and when its update was out. Each wait in
        vain doubles the next one: a site that has become slow is met again."""
        last_s = published_s + self.deadline_s
        lags_s = self._lags_s.get(site, ())
        if len(lags_s) < LEARNT_MIN:
            return last_s
        longer = 2.0 ** self._misses.get(site, 0)
        shortest_s = published_s + longer * self.shortest_s
        if shortest_s >= last_s:
            return last_s
        return min(last_s, max(shortest_s, began_s + longer * expected_s(tuple(lags_s))))

    def _learn(self, site: SiteId, round_: Round, now_s: float) -> None:
        # One that is here before the own round begins is never waited for.
        lag_s = max(0.0, now_s - self._began_s.get(round_, now_s))
        self._add(site, lag_s)

    def _add(self, site: SiteId, lag_s: float) -> None:
        self._lags_s.setdefault(site, deque(maxlen=LEARNT_FROM)).append(lag_s)
