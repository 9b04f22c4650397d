"""Were training arguments changed only as the study's proposer may, and always on record?

Whether values lay inside the approved ranges is the manifest's business; here it is about order,
the site's own approval, and that nothing was trained differently without an entry that says so."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import StudyApproved, StudySteered, TrainDone
from ledger.provenance.timeline import Logged, Timeline

_ASK_PROPOSER = (
    "Keep the home as it is, ask the study's proposer for the entry of its log that is named, and "
    "compare the values with the approved manifest."
)
UNAPPROVED = Rule("steering.unapproved", _ASK_PROPOSER)
ORDER = Rule("steering.order", _ASK_PROPOSER)
UNRECORDED = Rule(
    "steering.unrecorded",
    "Find out in the node's log who changed the arguments of the training, and compare them with "
    "the approved manifest; a node of this project records every change before it trains.",
)


def _find_steering(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    newest: dict[bytes, int] = {}
    for steered in timeline.of(StudySteered):
        study, from_seq = steered.record.study, steered.record.from_seq
        if from_seq < 0:
            continue  # the proposer's own word, which is no use of it yet
        name = context.study_name(study)
        decision = timeline.decision_before(study, steered.seq)
        if decision is None or not isinstance(decision.record, StudyApproved):
            yield UNAPPROVED.broken(
                steered.seq, f"{name} was steered here while this site did not approve it."
            )
        if from_seq <= newest.get(study, -1):
            yield ORDER.broken(
                steered.seq,
                f"{name} was steered by entry {from_seq} of the proposer's log after its entry "
                f"{newest[study]} had been followed.",
            )
        newest[study] = max(from_seq, newest.get(study, -1))
    yield from _find_unrecorded(timeline, context)


def _find_unrecorded(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """Two trainings under the same steering have the same arguments."""
    last: dict[bytes, tuple[int, Logged[TrainDone]]] = {}
    for trained in timeline.of(TrainDone):
        study, in_force = trained.record.study, _in_force(timeline, trained)
        before = last.get(study)
        last[study] = (in_force, trained)
        if before is None or before[0] != in_force or before[1].record.hp == trained.record.hp:
            continue
        yield UNRECORDED.broken(
            trained.seq,
            f"Round {trained.record.round} of {context.study_name(study)} was trained with other "
            f"arguments than round {before[1].record.round}, and no steering is on record.",
        )


def _in_force(timeline: Timeline, trained: Logged[TrainDone]) -> int:
    """The entry that steered a training, −1 without one."""
    return max(
        (
            steered.seq
            for steered in timeline.of(StudySteered)
            if steered.record.study == trained.record.study
            and steered.seq < trained.seq
            and steered.record.round <= trained.record.round
        ),
        default=-1,
    )


CHECKS = (
    Check(
        "steering",
        "Training arguments changed only by steering on record",
        look_with("trainings", lambda timeline: len(timeline.of(TrainDone)), _find_steering),
    ),
)
