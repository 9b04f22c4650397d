"""Plays one scenario from its first approval to its last released model."""

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from p2pfl.learning.plans import plan_named
from p2pfl.runtime.errors import OperatorError
from simulations.lab.counted_world import LOOK_EVERY_EVENTS
from simulations.lab.engines import Engine, engine_named
from simulations.lab.executed import ExecutedStage
from simulations.lab.records import Records, Row
from simulations.lab.shares import shares_of
from simulations.lab.staging import CountedStage
from simulations.lab.terms import Fault, Scenario
from simulations.lab.workshop import Matrix, data_terms

LIMIT_S: Final = 50_000_000.0

Progress = Callable[[int, int], None]
"""(site-rounds done, site-rounds in all)."""
Stage = CountedStage | ExecutedStage
At = Callable[[float, Callable[[], None]], None]
"""Calls something after so many virtual seconds."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a scenario."""

    scenario: Scenario
    records: Records
    digest: str
    """Over every event and effect: the same seed gives the same one."""
    is_complete: bool
    """Whether every site that was up at the end released its model."""
    virtual_s: float
    wall_s: float
    cpu_s: float
    counts: dict[str, int]
    bytes_out: tuple[int, ...]
    bytes_in: tuple[int, ...]
    final: dict[str, float]
    """Of the last round, over honest sites: mean, worst, and so on."""

    @property
    def site_rounds_per_s(self) -> float:
        """Averagings by the time that passed on the wall."""
        return self.records.rounds_done / max(1e-9, self.wall_s)


class PlayedWorld(Protocol):
    """Virtual time."""

    now_s: float

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass."""

    def at(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do something later."""

    def digest(self) -> str:
        """Of everything so far."""


def play(
    scenario: Scenario,
    *,
    engine: str = "process",
    places: int = 1,
    address: str = "",
    progress: Progress = lambda _done, _all: None,
) -> Played:
    """Run a scenario. Raises DataRefused, PlanRefused, OperatorError."""
    shares = shares_of(scenario)
    workplace = engine_named(engine, scenario, places=places, address=address)
    patients, features = [len(share.y) for share in shares], shares[0].x.shape[1]
    try:
        return _played(scenario, workplace, patients, features, progress)
    finally:
        workplace.close()


def _played(
    scenario: Scenario, engine: Engine, patients: list[int], features: int, progress: Progress
) -> Played:
    records = Records()
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    given = (scenario, engine, initial_model(scenario, features), patients, features, records)
    is_executed = scenario.signatures == "executed"
    stage: Stage = ExecutedStage(*given) if is_executed else CountedStage(*given)
    world: PlayedWorld = stage.world
    late = _with(scenario, "join")
    for number in range(scenario.sites):
        if number not in late:
            stage.boot(number)
    for fault in scenario.faults:
        _arrange(stage, world.at, fault)
    expected = scenario.sites - len(_with(scenario, "leave"))
    total = (scenario.sites - scenario.attack.sites) * scenario.rounds_total

    def is_over() -> bool:
        progress(min(records.rounds_done, total), total)
        return stage.complete() >= expected

    gc.disable()  # millions of small values, no cycles among them
    try:
        world.run(is_over if not is_executed else _now_and_then(is_over), LIMIT_S)
    finally:
        gc.enable()
    progress(total, total)
    sent, received = stage.traffic()
    return Played(
        scenario=scenario,
        records=records,
        digest=world.digest(),
        is_complete=stage.complete() >= expected,
        virtual_s=max((row.time_s for row in records.rows), default=0.0),
        wall_s=time.perf_counter() - started_s,
        cpu_s=time.process_time() - started_cpu_s,
        counts=dict(sorted(stage.counts().items())),
        bytes_out=sent,
        bytes_in=received,
        final=final_of(records),
    )


def _now_and_then(is_over: Callable[[], bool]) -> Callable[[], bool]:
    """For a world that asks after each event."""
    events = itertools.count(1)
    return lambda: next(events) % LOOK_EVERY_EVENTS == 0 and is_over()


def _with(scenario: Scenario, kind: str) -> set[int]:
    """Sites that a kind of fault happens to."""
    return {site for fault in scenario.faults if fault.kind == kind for site in fault.sites}


def initial_model(scenario: Scenario, features: int) -> Matrix:
    """Where everybody starts, float32[d]."""
    plan = plan_named(f"tabular-{scenario.model}")
    return plan.initial(data_terms(features), scenario.training, scenario.seed)


def _arrange(
    stage: CountedStage | ExecutedStage,
    at: Callable[[float, Callable[[], None]], None],
    fault: Fault,
) -> None:
    """Have a fault happen at its time, and end."""
    match fault.kind:
        case "cut":
            at(fault.at_s, partial(stage.cut, fault.sites, True))
            at(fault.at_s + fault.for_s, partial(stage.cut, fault.sites, False))
        case "crash":
            for number in fault.sites:
                at(fault.at_s, partial(stage.crash, number))
                at(fault.at_s + fault.for_s, partial(stage.boot, number))
        case "join":
            for number in fault.sites:
                at(fault.at_s, partial(stage.join, number))
        case "leave":
            for number in fault.sites:
                at(fault.at_s, partial(stage.leave, number))
        case _:
            raise OperatorError(f"no fault {fault.kind}", fix="correct the scenario")


def final_of(records: Records) -> dict[str, float]:
    """The newest score of each site: mean, worst, tenth percentile; and the last consensus."""
    newest: dict[int, Row] = {}
    for row in records.rows:
        if row.site not in newest or newest[row.site].round <= row.round:
            newest[row.site] = row
    scores = sorted(row.accuracy for row in newest.values())
    if not scores:
        return {}
    aucs = [row.auc for row in newest.values() if row.auc is not None]
    last = records.rounds[-1]
    return {
        "accuracy_mean": sum(scores) / len(scores),
        "accuracy_worst": scores[0],
        "accuracy_p10": scores[len(scores) // 10],
        "auc_mean": sum(aucs) / len(aucs) if aucs else float("nan"),
        "consensus_distance": records.consensus_distance(last),
        "rounds": float(last + 1),
    }
