"""What a running node says about itself, for `p2pfl node status`."""

import resource
from typing import Final

from p2pfl.runtime.driver import Driver
from p2pfl.runtime.jsonable import Json

STATUS_COMMAND: Final = "node status"


def status(driver: Driver) -> Json:
    """Neighbours, studies, training processes and refusals, as JSON."""
    core, counts = driver.core, driver.exchange.dissemination.counts
    return {
        "site": core.me.hex(),
        "connected": [
            {"name": card.name, "site": card.site.hex()}
            for card in core.roster.members
            if card.site in core.connected
        ],
        "members": len(core.roster.members),
        "studies": [
            {
                "study": study.hex(),
                "name": run.manifest.study.name,
                "phase": run.phase.value,
                "round": int(run.round),
                "rounds": run.manifest.study.rounds_total,
                "sites": len(run.gathering.buckets),
            }
            for study, run in sorted(core.runs.items())
        ],
        "training_processes": list(driver.jobs.training_pids()),
        "ledger_entries": core.history.size,
        "delivered": counts.delivered,
        "duplicates": counts.duplicates,
        "refused": {
            f"{core.roster.member(site).name if site in core.roster else site.hex()[:8]}/{rule}": n
            for (site, rule), n in sorted(core.refused.items())
        },
        "memory_peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
