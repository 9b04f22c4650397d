"""Plays one scenario from its first approval to its last released model."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from simulations.lab.engines import engine_named
from simulations.lab.exchange import Alone
from simulations.lab.part import Outcome, play_part
from simulations.lab.parts import parts_for, play_split
from simulations.lab.records import Records, Row
from simulations.lab.setting import setting_of
from simulations.lab.terms import Scenario

Progress = Callable[[int, int], None]
"""(site-rounds done, site-rounds in all)."""


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


def play(
    scenario: Scenario,
    *,
    engine: str = "process",
    places: int = 0,
    address: str = "",
    progress: Progress = lambda _done, _all: None,
) -> Played:
    """Run a scenario. places: processes that play or, of a pool or cluster, train; 0: as many as
    are of use here. Raises DataRefused, PlanRefused, OperatorError."""
    setting = setting_of(scenario)
    total = (scenario.sites - scenario.attack.sites) * scenario.rounds_total
    started_s = time.perf_counter()

    def look(done: int) -> None:
        progress(min(done, total), total)

    parts = parts_for(setting, places) if engine == "process" else 1
    if parts > 1:
        outcome = play_split(setting, parts, look)
    else:
        places = min(max(1, places), setting.benches.count)
        workplace = engine_named(engine, scenario, places=places, address=address)
        started_s = time.perf_counter()
        try:
            outcome = play_part(setting, workplace, Alone(), range(scenario.sites), look)
        finally:
            workplace.close()
    progress(total, total)
    wall_s = time.perf_counter() - started_s
    return _played(scenario, outcome, outcome.complete >= setting.expected, wall_s)


def _played(scenario: Scenario, outcome: Outcome, is_complete: bool, wall_s: float) -> Played:
    records = outcome.records
    return Played(
        scenario=scenario,
        records=records,
        digest=outcome.digest,
        is_complete=is_complete,
        virtual_s=max((row.time_s for row in records.rows), default=0.0),
        wall_s=wall_s,
        cpu_s=outcome.cpu_s,
        counts=dict(sorted(outcome.counts.items())),
        bytes_out=outcome.sent,
        bytes_in=outcome.received,
        final=final_of(records),
    )


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
