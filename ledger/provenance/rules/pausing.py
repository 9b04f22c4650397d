"""Was a study paused or stopped by its proposer alone, and did nothing happen after, or while away?

What a training began before the pause came to its end under the round it belonged to; no later
one may start. That the proposer said so is compared with its log where that is at hand."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import (
    CourseWord,
    StudyApproved,
    StudyAway,
    StudyBack,
    StudyPaused,
    StudyProposed,
    StudyResumed,
    StudyStopped,
    TrainDone,
    UpdatePublished,
)
from ledger.provenance.timeline import Logged, Timeline

_ASK_PROPOSER = (
    "Keep the home as it is, and ask the study's proposer for the entry of its log that is named."
)
_FIND_CAUSE = "Find out in the node's log why: a node of this project waits "
FOREIGN = Rule(
    "pause.foreign",
    "Find out who at this site recorded it: only its proposer pauses, resumes and stops a study.",
)
ORDER = Rule("pause.order", _ASK_PROPOSER)
TRAINED = Rule("pause.trained", f"{_FIND_CAUSE}for the proposer.")
AWAY = Rule("away.acted", f"{_FIND_CAUSE}until people here say that it is back.")

_KINDS: tuple[type[CourseWord], ...] = (StudyPaused, StudyResumed, StudyStopped)


def words_on_pausing(timeline: Timeline) -> list[Logged[CourseWord]]:
    """Every pause, resumption and stop, in the log's order."""
    words = [word for kind in _KINDS for word in timeline.of(kind)]
    return sorted(words, key=lambda word: word.seq)


def _find_wrong_words(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    newest: dict[bytes, int] = {}
    proposers = {x.record.study: x.record.proposer for x in timeline.of(StudyProposed)}
    for word in words_on_pausing(timeline):
        study, from_seq = word.record.study, word.record.from_seq
        name = context.study_name(study)
        if from_seq < 0:
            if proposers.get(study, context.site) != context.site:
                yield FOREIGN.broken(
                    word.seq,
                    f"{name} was paused, resumed or stopped by a site that did not propose it.",
                )
            continue
        if from_seq <= newest.get(study, -1):
            yield ORDER.broken(
                word.seq,
                f"{name} was paused, resumed or stopped by entry {from_seq} of the proposer's log "
                f"after its entry {newest[study]} had been followed.",
            )
        newest[study] = max(from_seq, newest.get(study, -1))


def _find_trained(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """No training of the paused round or a later one stands between a pause and its end, none
    after a stop."""
    paused: dict[bytes, tuple[int, int]] = {}
    stopped: dict[bytes, tuple[int, int]] = {}
    for logged in timeline.logged:
        match logged.record:
            case StudyPaused(study=study, round=round_):
                paused[study] = logged.seq, round_
            case StudyResumed(study=study):
                paused.pop(study, None)
            case StudyStopped(study=study, round=round_):
                stopped.setdefault(study, (logged.seq, round_))
            case TrainDone(study=study, round=round_):
                since, first = stopped.get(study) or paused.get(study) or (0, round_ + 1)
                state = "over" if study in stopped else "paused"
                if round_ >= first:
                    yield TRAINED.broken(
                        logged.seq,
                        f"Round {round_} of {context.study_name(study)} was trained although "
                        f"entry {since} says that it is {state}.",
                    )
            case _:
                pass  # other kinds neither pause nor train


def _count(timeline: Timeline) -> int:
    return len(timeline.of(StudyPaused)) + len(timeline.of(StudyStopped))


def _find_wrong_pauses(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    yield from _find_wrong_words(timeline, context)
    yield from _find_trained(timeline, context)


def _find_acts_while_away(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    away: dict[bytes, int] = {}
    for logged in timeline.logged:
        match logged.record:
            case StudyAway(study=study):
                away[study] = logged.seq
            case StudyBack(study=study) | StudyApproved(study=study):
                away.pop(study, None)
            case TrainDone(study=study) | UpdatePublished(study=study) if study in away:
                act = "trained" if isinstance(logged.record, TrainDone) else "published"
                yield AWAY.broken(
                    logged.seq,
                    f"Round {logged.record.round} of {context.study_name(study)} was {act} "
                    f"although entry {away[study]} says that this site is away.",
                )
            case _:
                pass  # other kinds neither come nor go


CHECKS = (
    Check(
        "pauses",
        "Paused and stopped by the proposer alone, nothing trained in between",
        look_with("pauses or stops", _count, _find_wrong_pauses),
    ),
    Check(
        "away",
        "Nothing was trained or published while this site was away",
        look_with("times away", lambda t: len(t.of(StudyAway)), _find_acts_while_away),
    ),
)
