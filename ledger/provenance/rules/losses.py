"""Was unknown spending decided before the data was used, and never below what is on record?

After a loss the log says what became of it: `log.recovered` where it was put together again,
`spending.unknown` where nobody can say what was spent. Until the data manager's decision
(`spending.accepted`) a dataset's whole cap counts as spent."""

from collections.abc import Iterator

from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import (
    LogRecovered,
    SpendingAccepted,
    SpendingUnknown,
    StudyApproved,
)
from ledger.provenance.records_site import ANY_DATA
from ledger.provenance.spending import spent_on
from ledger.provenance.timeline import Logged, Timeline

UNDECIDED = Rule(
    "budget.undecided",
    "Revoke the approval, and have the data manager decide what was spent (`p2pfl data "
    "accept-spending`) before the dataset is used again.",
)
BELOW_RECORD = Rule(
    "budget.accepted_below_record",
    "Stop all studies on this dataset: the decision counts less than what is on record.",
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    unknown = timeline.of(SpendingUnknown)
    accepted = timeline.of(SpendingAccepted)
    recovered = timeline.of(LogRecovered)
    findings = [
        *_find_undecided(timeline, context, unknown, accepted),
        *_find_below_record(timeline, context, accepted),
    ]
    notes = [
        f"Entry {logged.seq}: after a loss the log was put together again, {logged.record.kept} "
        f"entries that were still at the site and {logged.record.taken} from other sites' mirrors."
        for logged in recovered
    ]
    for logged in unknown:
        if logged.record.ds == ANY_DATA:
            notes.append(
                f"Entry {logged.seq}: registrations may be among the entries that an earlier log "
                "of this site lost, so data that was registered since counts as spent up to its "
                "cap until the data manager decides."
            )
            continue
        decided = [x for x in accepted if x.record.ds == logged.record.ds and x.seq > logged.seq]
        name = context.dataset_name(logged.record.ds)
        if decided:
            extra = decided[0].record.extra_u / MICRO
            notes.append(
                f"{name}: what was spent before entry {logged.seq} is not known; by the data "
                f"manager's decision (entry {decided[0].seq}) ε {extra:.6f} is counted for it."
            )
        else:
            notes.append(f"{name}: what was spent is not known, so its whole cap counts as spent.")
    count = len(unknown) + len(accepted) + len(recovered)
    return Looked(count, "losses and decisions about them", tuple(findings), tuple(notes))


def _find_undecided(
    timeline: Timeline,
    context: AuditContext,
    unknown: tuple[Logged[SpendingUnknown], ...],
    accepted: tuple[Logged[SpendingAccepted], ...],
) -> Iterator[AuditFinding]:
    for approved in timeline.of(StudyApproved):
        ds = approved.record.ds
        asked = max(
            (x.seq for x in unknown if x.record.ds == ds and x.seq < approved.seq), default=-1
        )
        if asked < 0 or any(x.record.ds == ds and asked < x.seq < approved.seq for x in accepted):
            continue
        yield UNDECIDED.broken(
            approved.seq,
            f"{context.study_name(approved.record.study)} was approved on "
            f"{context.dataset_name(ds)} though nobody had decided what was spent on it.",
        )


def _find_below_record(
    timeline: Timeline,
    context: AuditContext,
    accepted: tuple[Logged[SpendingAccepted], ...],
) -> Iterator[AuditFinding]:
    for decided in accepted:
        ds, record = decided.record.ds, decided.record
        before = [x.record.eps_total_u for x in spent_on(timeline, ds) if x.seq < decided.seq]
        known_u = max(before, default=0)
        if record.eps_total_u < known_u + record.extra_u:
            yield BELOW_RECORD.broken(
                decided.seq,
                f"{context.dataset_name(ds)} was declared to have spent ε "
                f"{record.eps_total_u / MICRO:.6f} in all, with {record.extra_u / MICRO:.6f} off "
                f"the record; on record alone are {known_u / MICRO:.6f}.",
            )


CHECKS = (Check("losses", "What was lost is on record, and counted against budgets", _look),)
