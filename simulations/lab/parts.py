"""Splits a world over processes of this machine that share nothing but messages between sites.

Every process plays whole benches and trains what they train. In windows as long as the network's
shortest delay each goes on alone; then they exchange what was sent (`exchange`). What happens to a
site depends on its own draws and on what reaches it, so one process and many play the same."""

import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

from p2pfl.runtime.errors import OperatorError
from simulations.lab.counted_world import INLINE_BYTES_MAX, WINDOW_MIN_S, Look
from simulations.lab.engines import InProcess
from simulations.lab.exchange import Mesh
from simulations.lab.part import Outcome, play_part
from simulations.lab.records import Records
from simulations.lab.setting import Setting, setting_of
from simulations.lab.terms import Scenario
from simulations.lab.workshop import file_of

PARTS_FROM_SITES: Final = 200
"""Fewer sites are played before a second process has started."""


def parts_for(setting: Setting, wanted: int) -> int:
    """In how many processes a scenario is played. wanted: at most so many, 0: one per core.

    One where sites see or do more than messages show: attackers know what their neighbours
    trained, and after a fault a node learns at once what others decided meanwhile."""
    scenario = setting.scenario
    is_private = scenario.attack.sites == 0 and not scenario.faults
    is_counted = scenario.signatures == "counted"
    is_inline = len(file_of(setting.initial)) <= INLINE_BYTES_MAX
    has_windows = scenario.network.delay_min_s >= WINDOW_MIN_S
    if not (is_private and is_counted and is_inline and has_windows):
        return 1
    if wanted == 0:
        wanted = len(os.sched_getaffinity(0)) if scenario.sites >= PARTS_FROM_SITES else 1
    return min(wanted, setting.benches.count)


def play_split(setting: Setting, parts: int, look: Look) -> Outcome:
    """Play in this process and `parts` − 1 more. Raises OperatorError if one of them ends."""
    context = get_context("spawn")
    lines: list[dict[int, Connection]] = [{} for _ in range(parts)]
    for one, other in itertools.combinations(range(parts), 2):
        lines[one][other], lines[other][one] = context.Pipe()
    started, results = [], []
    for part in range(1, parts):
        result, given = context.Pipe(duplex=False)
        arguments = (setting.scenario, part, lines[part], given)
        process = context.Process(target=_other_part, args=arguments, daemon=True)
        process.start()
        for line in (*lines[part].values(), given):
            line.close()  # here: so that its end is noticed
        started.append(process)
        results.append(result)
    try:
        outcomes = [_play(setting, 0, lines[0], look), *(_result(result) for result in results)]
    finally:
        for line in lines[0].values():
            line.close()  # who still waits for this part ends, too
        for process in started:
            process.join()
    return _together(setting, outcomes)


def _play(setting: Setting, part: int, lines: dict[int, Connection], look: Look) -> Outcome:
    parts, sites = len(lines) + 1, range(setting.scenario.sites)
    of_parts = [setting.benches.sites_of_part(n, parts) for n in range(parts)]
    part_of = [next(n for n, own in enumerate(of_parts) if site in own) for site in sites]
    engine = InProcess(setting.scenario)
    return play_part(setting, engine, Mesh(part, lines, part_of), of_parts[part], look)


def _other_part(
    scenario: Scenario, part: int, lines: dict[int, Connection], result: Connection
) -> None:
    """Another process: it ends by itself when the first one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is interrupted tells the others
    try:
        result.send(_play(setting_of(scenario), part, lines, lambda _done: None))
    except (OperatorError, OSError):
        sys.exit(1)  # another part has said why


def _result(result: Connection) -> Outcome:
    try:
        outcome: Outcome = result.recv()
    except EOFError as error:
        raise OperatorError(
            "one of the simulation's processes has ended before it told its results",
            fix="see its message above; with --workers 1 there is one process",
        ) from error
    return outcome


def _together(setting: Setting, outcomes: Sequence[Outcome]) -> Outcome:
    records, counts, digests = Records(setting.benches), Counter[str](), dict[int, bytes]()
    for outcome in outcomes:
        records.add(outcome.records)
        counts += outcome.counts
        digests |= outcome.digests
    return Outcome(
        records,
        digests,
        sum(outcome.complete for outcome in outcomes),
        counts,
        tuple(map(sum, zip(*(outcome.sent for outcome in outcomes), strict=True))),
        tuple(map(sum, zip(*(outcome.received for outcome in outcomes), strict=True))),
        sum(outcome.cpu_s for outcome in outcomes),
    )
