"""Were the released models that studies build on really released, and used as recorded?

A study may go on from a released model, try it on patients, or scale columns by released
statistics. Whether it uses the very file is in the manifest; here it is about where that file comes
from."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import AggDone, ModelAdopted, ModelReleased, StudyApproved, TrainDone
from ledger.provenance.timeline import Logged, Timeline

_ASK = (
    "Ask the site that is named for the entry, and do not use what the study made of the model "
    "before it is clear where the model comes from."
)
UNRELEASED = Rule("adoption.unreleased", _ASK)
DENIED = Rule("adoption.denied", _ASK)
UNAPPROVED = Rule(
    "adoption.unapproved",
    "Keep the home as it is and find the cause in the node's log: a node of this project records "
    "an adoption together with the approval it belongs to.",
)
OTHER_START = Rule(
    "adoption.other_start",
    "Compare the study's manifest with the entry: its first round was trained from another model "
    "than the one it says it goes on from.",
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    adoptions = timeline.of(ModelAdopted)
    findings: list[AuditFinding] = []
    unseen = 0
    for adopted in adoptions:
        findings += _judge_order(timeline, context, adopted)
        findings += _judge_start(timeline, context, adopted)
        where = _log_of(timeline, context, adopted.record.of_site)
        if where is None or (where is not timeline and adopted.record.of_seq not in where.times):
            unseen += 1
            continue
        findings += _judge_origin(where, timeline, context, adopted)
    notes = (f"{unseen} adopted models: the log they come from is not at hand.",) if unseen else ()
    return Looked(len(adoptions), "adopted models", tuple(findings), notes)


def _log_of(timeline: Timeline, context: AuditContext, site: bytes) -> Timeline | None:
    if site == context.site:
        return timeline
    log = context.peers.log_of(site) if context.peers is not None else None
    return None if log is None else log.timeline


def _judge_origin(
    where: Timeline, own: Timeline, context: AuditContext, adopted: Logged[ModelAdopted]
) -> Iterator[AuditFinding]:
    record = adopted.record
    released = where.at(record.of_seq, ModelReleased)
    is_released = released is not None and (
        (released.record.study, released.record.hash) == (record.of_study, record.hash)
    )
    if is_released and (where is not own or record.of_seq < adopted.seq):
        return
    rule = UNRELEASED if where is own else DENIED
    yield rule.broken(
        adopted.seq,
        f"{context.study_name(record.study)} builds on model {record.hash.hex()[:16]}… as released "
        f"by entry {record.of_seq} of {context.site_name(record.of_site)}, which released no such "
        "model before.",
    )


def _judge_order(
    timeline: Timeline, context: AuditContext, adopted: Logged[ModelAdopted]
) -> Iterator[AuditFinding]:
    decision = timeline.decision_before(adopted.record.study, adopted.seq)
    if decision is None or not isinstance(decision.record, StudyApproved):
        yield UNAPPROVED.broken(
            adopted.seq,
            f"{context.study_name(adopted.record.study)} adopted a model while this site did not "
            "approve it.",
        )


def _judge_start(
    timeline: Timeline, context: AuditContext, adopted: Logged[ModelAdopted]
) -> Iterator[AuditFinding]:
    """The first model a study worked with here is the one it goes on from."""
    record = adopted.record
    if record.use != "start":
        return
    for logged in timeline.logged:
        done = logged.record
        if not isinstance(done, TrainDone | AggDone) or done.study != record.study:
            continue
        # Whoever joins late begins with an average, of its neighbours' models.
        if isinstance(done, TrainDone) and done.base_model != record.hash:
            yield OTHER_START.broken(
                logged.seq,
                f"{context.study_name(done.study)} says it goes on from "
                f"{record.hash.hex()[:16]}…, and its first training here began with "
                f"{done.base_model.hex()[:16]}….",
            )
        return


CHECKS = (Check("adoption", "Models that studies build on were released on record", _look),)
