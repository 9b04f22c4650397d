"""The audit of one site's ledger: every check, and what the log tells about data and models.

Does no I/O of its own and reads no clock: entries, context and the functions that compute ε or
average again come in as arguments. To show the result, see `report`."""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.log import Entry, ExitCode, worst_of
from ledger.provenance.findings import (
    AuditContext,
    AuditFinding,
    CheckResult,
    EpsilonOf,
    Replay,
    Tools,
    Verdict,
    answer,
)
from ledger.provenance.kinds import TrainDone
from ledger.provenance.rules import CHECKS
from ledger.provenance.scope import Selection, select, words_of
from ledger.provenance.sections import (
    Happening,
    Rejection,
    Release,
    decisions,
    incidents,
    rejections,
    releases,
)
from ledger.provenance.spending import DatasetSpending, remembering, spendings
from ledger.provenance.timeline import Timeline

LIMITS = (
    "an event that was never recorded anywhere, such as training outside this software",
    "a noise multiplier σ, sampling rate q or number of steps that was declared falsely",
    "all witnesses of a log acting together with the site that writes it",
)
"""What no audit of ledgers can detect; printed in every report."""
NOT_COVERED = (
    "Not looked at here: whether senders recorded what this site received, whether peers saw the "
    "same history of this log, and bounds on its clock. That takes the other sites' heads, "
    "cosignatures and logs."
)
COVERED_IN_PART = (
    "Compared with what {count} other sites' ledgers and {heads} heads held by others say. What "
    "the other sites did not hand over was not looked at."
)


LIMITED = (
    " The whole log was checked, but only {scope} is told here; {count} findings concern other "
    "things and are left out."
)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything an audit found out; `context` names things for people.

    scope: what the audit was limited to, in words, empty for everything; left_out: how many
    findings lie outside of it."""

    context: AuditContext
    log_id: bytes
    entries: int
    first_us: int
    last_us: int
    exit_code: ExitCode
    verdict: str
    findings: tuple[AuditFinding, ...]
    checks: tuple[CheckResult, ...]
    budgets: tuple[DatasetSpending, ...]
    decisions: tuple[Happening, ...]
    releases: tuple[Release, ...]
    rejections: tuple[Rejection, ...]
    incidents: tuple[Happening, ...]
    limits: tuple[str, ...] = LIMITS
    not_covered: str = NOT_COVERED
    scope: str = ""
    left_out: int = 0


def audit(
    entries: Iterable[Entry],
    context: AuditContext,
    *,
    epsilon_of: EpsilonOf,
    replay: Replay | None = None,
) -> AuditReport:
    """Check a whole log, from its first entry on, against every rule.

    entries: all of them, in order; an error of the store while reading is itself a finding.
    replay: None leaves out averaging again. Raises nothing for what a log may contain."""
    tools = Tools(remembering(epsilon_of), replay)
    timeline = Timeline(entries)
    selection = select(timeline, context.scope)
    checks, left_out = _checked(timeline, context, tools, selection)
    findings = tuple(found for check in checks for found in check.findings)
    exit_code = worst_of(context.verification.exit_code, *(found.exit_code for found in findings))
    return AuditReport(
        context=context,
        log_id=timeline.log_id,
        entries=timeline.size,
        first_us=timeline.first_us,
        last_us=timeline.last_us,
        exit_code=exit_code,
        verdict=_verdict(timeline, context, exit_code, checks),
        findings=findings,
        checks=checks,
        budgets=selection.budgets(spendings(timeline, context, tools.epsilon_of)),
        decisions=selection.told(decisions(timeline, context)),
        releases=selection.releases(releases(timeline)),
        rejections=selection.rejections(rejections(timeline)),
        incidents=selection.told(incidents(timeline, context)),
        not_covered=_not_covered(context, left_out),
        scope=words_of(context.scope, context),
        left_out=left_out,
    )


def _checked(
    timeline: Timeline, context: AuditContext, tools: Tools, selection: Selection
) -> tuple[tuple[CheckResult, ...], int]:
    """Every check over the whole log, with the findings that were asked for; how many others."""
    answers = [
        selection.check(answer(check, check.look(timeline, context, tools), context.demand))
        for check in CHECKS
    ]
    return tuple(result for result, _ in answers), sum(left_out for _, left_out in answers)


def _not_covered(context: AuditContext, left_out: int) -> str:
    peers = context.peers
    said = NOT_COVERED
    if peers is not None:
        said = COVERED_IN_PART.format(count=len(peers.sound), heads=len(peers.heads))
    scope = words_of(context.scope, context)
    if scope:
        said += LIMITED.format(scope=scope, count=left_out)
    return said


def _verdict(
    timeline: Timeline,
    context: AuditContext,
    exit_code: ExitCode,
    checks: tuple[CheckResult, ...],
) -> str:
    """The whole result in one sentence."""
    name = context.site_name(context.site)
    counts = f"{timeline.size} entries, {len(timeline.of(TrainDone))} trainings"
    scope = words_of(context.scope, context)
    counts += f"; only {scope}" if scope else ""
    failed = [check for check in checks if check.verdict is Verdict.FAILED]
    count = sum(len(check.findings) for check in failed)
    match exit_code:
        case ExitCode.CLEAN:
            asked = sum(check.verdict is Verdict.PASSED for check in checks)
            return (
                f"The ledger of {name} is whole and keeps every rule that was checked "
                f"({counts}, {asked} checks)."
            )
        case ExitCode.EVIDENCE_INCOMPLETE:
            return (
                f"Nothing wrong was found in the ledger of {name}, but evidence is missing: not "
                f"everything could be checked ({counts})."
            )
        case ExitCode.RULE_VIOLATED:
            return (
                f"The ledger of {name} is whole, but what it records breaks the rules in {count} "
                f"{'place' if count == 1 else 'places'} ({counts})."
            )
        case ExitCode.FORK_PROVEN:
            return f"A log with two histories was proven: see the findings ({name}, {counts})."
        case ExitCode.ROLLBACK:
            return (
                f"The ledger of {name} lost entries that it had already released: it was set "
                f"back or cut ({counts} left)."
            )
        case _:
            return (
                f"The ledger of {name} cannot be relied on: stored data is damaged or was "
                f"changed ({counts} could be read)."
            )
