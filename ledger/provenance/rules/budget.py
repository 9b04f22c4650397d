"""Was the ε declared at least what the events cost, and never more than the cap?

Declared may exceed recomputed (a table includes what other studies have reserved), never the
reverse. A training counts as soon as it happened, released or not."""

from collections.abc import Iterator

from ledger.log import ExitCode
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import StudyApproved, TrainDone
from ledger.provenance.spending import DatasetSpending, spendings, spent_on
from ledger.provenance.timeline import Logged, Timeline

_TELL_OFFICER = (
    "Stop all studies on this dataset and tell the data-protection officer: the privacy loss is "
    "higher than what was approved or declared."
)
UNDERSTATED = Rule("budget.understated", _TELL_OFFICER)
OVER_CAP = Rule("budget.over_cap", _TELL_OFFICER)
FALLING = Rule("budget.falling", _TELL_OFFICER)
BELOW_TABLE = Rule("budget.below_table", _TELL_OFFICER)
TOO_MANY_ROUNDS = Rule("budget.too_many_rounds", _TELL_OFFICER)
APPROVED_OVER_CAP = Rule(
    "budget.approved_over_cap",
    "Revoke this approval: its plan does not fit into what the dataset has left.",
)
NOT_RECOMPUTED = Rule(
    "budget.not_recomputed",
    "Audit again where the accountant of these terms is installed.",
    ExitCode.EVIDENCE_INCOMPLETE,
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    budgets = spendings(timeline, context, tools.epsilon_of)
    findings = [
        *_find_understated(context, budgets),
        *_find_over_cap(timeline, context),
        *_find_off_table(timeline, context),
    ]
    spent = len(spent_on(timeline))
    places = sum(len(budget.recomputed) for budget in budgets)
    notes = [f"ε was recomputed from the whole history at {places} of {spent} places."]
    for budget in budgets:
        if budget.unprotected:
            notes.append(
                f"{context.dataset_name(budget.ds)}: {budget.unprotected} trainings ran WITHOUT "
                "privacy protection; no ε can describe them."
            )
    findings.sort(key=lambda found: found.seq or 0)
    return Looked(
        spent, "trainings and statistics", tuple(findings), tuple(notes), missing=spent - places
    )


def _find_understated(
    context: AuditContext, budgets: tuple[DatasetSpending, ...]
) -> Iterator[AuditFinding]:
    for budget in budgets:
        name = context.dataset_name(budget.ds)
        for place in budget.recomputed:
            if place.epsilon is None:
                yield NOT_RECOMPUTED.broken(
                    place.seq, f"ε of {name} could not be recomputed: {place.problem}."
                )
            elif place.understated:
                yield UNDERSTATED.broken(
                    place.seq,
                    f"{name}: declared ε {place.declared_u / MICRO:.6f} is below the "
                    f"{place.epsilon:.6f} that its history comes to at δ {budget.delta}.",
                )


def _find_over_cap(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for spent in spent_on(timeline):
        registered = timeline.registration_before(spent.record.ds, spent.seq)
        if registered and spent.record.eps_total_u > registered.record.cap_u:
            yield OVER_CAP.broken(
                spent.seq,
                f"{context.dataset_name(spent.record.ds)}: ε "
                f"{spent.record.eps_total_u / MICRO:.6f} exceeds the cap of "
                f"{registered.record.cap_u / MICRO:.6f}.",
            )
    for approved in timeline.of(StudyApproved):
        registered = timeline.registration_before(approved.record.ds, approved.seq)
        if registered and approved.record.eps_table_u[-1] > registered.record.cap_u:
            yield APPROVED_OVER_CAP.broken(
                approved.seq,
                f"{context.study_name(approved.record.study)} was approved up to ε "
                f"{approved.record.eps_table_u[-1] / MICRO:.6f}, over the cap of "
                f"{registered.record.cap_u / MICRO:.6f}.",
            )


def _find_off_table(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """Each training declares at least what its approval's table says for that many rounds."""
    under: dict[int, list[Logged[TrainDone]]] = {}
    for trained in timeline.of(TrainDone):
        approval = timeline.approval_before(trained.record.study, trained.seq)
        if approval is None:
            continue  # the missing approval is its own finding
        before = under.setdefault(approval.seq, [])
        yield from _judge_step(context, trained, before, approval)
        before.append(trained)


def _judge_step(
    context: AuditContext,
    trained: Logged[TrainDone],
    before: list[Logged[TrainDone]],
    approval: Logged[StudyApproved],
) -> Iterator[AuditFinding]:
    record, table = trained.record, approval.record.eps_table_u
    count = len(before) + 1
    what = f"Round {record.round} of {context.study_name(record.study)}"
    if count >= len(table):
        yield TOO_MANY_ROUNDS.broken(
            trained.seq,
            f"{what} is training number {count}; entry {approval.seq} approved {len(table) - 1}.",
        )
    elif record.eps_total_u < table[count] or record.eps_u < _alone(approval.record)[count]:
        yield BELOW_TABLE.broken(
            trained.seq,
            f"{what} declares ε {record.eps_u / MICRO:.6f} for the study and "
            f"{record.eps_total_u / MICRO:.6f} in all; the approved tables say "
            f"{_alone(approval.record)[count] / MICRO:.6f} and {table[count] / MICRO:.6f}.",
        )
    if before:
        last = before[-1].record
        if record.eps_total_u < last.eps_total_u or record.eps_u < last.eps_u:
            yield FALLING.broken(
                trained.seq, f"{what} declares less ε than round {last.round} before it."
            )


def _alone(approved: StudyApproved) -> tuple[int, ...]:
    """ε of the study alone after each round; the same table where the dataset had no history."""
    return approved.eps_study_u or approved.eps_table_u


CHECKS = (Check("budget", "ε is declared in full and stays below each dataset's cap", _look),)
