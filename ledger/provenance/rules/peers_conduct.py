"""Did the sites whose models entered ours keep the rules themselves?

Approval after training, revoked data, an exceeded budget, an accepted update left out: the same
rules as for the own log, asked of every other log that was given. A log that could be read in
part is asked only what its study entries can answer."""

from collections.abc import Iterator
from dataclasses import replace

from ledger.log import ExitCode, Verification
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Tools
from ledger.provenance.peers import PeerLog
from ledger.provenance.rules import (
    approvals,
    averaging,
    budget,
    datasets,
    pausing,
    steering,
    training,
)
from ledger.provenance.timeline import Timeline

OF_A_STUDY: tuple[Check, ...] = (
    # Who may approve is the other site's own policy, which this audit does not know.
    *(check for check in approvals.CHECKS if check.id != "roles"),
    *training.CHECKS,
    *steering.CHECKS,
    *pausing.CHECKS,
    *averaging.CHECKS,
)
"""What the entries of studies answer, which every member of a study may read."""
OF_A_SITE: tuple[Check, ...] = (*datasets.CHECKS, *budget.CHECKS)
"""What takes a site's own entries on its datasets, too."""
_TELL = "Tell the operator of that site and the members of the study. "


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    if peers is None:
        return Looked(0, "ledgers", applies=False)
    findings: list[AuditFinding] = []
    notes: list[str] = []
    missing = 0
    for log in peers.sound:
        if not log.is_gapless:
            notes.append(
                f"{context.site_name(log.site)}: entries are missing from its copy; its conduct "
                "was not looked at."
            )
            missing += 1
            continue
        findings += _of(log, context, tools)
        if not log.is_whole:
            notes.append(
                f"{context.site_name(log.site)}: what it keeps to itself (datasets, policy) was "
                "not at hand; only its studies were looked at."
            )
    return Looked(
        len(peers.sound),
        "ledgers",
        tuple(findings),
        tuple(notes),
        applies=bool(peers.sound),
        missing=missing,
    )


def _of(log: PeerLog, context: AuditContext, tools: Tools) -> Iterator[AuditFinding]:
    verification = log.verification or Verification((), log.size, None)
    theirs = replace(context, site=log.site, verification=verification, blob=None, peers=None)
    checks = (*OF_A_STUDY, *OF_A_SITE) if log.is_whole else OF_A_STUDY
    name = context.site_name(log.site)
    for check in checks:
        for found in check.look(log.timeline, theirs, tools).findings:
            where = "" if found.seq is None else f", entry {found.seq}"
            if found.exit_code is not ExitCode.EVIDENCE_INCOMPLETE:
                yield replace(
                    found,
                    code=f"peer.{found.code}",
                    seq=None,
                    sentence=f"In the ledger of {name}{where}: {found.sentence}",
                    action=_TELL + found.action,
                )


CHECKS = (Check("conduct", "The other sites kept the rules, as far as they show", _look),)
