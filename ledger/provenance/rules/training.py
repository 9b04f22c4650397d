"""Do trainings and releases follow from each other, round by round?

What leaves this site is what was trained and paid for, or an average that is on record."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ledger.provenance.findings import (
    AuditContext,
    AuditFinding,
    Check,
    Looked,
    Rule,
    Tools,
    look_with,
)
from ledger.provenance.kinds import AggDone, ModelReleased, TrainDone, UpdatePublished
from ledger.provenance.timeline import Logged, Timeline

_FIND_CAUSE = (
    "Keep the home as it is and find the cause in the node's log: a node of this project does not "
    "write such a history."
)
_WITHDRAW = (
    "Find out where the model came from. If it was trained on patients, its privacy was not paid "
    "for: tell the data-protection officer and ask the receivers to drop it."
)
REPEATED = Rule("training.repeated", _FIND_CAUSE)
ORDER = Rule("training.order", _FIND_CAUSE)
BASE = Rule("training.base", _FIND_CAUSE)
PUBLISHED_UNTRAINED = Rule("publication.untrained", _WITHDRAW)
PUBLISHED_OTHER = Rule("publication.other_model", _WITHDRAW)
PUBLISHED_UNRECORDED = Rule("publication.unrecorded", _WITHDRAW)
PUBLISHED_TWICE = Rule("publication.repeated", _FIND_CAUSE)
PUBLISHED_ORDER = Rule("publication.order", _FIND_CAUSE)
RELEASED_UNRECORDED = Rule("release.unrecorded", _WITHDRAW)


def _find_training(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    last: dict[bytes, int] = {}
    seen: dict[tuple[bytes, int], int] = {}
    for trained in timeline.of(TrainDone):
        study, round_ = trained.record.study, trained.record.round
        did = f"Round {round_} of {context.study_name(study)} was trained"
        if (study, round_) in seen:
            first = seen[study, round_]
            yield REPEATED.broken(trained.seq, f"{did} again; entry {first} is the first time.")
        elif round_ < last.get(study, -1):
            yield ORDER.broken(trained.seq, f"{did} after round {last[study]}.")
        seen.setdefault((study, round_), trained.seq)
        last[study] = max(round_, last.get(study, -1))
    yield from _find_other_bases(timeline, context)


def _find_other_bases(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """Training starts from an average on record, or from where the study began.

    Not always from the newest average: a node that lost a file goes back to an earlier one."""
    known: dict[bytes, set[bytes]] = {}
    for logged in timeline.logged:
        match logged.record:
            case AggDone(study=study, own=own, out_hash=out):
                models = known.setdefault(study, {own.hash} if own.seq == -1 else set())
                models.add(out)
            case TrainDone(study=study, base_model=base, round=round_):
                if base not in known.setdefault(study, {base}):
                    yield BASE.broken(
                        logged.seq,
                        f"Round {round_} of {context.study_name(study)} was trained from a model "
                        "that no average on record made.",
                    )
            case _:
                pass  # other kinds are no models to train from


def _find_publications(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    last: dict[bytes, int] = {}
    seen: dict[tuple[bytes, int], int] = {}
    for published in timeline.of(UpdatePublished):
        study, round_ = published.record.study, published.record.round
        did = f"The update of round {round_} of {context.study_name(study)} was published"
        if (study, round_) in seen:
            first = seen[study, round_]
            yield PUBLISHED_TWICE.broken(
                published.seq, f"{did} again; entry {first} is the first time."
            )
        elif round_ < last.get(study, -1):
            yield PUBLISHED_ORDER.broken(published.seq, f"{did} after that of {last[study]}.")
        seen.setdefault((study, round_), published.seq)
        last[study] = max(round_, last.get(study, -1))
    yield from _find_unpaid(timeline, context)


def _find_unpaid(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """Every model that leaves must be a training of its round, or known from an earlier entry."""
    known: set[tuple[bytes, bytes]] = set()
    for logged in timeline.logged:
        match logged.record:
            case TrainDone(study=study, base_model=base, out_hash=out):
                known |= {(study, base), (study, out)}
            case AggDone(study=study, own=own, out_hash=out):
                known.add((study, out))
                if own.seq == -1:
                    known.add((study, own.hash))  # what the site held when it caught up
            case UpdatePublished() as published if published.train_seq >= 0:
                yield from _judge_trained(timeline, context, logged.seq, published)
            case UpdatePublished(study=study, round=round_, hash=model):
                if (study, model) not in known:
                    yield PUBLISHED_UNRECORDED.broken(
                        logged.seq,
                        f"In round {round_} of {context.study_name(study)} a model was published "
                        "as a mere average, but no entry says where it came from.",
                    )
            case ModelReleased(study=study, hash=model):
                if (study, model) not in known:
                    yield RELEASED_UNRECORDED.broken(
                        logged.seq,
                        f"The released model of {context.study_name(study)} comes from no "
                        "training and no average on record.",
                    )
            case _:
                pass  # other kinds neither make nor release models


def _judge_trained(
    timeline: Timeline, context: AuditContext, seq: int, published: UpdatePublished
) -> Iterator[AuditFinding]:
    trained = timeline.at(published.train_seq, TrainDone)
    update = f"The update of round {published.round} of {context.study_name(published.study)}"
    wanted = (published.study, published.round)
    if trained is None or trained.seq > seq:
        yield PUBLISHED_UNTRAINED.broken(
            seq, f"{update} cites entry {published.train_seq}, which is no training before it."
        )
    elif (trained.record.study, trained.record.round) != wanted:
        yield PUBLISHED_UNTRAINED.broken(
            seq, f"{update} cites the training of entry {trained.seq}, which is another round's."
        )
    elif trained.record.out_hash != published.hash:
        yield PUBLISHED_OTHER.broken(
            seq, f"{update} is not the model that entry {trained.seq} says was trained."
        )


def _look_at_trainings(timeline: Timeline, context: AuditContext, _tools: Tools) -> Looked:
    trained = timeline.of(TrainDone)
    return Looked(
        len(trained),
        "trainings",
        tuple(_find_training(timeline, context)),
        (*_boxed_notes(trained, context), *_level_notes(trained, context)),
    )


def _level_notes(trained: Sequence[Logged[TrainDone]], context: AuditContext) -> Iterator[str]:
    """How well the machine confined trainings, as the node recorded it with each."""
    counted: dict[bytes, Counter[str]] = {}
    for logged in trained:
        if logged.record.level:
            counted.setdefault(logged.record.study, Counter())[logged.record.level] += 1
    for study, levels in sorted(counted.items()):
        told = ", ".join(f"{levels[level]} at level {level}" for level in sorted(levels))
        yield f"{context.study_name(study)}: confinement of its trainings: {told}."


def _boxed_notes(trained: Sequence[Logged[TrainDone]], context: AuditContext) -> Iterator[str]:
    """How many steps were made where studies box local work in time: it differs by the machine."""
    made: dict[bytes, list[int]] = {}
    for logged in trained:
        if logged.record.steps:
            made.setdefault(logged.record.study, []).append(logged.record.steps)
    for study, steps in sorted(made.items()):
        yield (
            f"{context.study_name(study)} boxes local work in time: {min(steps)} to {max(steps)} "
            f"steps in {len(steps)} rounds."
        )


def _releases(timeline: Timeline) -> int:
    return len(timeline.of(UpdatePublished)) + len(timeline.of(ModelReleased))


CHECKS = (
    Check(
        "training",
        "Each round was trained once, in order, from an average on record",
        _look_at_trainings,
    ),
    Check(
        "publications",
        "Every released model was trained and paid for",
        look_with("releases", _releases, _find_publications),
    ),
)
