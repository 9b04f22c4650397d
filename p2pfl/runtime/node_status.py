"""What a running node says about itself, for `p2pfl node status`."""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gossip.identifiers import SiteId
from gossip.transport import Link
from p2pfl.core.conduct import EXCUSED, name_of
from p2pfl.core.history import Standing
from p2pfl.core.names import StudyId
from p2pfl.core.node import NodeCore
from p2pfl.core.phases import Phase
from p2pfl.core.planned import rounds_planned
from p2pfl.core.rounds import StudyRun
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.keeping import Keeper

HARMLESS: Final = frozenset(error.__name__ for error in EXCUSED)
"""Rules that honest sites break, too: people see them apart from the others."""


def queues(driver: Driver) -> dict[str, int]:
    """What waits inside the node, by queue."""
    return {
        "events": driver.events_waiting,
        "effects": driver.effects_waiting,
        "ledger": driver.writer.waiting,
        "witness": driver.witness.waiting,
        "sending": driver.exchange.waiting,
    }


def status(
    driver: Driver,
    keeper: Keeper,
    turned_away: Mapping[str, int],
    links: Mapping[SiteId, Link],
    now_s: float,
) -> Json:
    """Neighbours, studies, training processes and refusals, as JSON.

    turned_away: what the transport refused before it was a message, by rule."""
    liars = map(SiteId, sorted(filter(None, driver.core.history.false_witnesses)))
    core, counts = driver.core, driver.exchange.dissemination.counts
    return {
        "site": core.me.hex(),
        "connected": [
            {"name": card.name, "site": card.site.hex()}
            for card in core.roster.members
            if card.site in core.connected
        ],
        "members": len(core.roster.members),
        "is_member": core.me in core.roster,
        "studies": [_study(study, run, driver, now_s) for study, run in sorted(core.runs.items())],
        "away": _away(core),
        "transfers": _transfers(driver),
        "models": keeper.status(),
        "training_processes": list(driver.jobs.training_pids()),
        "ledger_entries": core.history.size,
        "delivered": counts.delivered,
        "duplicates": counts.duplicates,
        "refused": {
            f"{name_of(core.roster, site)}/{rule}": n
            for (site, rule), n in sorted(core.refused.items())
        },
        "harmless": sum(n for (_, rule), n in core.refused.items() if rule in HARMLESS),
        "heard_slowly": [name_of(core.roster, s) for s in driver.exchange.heard_slowly()],
        "unheard": driver.exchange.unheard,
        "turned_away": dict(sorted(turned_away.items())),
        "lines": {
            name_of(core.roster, site): {
                "round_trip_ms": None
                if link.round_trip_s is None
                else round(link.round_trip_s * 1000, 3),
                "sent_bytes": link.sent_bytes,
                "received_bytes": link.received_bytes,
                "resent_packets": link.resent_packets,
                "queued_frames": link.queued_frames,
                "queued_bytes": link.queued_bytes,
            }
            for site, link in sorted(links.items())
        },
        "queues": dict(queues(driver)),
        "own_log": core.own_log.value,
        "read_only": core.read_only_reason,
        "forked": [name_of(core.roster, site) for site in sorted(core.accused)],
        "false_witnesses": [name_of(core.roster, site) for site in liars],
        "memory_peak_kib": memory_peak_kib(),
    }


def _study(study: StudyId, run: StudyRun, driver: Driver, now_s: float) -> Json:
    roster = driver.core.roster
    return {
        "study": study.hex(),
        "name": run.manifest.study.name,
        "phase": run.phase.value,
        "round": int(run.round),
        "rounds": rounds_planned(run.manifest, run.past).total,
        "paused": run.pausing.sentence(lambda site: name_of(roster, site)),
        "sites": len(run.gathering.buckets),
        "sites_min": run.manifest.study.sites_min,
        "waits_for": _waits_for(run, driver, now_s),
    }


def _away(core: NodeCore) -> list[Json]:
    """Studies that run elsewhere, and not here until people say so."""
    return [
        {"study": study.hex(), "name": core.proposals[study].manifest.study.name}
        for study, past in sorted(core.history.studies.items())
        if past.standing is Standing.AWAY and study in core.proposals
    ]


def _transfers(driver: Driver) -> list[Json]:
    """Models that are being fetched, and how far they are."""
    return [
        {
            "name": name_of(driver.core.roster, transfer.site),
            "study": transfer.study.hex(),
            "bytes": transfer.have_bytes,
            "of_bytes": transfer.size_bytes,
        }
        for transfer in driver.jobs.transfers()
    ]


def _waits_for(run: StudyRun, driver: Driver, now_s: float) -> list[Json]:
    """Neighbours whose update the round waits for, and for how long at most."""
    if run.phase is not Phase.GATHERING or run.past.is_paused_at(run.round):
        return []
    return [
        {
            "name": name_of(driver.core.roster, site),
            "site": site.hex(),
            "seconds_at_most": round(max(0.0, until_s - now_s), 1),
        }
        for site, until_s in run.waits.waited_for(run.round)
    ]


def memory_peak_kib() -> int:
    """The most memory this process ever held, in KiB.

    The kernel's own figure where there is one: that of `getrusage` includes what the process that
    started this one held at that moment."""
    try:
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0])
    except (OSError, ValueError):
        pass  # no Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
