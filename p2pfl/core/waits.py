"""The wait for neighbours in the round under way: for whom, until when, and what people see."""

from collections.abc import Callable, Iterable

from gossip.identifiers import SiteId
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.gathering import Gathering
from p2pfl.core.names import Round, StudyId
from p2pfl.core.watch import Telling

REPAIRED_S = 60.0
"""Within this time reconciliation has brought whatever neighbours still offer."""
GRACE_S = 0.5
GRACE_SHARE = 0.5
"""Where an older update can stand in, its newer one is waited for half as long as the own took."""
TOLD_AFTER_S = 5.0
"""A shorter wait is nobody's concern."""


class Waits:
    """One study's deadlines: each neighbour's own one, and the study's as the last of them.

    The timer fires when somebody is not waited for any longer. A round with too few neighbours
    goes on waiting, and its timer fires again once repairs have had their chance."""

    def __init__(self, study: StudyId, gathering: Gathering, tell: Telling) -> None:
        self._study = study
        self._gathering = gathering
        self._patience = gathering.patience
        self._tell = tell
        self._began_s = 0.0
        self._published_s = 0.0
        self._next_s = 0.0
        """What the timer is set to: when it fires it is due, whatever the clock was set to."""
        self.name_of: Callable[[SiteId], str] = lambda site: site.hex()[:8]
        """What people call a site."""

    @property
    def until_s(self) -> float:
        """When the study's own deadline ends the round's wait."""
        return self._published_s + self._patience.deadline_s

    def begin(self, round_: Round, now_s: float) -> None:
        """The own round begins."""
        self._patience.begin(round_, now_s)
        self._began_s = self._published_s = now_s

    def lept(self, by_s: float) -> None:
        """The clock was set by so much: no wait ends sooner or later for it."""
        self._began_s, self._published_s = self._began_s + by_s, self._published_s + by_s
        self._next_s += by_s
        self._patience.lept(by_s)

    def gather(self, round_: Round, now_s: float) -> fx.Effect:
        """The own update is out: from now on neighbours are waited for."""
        self._published_s = now_s
        return self._look_again(round_, self._next_look_s(round_, now_s))

    def connected(self, round_: Round, now_s: float) -> list[fx.Effect]:
        """A neighbour came or went while the round gathers: somebody's time may be over sooner."""
        set_back_s = self._published_s - now_s
        if set_back_s > 0.0:  # the clock was: the wait must not grow by as much
            self._began_s, self._published_s = self._began_s - set_back_s, now_s
        if now_s >= self.until_s:
            return []
        return [self._look_again(round_, self._next_look_s(round_, now_s))]

    def once_more(self, round_: Round, now_s: float) -> fx.Effect:
        """Wait for a whole deadline, whoever may come."""
        return self._look_again(round_, now_s + self._patience.deadline_s)

    def is_left_behind(self, round_: Round) -> bool:
        """Whether enough neighbours went on without this site."""
        return bool(self._gathering.ahead(round_))

    def look(self, round_: Round, now_s: float) -> list[fx.Effect]:
        """The timer fired while the round gathers: whoever is late is not waited for any longer."""
        now_s = max(now_s, self._next_s)
        if now_s >= self.until_s:
            return self.end(round_, now_s)
        late = [s for s in self._gathering.awaited(round_) if self._due_s(round_, s) <= now_s]
        told = self._tell_of_the_wait(round_, now_s) if not late else self._pass_over(round_, late)
        return [*told, self._look_again(round_, self._next_look_s(round_, now_s))]

    def end(self, round_: Round, now_s: float) -> list[fx.Effect]:
        """The study's deadline: go on with whoever was heard, if they suffice."""
        obtain = self._gathering.deadline(round_)
        if len(self._gathering.ready(round_)) >= self._gathering.enough:
            return obtain
        again_s = now_s + max(REPAIRED_S, self._patience.deadline_s)
        return [*obtain, self._look_again(round_, again_s)]

    def waited_for(self, round_: Round) -> list[tuple[SiteId, float]]:
        """Who is waited for in the round that gathers, and until when at the latest."""
        awaited = self._gathering.awaited(round_)
        return [(site, self._due_s(round_, site)) for site in awaited]

    def too_few(self, round_: Round, heard: int) -> list[fx.Effect]:
        """Everybody else is given up, and still the round has not enough."""
        missing = self._names(self._gathering.missing(round_))
        sentence = (
            f"heard {heard} neighbours, needs {self._gathering.enough}; goes on by itself when "
            f"more are heard of {missing}"
        )
        told = self._tell.waits("neighbours", sentence)
        return [*self._gathering.obtain_far(round_), *told]

    def _pass_over(self, round_: Round, late: list[SiteId]) -> list[fx.Effect]:
        self._gathering.pass_over(late)
        sentence = (
            f"round {round_ + 1} goes on without {self._names(late)}, later than usual; waited for "
            "again at the next sign of life"
        )
        fields = {"round": str(round_), "sites": " ".join(site.hex() for site in sorted(late))}
        return [self._tell.happened("neighbour_late", sentence, **fields)]

    def _tell_of_the_wait(self, round_: Round, now_s: float) -> list[fx.Effect]:
        found = self.waited_for(round_)
        if not found:
            return []
        left_s = max(until_s for _, until_s in found) - now_s
        sentence = (
            f"round {round_ + 1} waits for its neighbours {self._names(s for s, _ in found)}, at "
            f"most {left_s:.0f} s more"
        )
        return self._tell.waits("round", sentence)

    def _next_look_s(self, round_: Round, now_s: float) -> float:
        """When somebody is late next, or people should know what takes so long."""
        told_s = self._published_s + TOLD_AFTER_S
        if now_s < told_s <= self._published_s + self._patience.shortest_s and not (
            self._gathering.may_stand_in
        ):
            return told_s  # nobody's time can be over before
        looks_s = [*(due_s for _, due_s in self.waited_for(round_)), self.until_s]
        if now_s < told_s:
            looks_s.append(told_s)
        return max(now_s, min(looks_s))

    def _due_s(self, round_: Round, site: SiteId) -> float:
        due_s = self._patience.due_s(site, self._began_s, self._published_s)
        if site not in self._gathering.connected:
            # It may be on its way back; what it sends then is heard in any case.
            due_s = min(due_s, self._published_s + self._patience.shortest_s)
        if not self._gathering.has_stale(round_, site):
            return due_s
        own_s = self._published_s - self._began_s
        return min(due_s, self._published_s + max(GRACE_S, GRACE_SHARE * own_s))

    def _look_again(self, round_: Round, at_s: float) -> fx.Effect:
        self._next_s = at_s
        return fx.SetTimer(self._study, ev.RoundDeadline(self._study, round_), at_s)

    def _names(self, sites: Iterable[SiteId]) -> str:
        return ", ".join(sorted(self.name_of(site) for site in sites))
