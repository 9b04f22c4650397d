"""Plays the sites of one process: all of them, or one part of a world that is split."""

import gc
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from p2pfl.averaging import prepare
from p2pfl.runtime.errors import OperatorError
from simulations.lab.counted_world import Look
from simulations.lab.engines import Engine
from simulations.lab.exchange import Exchange
from simulations.lab.executed import ExecutedStage
from simulations.lab.records import Records
from simulations.lab.setting import Setting, sites_with
from simulations.lab.staging import CountedStage
from simulations.lab.terms import Fault

LIMIT_S: Final = 50_000_000.0
LOOK_EVERY_EVENTS: Final = 2000
COMPILED_FROM_SITES: Final = 64
"""From here on loading the compiled averaging, about a second, is soon won back."""

Stage = CountedStage | ExecutedStage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the sites of one process, or of all of them."""

    records: Records
    digests: dict[int, bytes]
    """Of each site's trace; of a world of whole nodes there is one."""
    complete: int
    counts: Counter[str]
    sent: tuple[int, ...]
    received: tuple[int, ...]
    cpu_s: float

    @property
    def digest(self) -> str:
        """Over every event and effect of every site."""
        return hashlib.sha256(b"".join(d for _, d in sorted(self.digests.items()))).hexdigest()


def play_part(
    setting: Setting, engine: Engine, exchange: Exchange, here: range, look: Look
) -> Outcome:
    """Play the sites with these numbers to the end of the study.

    look: is told now and then how many site-rounds everybody together has played.
    Raises OperatorError."""
    started_cpu_s = time.process_time()
    scenario, records = setting.scenario, Records(setting.benches)
    if scenario.sites >= COMPILED_FROM_SITES:
        prepare()
    if scenario.signatures == "executed":
        executed = ExecutedStage(setting, engine, records)
        stage: Stage = executed
    else:
        counted = CountedStage(setting, engine, records, exchange, here)
        stage = counted
    late = sites_with(scenario, "join")
    for number in range(scenario.sites):
        if number not in late:
            stage.boot(number)
    for fault in scenario.faults:
        _arrange(stage, fault)
    gc.disable()  # millions of small values, no cycles among them
    try:
        if scenario.signatures == "executed":
            executed.world.run(_is_over(executed, setting, records, look), LIMIT_S)
        else:
            counted.world.run(setting.expected, lambda: records.rounds_done, look, LIMIT_S)
    finally:
        gc.freeze()  # what is left need not be searched, either
        gc.enable()
    sent, received = stage.traffic()
    cpu_s = time.process_time() - started_cpu_s
    counts = stage.counts()
    return Outcome(records, stage.digests(), stage.complete(), counts, sent, received, cpu_s)


def _is_over(
    stage: ExecutedStage, setting: Setting, records: Records, look: Look
) -> Callable[[], bool]:
    """For a world that asks after each event."""
    events = itertools.count(1)

    def is_over() -> bool:
        if next(events) % LOOK_EVERY_EVENTS:
            return False
        look(records.rounds_done)
        return stage.complete() >= setting.expected

    return is_over


def _arrange(stage: Stage, fault: Fault) -> None:
    """Have a fault happen at its time, and end."""
    at = stage.world.at if isinstance(stage, ExecutedStage) else stage.world.agenda.at
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
