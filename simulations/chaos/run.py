"""The run itself: nodes, people and faults side by side, by the clock of this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from simulations.chaos.people import People, StudyTerms, found
from simulations.chaos.plan import ClockJump, OneWay, Part, Planned, words
from simulations.chaos.stage import Stage

TICK_S: Final = 0.1
SAMPLE_S: Final = 5.0
PROGRESS_S: Final = 30.0
SETTLED_S: Final = 15.0
"""After the last study: training processes end, and connections are as they will stay."""
READY_S: Final = 120.0
FIRST_ROUND_S: Final = 600.0
"""Within this time everybody's first round is over, also where the machine is slow."""


@dataclass(frozen=True, slots=True)
class Healed:
    """A partition or one-way cut that ended, and what followed.

    after_s: until every site had finished a round that it heard everybody in; None: another fault,
    or the end of the study, came first."""

    fault: str
    after_s: float | None


@dataclass(slots=True)
class Course:
    """What happened in a run, beside what lies in the homes.

    ends: (seconds, place, words) of every process that ended by itself; unexpected: those of them
    that no fault explains."""

    lasted_s: float = 0.0
    settled_s: float = 0.0
    ends: list[tuple[float, int, str]] = field(default_factory=list)
    unexpected: list[tuple[float, int, str]] = field(default_factory=list)
    healed: list[Healed] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    typed_again: int = 0
    people_failed: str = ""
    bad_stops: list[str] = field(default_factory=list)
    interrupted: str = ""


