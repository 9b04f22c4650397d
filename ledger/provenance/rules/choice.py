"""Is the released model the one that the site said it keeps?

Scores on the own hold-out are not on record, so nobody can check which round was best. What can be
checked is that the choice is an average on record, made in time, and that it was kept to."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import AggDone, ModelKept, ModelReleased
from ledger.provenance.timeline import Logged, Timeline

_DO_NOT_USE = (
    "Do not use the released model until the cause is found in the node's log; the study's other "
    "sites have models of their own."
)
KEPT_UNKNOWN = Rule("choice.no_average", _DO_NOT_USE)
KEPT_ORDER = Rule("choice.order", _DO_NOT_USE)
RELEASED_OTHER = Rule("choice.other_model", _DO_NOT_USE)


def _find_choices(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    averages: dict[tuple[bytes, int], AggDone] = {}
    newest: dict[bytes, Logged[ModelKept]] = {}
    for logged in timeline.logged:
        match logged.record:
            case AggDone(study=study, round=round_) as average:
                averages[study, round_] = average
            case ModelKept(study=study, round=round_) as kept:
                what = f"The model kept of {context.study_name(study)}, round {round_},"
                average_made = averages.get((study, round_))
                before = newest.get(study)
                if before is not None and round_ <= before.record.round:
                    yield KEPT_ORDER.broken(
                        logged.seq, f"{what} follows that of round {before.record.round}."
                    )
                if average_made is None or _made(average_made) != (kept.hash, kept.inputs):
                    yield KEPT_UNKNOWN.broken(
                        logged.seq, f"{what} is not the average of that round on record."
                    )
                newest[study] = Logged(logged.seq, logged.time_us, logged.actor, kept)
            case ModelReleased(study=study) as released if study in newest:
                yield from _judge_release(context, logged.seq, released, newest[study])
            case _:
                pass  # no other kind chooses a model


def _made(average: AggDone) -> tuple[bytes, int]:
    return average.out_hash, len(average.inputs)


def _judge_release(
    context: AuditContext, seq: int, released: ModelReleased, kept: Logged[ModelKept]
) -> Iterator[AuditFinding]:
    if (released.round, released.hash) != (kept.record.round, kept.record.hash):
        yield RELEASED_OTHER.broken(
            seq,
            f"The released model of {context.study_name(released.study)} is of round "
            f"{released.round}, but entry {kept.seq} keeps that of round {kept.record.round}.",
        )


CHECKS = (
    Check(
        "choices",
        "Kept models are averages on record, and the newest of them was released",
        look_with("choices", lambda timeline: len(timeline.of(ModelKept)), _find_choices),
    ),
)
