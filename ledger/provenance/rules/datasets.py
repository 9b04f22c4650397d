"""Was only data used that is registered, not revoked, unchanged, and the approved one?"""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import DatasetRevoked, PrivacySpent, StudyApproved, TrainDone
from ledger.provenance.timeline import Timeline

UNKNOWN = Rule(
    "dataset.unknown",
    "Find out which data was used; without a registration it has no legal basis and no budget.",
)
REVOKED = Rule(
    "dataset.revoked",
    "Stop the study here and tell the data-protection officer: this data was withdrawn.",
)
OTHER = Rule(
    "dataset.other",
    "Tell the data owner: the approval was for another dataset than the one trained on.",
)
CHANGED = Rule(
    "dataset.changed",
    "Register the changed data as a dataset of its own, so that its spending is counted.",
)


def _find_wrong_data(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for approved in timeline.of(StudyApproved):
        act = f"{context.study_name(approved.record.study)} was approved for"
        yield from _judge(timeline, context, approved.seq, approved.record.ds, act)
    for spent in timeline.of(PrivacySpent):
        act = f"A statistic ({spent.record.purpose}) was computed from"
        yield from _judge(timeline, context, spent.seq, spent.record.ds, act)
    for trained in timeline.of(TrainDone):
        record = trained.record
        act = f"Round {record.round} of {context.study_name(record.study)} was trained on"
        yield from _judge(timeline, context, trained.seq, record.ds, act)
        approval = timeline.approval_before(record.study, trained.seq)
        if approval is not None and approval.record.ds != record.ds:
            wanted = context.dataset_name(approval.record.ds)
            yield OTHER.broken(
                trained.seq, f"{act} {context.dataset_name(record.ds)}; approved is {wanted}."
            )
        registered = timeline.registration_before(record.ds, trained.seq)
        if registered is not None and registered.record.fp_commit != record.fp_commit:
            yield CHANGED.broken(
                trained.seq,
                f"{act} {context.dataset_name(record.ds)}, whose content is not the one "
                f"registered in entry {registered.seq}.",
            )


def _judge(
    timeline: Timeline, context: AuditContext, seq: int, ds: bytes, act: str
) -> Iterator[AuditFinding]:
    standing = timeline.standing_before(ds, seq)
    name = context.dataset_name(ds)
    if standing is None:
        yield UNKNOWN.broken(seq, f"{act} {name}, which was never registered.")
    elif isinstance(standing.record, DatasetRevoked):
        yield REVOKED.broken(seq, f"{act} {name}, revoked in entry {standing.seq}.")


def _uses(timeline: Timeline) -> int:
    return sum(len(timeline.of(kind)) for kind in (StudyApproved, PrivacySpent, TrainDone))


CHECKS = (
    Check(
        "datasets",
        "Only registered, approved, unchanged data was used",
        look_with("uses", _uses, _find_wrong_data),
    ),
)