class Run:
    """One run on one stage. `perform` returns when all nodes have been stopped."""

    def __init__(
        self,
        stage: Stage,
        planned: Sequence[Planned],
        terms: StudyTerms,
        *,
        seed: int,
        say: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stage = stage
        self.course = Course()
        self._plan = tuple(planned)
        self._planned: list[Planned] = []
        self._going: list[Planned] = []
        self._clock_s = clock_s
        self._say = say
        self._seed = seed
        self._began_s = 0.0
        self._sampled_s = self._progress_s = 0.0
        self._people = People(stage.homes, stage.folder, terms, self._tell)

    def perform(self, lasts_s: float, settle_s: float) -> Course:
        """Found, run for `lasts_s`, then let the last study end within `settle_s`."""
        self._say(f"founding {len(self.stage.nodes)} sites …")
        found(self.stage.homes, self.stage.addresses, self.stage.folder, self._seed)
        self._people.begin()
        self._began_s = self._clock_s()
        for node in self.stage.nodes:
            node.start()
        try:
            self._until(self._have_all_begun, FIRST_ROUND_S)
            self._tell("every site has done a round, or had time for one: the plan begins")
            self._began_s, self._sampled_s, self._progress_s = self._clock_s(), 0.0, 0.0
            self._planned = list(self._plan)
            self._people.start()
            self._until(lambda: self._since_s >= lasts_s and not self._going, lasts_s + READY_S)
            self._people.propose_no_more()
            self.course.lasted_s = self._since_s
            self._tell("no more faults; the last study goes on to its end")
            self._until(lambda: self._people.are_done, settle_s)
        except KeyboardInterrupt:
            self._interrupted()
        self._people.give_up()
        self.course.settled_s = self._since_s - self.course.lasted_s
        still_s = self._since_s + SETTLED_S
        self._until(lambda: self._since_s >= still_s, SETTLED_S)
        for node in self.stage.nodes:
            node.sample()
        self._stop()
        self._take_notes()
        return self.course

    @property
    def _since_s(self) -> float:
        return self._clock_s() - self._began_s

    def _have_all_begun(self) -> bool:
        return all(node.said("round_done") for node in self.stage.nodes)

    def _until(self, is_over: Callable[[], bool], limit_s: float) -> None:
        end_s = self._since_s + limit_s
        while not is_over() and self._since_s < end_s:
            self._tick()
            time.sleep(TICK_S)

    def _tick(self) -> None:
        now_s = self._since_s
        for planned in [one for one in self._going if one.until_s <= now_s]:
            self._going.remove(planned)
            self.stage.end(planned.fault)
            self._tell(f"over: {words(planned.fault)}")
        while self._planned and self._planned[0].at_s <= now_s:
            planned = self._planned.pop(0)
            self._going.append(planned)
            self.stage.begin(planned.fault)
            self._tell(words(planned.fault))
        for place, node in enumerate(self.stage.nodes):
            ended = node.look()
            node.read_log()
            if ended is not None:
                self._ended(place, ended)
        if now_s - self._sampled_s >= SAMPLE_S:
            self._sampled_s = now_s
            for node in self.stage.nodes:
                node.sample()
        if now_s - self._progress_s >= PROGRESS_S:
            self._progress_s = now_s
            self._tell(self._progress())

    def _progress(self) -> str:
        """The newest round that is over at each site, and who is down."""
        rounds = []
        for place, node in enumerate(self.stage.nodes):
            done = node.said("round_done")
            said = str(done[-1][1]["round"]) if done else "-"
            rounds.append(f"{place}:{said}" + ("" if node.pid is not None else " (down)"))
        return f"study {len(self._people.studies)}, newest round by site: {' '.join(rounds)}"

    def _interrupted(self) -> None:
        """Whoever watches has seen enough: no more faults, and what is there is judged."""
        for planned in self._going:
            self.stage.end(planned.fault)
        self._going, self._planned = [], []
        self.course.lasted_s = self.course.lasted_s or self._since_s
        self.course.interrupted = f"interrupted after {self._since_s:.0f} s"
        self._tell(self.course.interrupted)

    def _ended(self, place: int, ended: str) -> None:
        """A node ended by itself; the supervisor starts it again.

        Explained is: a full disk (74), a home that a person's command held (75), and a clock that
        was set back by minutes while the node was down (78), until that time is reached again."""
        self.course.ends.append((self._since_s, place, ended))
        code, stage = ended.partition(":")[0], self.stage
        explained = (
            (code == "exit code 74" and place in stage.was_full)
            or code == "exit code 75"
            or (code == "exit code 78" and place in stage.was_set)
        )
        if not explained:
            self.course.unexpected.append((self._since_s, place, ended))
        self._tell(f"site{place} ended by itself: {ended}")

    def _stop(self) -> None:
        for node in self.stage.nodes:
            code = node.stop()
            node.read_log()
            if code not in (0, None):
                self.course.bad_stops.append(f"{node.name}: exit code {code}")
            if code is None:
                self.course.bad_stops.append(f"{node.name}: did not run at the end")

    def _take_notes(self) -> None:
        people = self._people
        self.course.studies = list(people.studies)
        self.course.typed_again = people.typed_again
        self.course.healed = healings(self.stage, self._plan, self._began_s)
        self.course.people_failed = "" if people.failure is None else str(people.failure)

    def _tell(self, line: str) -> None:
        at_s = self._since_s if self._began_s else 0.0
        self._say(f"{at_s:7.1f} s  {line}")


def healings(stage: Stage, planned: Sequence[Planned], began_s: float) -> list[Healed]:
    """How long after each cut the first round with everybody was over at every site.

    Only a round that began after the cut's end counts, and only before the next fault."""
    found = []
    for one in planned:
        if isinstance(one.fault, Part | OneWay):
            found.append(Healed(words(one.fault), _healed_after_s(stage, planned, one, began_s)))
    return found


def _healed_after_s(
    stage: Stage, planned: Sequence[Planned], cut: Planned, began_s: float
) -> float | None:
    others = [
        one
        for one in planned
        if one is not cut and one.until_s > cut.until_s and not isinstance(one.fault, ClockJump)
    ]
    next_s = min((max(one.at_s, cut.until_s) for one in others), default=float("inf"))
    seen_s = []
    for node in stage.nodes:
        rounds = [
            at_s - began_s
            for at_s, line in node.said("round_done")
            if cut.until_s < at_s - began_s and line["heard"] == len(stage.nodes) - 1
        ]
        if not rounds:
            return None
        seen_s.append(rounds[0])
    return max(seen_s) - cut.until_s if max(seen_s) <= next_s else None
