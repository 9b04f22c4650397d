"""Some sites that witness each other's logs, over virtual wires that lose, delay and cut."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from gossip.identifiers import SiteId
from ledger.log import Draft, Entry, Signer
from ledger.provenance import kinds
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.history import History
from p2pfl.core.node import NodeCore
from p2pfl.core.witnessing import Witnessing
from simulations.memory_ledger import MemoryBook, MemoryLedger, MemoryView
from simulations.scenario import ScenarioTerms, make_world
from simulations.site import SimulatedSite

TICK_S = 0.5
START_S = 1_800_000_000.0


def note_of(number: int) -> Draft:
    """Something to put on record."""
    return kinds.ClockAnomaly(number + 1).draft("node")


@dataclass
class Hospital:
    """A site: its disk survives `Wires.crash`, its process does not."""

    site: SimulatedSite
    book: MemoryBook = field(default_factory=MemoryBook)
    learned: list[object] = field(default_factory=list)
    wire: list[object] = field(default_factory=list)
    """Everything that others told it."""
    process: Witnessing | None = None
    life: int = 0

    @property
    def ledger(self) -> MemoryLedger:
        return self.site.ledger

    def facts(self, kind: type) -> list[object]:
        return [event for event in self.learned if isinstance(event, kind)]


class Wires:
    """The hospitals, their wires and one clock."""

    def __init__(self, count: int, *, seed: int = 1, loss: float = 0.0) -> None:
        world, _ = make_world(seed, ScenarioTerms(sites=count, neighbours_min=1))
        self.roster = world.roster
        self.all = [Hospital(site) for site in world.sites.values()]
        self.by_id: dict[SiteId, Hospital] = {h.site.id: h for h in self.all}
        self.cut: set[frozenset[SiteId]] = set()
        self.now_s = START_S
        self.crash_at: set[int] = set()
        """Outputs at which whoever is about to perform them loses its power."""
        self.outputs = 0
        self._random = random.Random(seed)  # noqa: S311 - a virtual wire
        self._loss = loss
        self._queue: list[tuple[float, int, Hospital, int, object]] = []
        self._order = itertools.count()

    def boot(self, *hospitals: Hospital, must_ask: bool = True) -> None:
        for one in hospitals or self.all:
            one.life += 1
            one.process = Witnessing(
                me=one.site.id,
                roster=self.roster,
                book=one.book,
                own=MemoryView(one.ledger),
                witness=Signer(one.site.keys.witness),
                seal=lambda raw: b"sealed" + raw[:8],
                may_read=lambda site, entry: self._may_read(site, entry),
            )
            self._perform(one, one.process.begin(self.now_s, must_ask=must_ask))
            self._push(TICK_S, one, terms.Tick())
            for other in self.all:
                if other is not one and other.process is not None:
                    self._push(0.0, one, terms.Met(other.site.id))
                    self._push(0.0, other, terms.Met(one.site.id))

    def crash(self, one: Hospital) -> None:
        one.process = None
        one.life += 1
        for other in self.all:
            if other.process is not None:
                self._push(0.0, other, terms.Lost(one.site.id))

    def record(self, one: Hospital, count: int = 1) -> None:
        drafts = [note_of(number) for number in range(count)]
        one.ledger.append(drafts, (), int(self.now_s * 1e6))
        if one.process is not None:
            self._give(one, terms.OwnGrew())

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._queue and self._queue[0][0] <= end_s:
            self.now_s, _, one, life, given = heapq.heappop(self._queue)
            if one.process is not None and one.life == life:
                if isinstance(given, terms.Tick):
                    self._push(TICK_S, one, given)
                self._give(one, given)
        self.now_s = end_s

    def _may_read(self, site: SiteId, entry: Entry) -> bool:
        return entry.kind in ("log.genesis", "clock.anomaly")

    def _push(self, delay_s: float, one: Hospital, given: object) -> None:
        place = (self.now_s + delay_s, next(self._order), one, one.life, given)
        heapq.heappush(self._queue, place)

    def _give(self, one: Hospital, given: object) -> None:
        assert one.process is not None
        if isinstance(given, terms.Said):
            one.wire.append(given.message)
        self._perform(one, one.process.handle(self.now_s, given))  # type: ignore[arg-type]

    def _perform(self, one: Hospital, outputs: list[terms.WitnessOutput]) -> None:
        for output in outputs:
            self.outputs += 1
            if self.outputs in self.crash_at:
                self.crash(one)
                self._queue_restart(one)
                return
            match output:
                case terms.Learned(event=event):
                    one.learned.append(event)
                case terms.Tell(site=site, message=message):
                    self._carry(one, self.by_id[site], message)
                case terms.TellEveryone(message=message):
                    for other in self.all:
                        if other is not one:
                            self._pass_on(one, other, message)

    def _queue_restart(self, one: Hospital) -> None:
        self.boot(one)

    def _pass_on(self, one: Hospital, other: Hospital, message: object) -> None:
        """What is for everyone arrives: others pass it on around a cut wire, and repeat it."""
        said = terms.Said(one.site.id, message)  # type: ignore[arg-type]
        self._push(0.04, other, said)

    def _carry(self, one: Hospital, other: Hospital, message: object) -> None:
        is_cut = frozenset((one.site.id, other.site.id)) in self.cut
        if is_cut or self._random.random() < self._loss:
            return
        said = terms.Said(one.site.id, message)  # type: ignore[arg-type]
        self._push(0.005 + 0.03 * self._random.random(), other, said)


def alarms(wires: Wires) -> list[object]:
    """Everything that would frighten somebody."""
    kinds_ = (ev.ForkFound, ev.OwnLogBehind, ev.PeerRefused)
    return [event for one in wires.all for event in one.learned if isinstance(event, kinds_)]


def core_of(one: Hospital, wires: Wires) -> NodeCore:
    core = NodeCore(one.site.id, wires.roster, History(one.ledger.entries))
    core.handle(START_S, ev.Begin((), frozenset(), one.ledger.note))
    return core


def witnessing(
    wires: Wires,
    one: Hospital,
    book: terms.WitnessBook,
    faulty: int | None = None,
    signer: Signer | None = None,
) -> Witnessing:
    return Witnessing(
        me=one.site.id,
        roster=wires.roster,
        book=book,
        own=MemoryView(one.ledger),
        witness=signer or Signer(one.site.keys.witness),
        seal=lambda raw: raw[:8],
        may_read=lambda site, entry: True,
        faulty=faulty,
    )
