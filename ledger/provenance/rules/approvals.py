"""Was there a data owner's live approval behind every training and every release?

What counts is the order of the entries, not the clock; the clock decides on expiry alone."""

from collections.abc import Iterator
from typing import assert_never

from ledger.provenance.fields import decimal_of
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import (
    AggDone,
    DpTerms,
    StudyApproved,
    StudyClosed,
    StudyRefused,
    StudyRevoked,
    TrainDone,
    UpdatePublished,
)
from ledger.provenance.timeline import Logged, Timeline

_ASK_OWNER = (
    "Stop the study here (`p2pfl study revoke`), tell the data owner and the data-protection "
    "officer what was trained, and ask the other sites to drop what was published."
)
MISSING = Rule("approval.missing", _ASK_OWNER)
REFUSED = Rule("approval.refused", _ASK_OWNER)
REVOKED = Rule("approval.revoked", _ASK_OWNER)
CLOSED = Rule("approval.closed", _ASK_OWNER)
EXPIRED = Rule("approval.expired", _ASK_OWNER)
ROLE = Rule(
    "approval.role",
    "Have somebody with the right role decide again, and find out who could approve and why.",
)
TERMS = Rule(
    "approval.terms",
    "Compare the training's terms with the approved manifest; the data owner approved other ones.",
)
_COMPARED = ("sigma", "q", "clip", "delta")


def _find_unapproved(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for trained in timeline.of(TrainDone):
        act = f"trained round {trained.record.round} of"
        yield from _judge(timeline, context, trained, trained.record.study, act)
    for published in timeline.of(UpdatePublished):
        act = f"published round {published.record.round} of"
        for found in _judge(timeline, context, published, published.record.study, act):
            # Mixing goes on for a moment after the last training: no patient's data is used.
            if found.code != EXPIRED.code or published.record.train_seq >= 0:
                yield found
    for averaged in timeline.of(AggDone):
        study = averaged.record.study
        if timeline.approval_before(study, averaged.seq) is None:
            name = context.study_name(study)
            yield MISSING.broken(averaged.seq, f"A model of {name} was averaged unapproved.")


def _judge(
    timeline: Timeline, context: AuditContext, logged: Logged[object], study: bytes, act: str
) -> Iterator[AuditFinding]:
    decision = timeline.decision_before(study, logged.seq)
    did = f"This site {act} {context.study_name(study)}"
    if decision is None:
        yield MISSING.broken(logged.seq, f"{did} without any approval before it.")
        return
    match decision.record:
        case StudyRefused():
            yield REFUSED.broken(logged.seq, f"{did} though entry {decision.seq} refused it.")
        case StudyRevoked():
            yield REVOKED.broken(logged.seq, f"{did} after entry {decision.seq} revoked it.")
        case StudyClosed():
            yield CLOSED.broken(logged.seq, f"{did} after entry {decision.seq} closed it.")
        case StudyApproved(expires_us=expires_us):
            if logged.time_us > expires_us:
                yield EXPIRED.broken(
                    logged.seq, f"{did} after the approval of entry {decision.seq} had expired."
                )
        case _:  # pragma: no cover -- the union is closed
            assert_never(decision.record)


def _find_wrong_roles(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    allowed = ", ".join(sorted(context.approver_roles))
    for approved in timeline.of(StudyApproved):
        role = approved.record.role
        if role not in context.approver_roles:
            yield ROLE.broken(
                approved.seq,
                f"{context.study_name(approved.record.study)} was approved in the role "
                f"“{role}”; only {allowed} may.",
            )


def _find_other_terms(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for trained in timeline.of(TrainDone):
        approved = timeline.approval_before(trained.record.study, trained.seq)
        if approved is None:
            continue  # the missing approval is its own finding
        differing = differing_terms(approved.record.dp, trained.record.dp)
        if differing:
            yield TERMS.broken(
                trained.seq,
                f"Round {trained.record.round} of {context.study_name(trained.record.study)} was "
                f"trained on other terms than entry {approved.seq} approved: {differing}.",
            )


def differing_terms(approved: DpTerms, actual: DpTerms) -> str:
    """The privacy terms that differ, "sigma 1.1 instead of 9", or nothing.

    The accountant's name and version are no terms: ε is recomputed anyway."""
    if approved.mech == actual.mech == "none":
        return ""
    pairs: list[tuple[str, object, object]] = [
        (field, getattr(approved, field), getattr(actual, field))
        for field in _COMPARED
        if decimal_of(getattr(approved, field)) != decimal_of(getattr(actual, field))
    ]
    if approved.mech != actual.mech:
        pairs.insert(0, ("mechanism", approved.mech, actual.mech))
    if approved.steps != actual.steps:
        pairs.append(("steps", approved.steps, actual.steps))
    return ", ".join(f"{field} {now} instead of {wanted}" for field, wanted, now in pairs)


def _acts(timeline: Timeline) -> int:
    return sum(len(timeline.of(kind)) for kind in (TrainDone, UpdatePublished, AggDone))


CHECKS = (
    Check(
        "approvals",
        "Nothing was trained or published without a live approval",
        look_with("acts", _acts, _find_unapproved),
    ),
    Check(
        "roles",
        "Every approver had the role for it",
        look_with("approvals", lambda timeline: len(timeline.of(StudyApproved)), _find_wrong_roles),
    ),
    Check(
        "terms",
        "Training kept to the approved privacy terms",
        look_with("trainings", lambda timeline: len(timeline.of(TrainDone)), _find_other_terms),
    ),
)
