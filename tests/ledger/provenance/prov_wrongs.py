"""Ways to tell the plain story wrongly, each with what the audit must say."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from prov_stories import DAY_US, ME, MICRO, PEERS, START_US, Story, digest
from prov_teller import NO_PRIVACY, TERMS

from ledger.log import ExitCode
from ledger.provenance.kinds import (
    AggDone,
    CardRenewed,
    CodeApproved,
    DatasetRegistered,
    DatasetRevoked,
    ForkFound,
    InputRef,
    KeyCompromised,
    KeyRotated,
    ModelAdopted,
    ModelReleased,
    PrivacySpent,
    RosterAccepted,
    RosterChanged,
    RosterClosed,
    RosterProposed,
    RosterSigned,
    SpendingAccepted,
    SpendingUnknown,
    StudyApproved,
    StudyClosed,
    StudyRefused,
    StudyRevoked,
    StudySteered,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)

STUDY, DS = digest("study", 1), digest("dataset", 1)
NOBODY = digest("nobody")
MINUTE_US = 60 * MICRO


@dataclass(frozen=True, slots=True)
class Wrong:
    """A way to tell the plain story wrongly, and what the audit must say."""

    code: str
    tell: Callable[[Story], Story]
    exit_code: ExitCode = ExitCode.RULE_VIOLATED


def before_round_1(record: Any) -> Callable[[Story], Story]:
    return lambda story: story.insert(story.place(TrainDone, 1), record)


def steered(from_seq: int, round_: int = 1) -> StudySteered:
    changes = {"learning_rate": "0.25"}
    return StudySteered(STUDY, round_, digest("steering", from_seq), changes, from_seq)


def adopted(use: str, site: bytes, seq: int) -> ModelAdopted:
    return ModelAdopted(STUDY, use, NOBODY, digest("study", 7), site, seq)


def coded(text: str = "code", kept_by: str = "node") -> CodeApproved:
    """What stands beside an approval; trainings of the plain story ran digest("code")."""
    return CodeApproved(STUDY, digest(text), kept_by, "C", {"torch": "2.13.0"})


def _input(story: Story, nth: int = 0, **changes: Any) -> Story:
    """One average with its first input told differently."""
    inputs = story.record(AggDone, nth).inputs
    return story.change(AggDone, nth, inputs=(replace(inputs[0], **changes), *inputs[1:]))


def stood_in(story: Story, *, weight_u: int, staleness: str = "1") -> Story:
    """In round 1 the first neighbour's update of round 0 stands in for the one that never came."""
    old, new = story.record(AggDone, 0), story.record(AggDone, 1)
    first = replace(old.inputs[0], weight_u=weight_u)
    others = tuple(replace(other, weight_u=1) for other in new.inputs[1:])
    nth = next(
        nth
        for nth in range(2, 8)
        if (received := story.record(UpdateReceived, nth)).round == 1
        and received.sender == first.site
    )
    params = {**new.rule_params, "staleness": staleness}
    story = story.leave_out(UpdateReceived, nth)
    return story.change(AggDone, 1, inputs=(first, *others), rule_params=params)


def _again(story: Story, kind: Any, nth: int = 0) -> Story:
    """One record told a second time, right after."""
    return story.insert(story.place(kind, nth) + 1, story.record(kind, nth))


def _swap(story: Story, kind: Any) -> Story:
    """Rounds 1 and 2 of a kind trade their numbers."""
    return story.change(kind, 1, round=2).change(kind, 2, round=1)


WRONG: dict[str, Wrong] = {
    # -- approvals (26, 28) -----------------------------------------------------------------
    "trained without an approval": Wrong("approval.missing", lambda s: s.leave_out(StudyApproved)),
    "trained after a refusal": Wrong("approval.refused", before_round_1(StudyRefused(STUDY, "no"))),
    "trained after the revocation": Wrong(
        "approval.revoked", before_round_1(StudyRevoked(STUDY, "owner-withdrew"))
    ),
    "trained after the study was closed": Wrong(
        "approval.closed", before_round_1(StudyClosed(STUDY, "complete", 1))
    ),
    "trained after the approval expired": Wrong(
        "approval.expired", lambda s: s.delay(TrainDone, 1, 100 * DAY_US)
    ),
    "approved by a nurse": Wrong("approval.role", lambda s: s.change(StudyApproved, role="nurse")),
    "trained with less noise than approved": Wrong(
        "approval.terms", lambda s: s.change(TrainDone, 1, dp=replace(TERMS, sigma="1.1"))
    ),
    "trained with more steps than approved": Wrong(
        "approval.terms", lambda s: s.change(TrainDone, 1, dp=replace(TERMS, steps=2))
    ),
    "trained without any noise": Wrong(
        "approval.terms", lambda s: s.change(TrainDone, 1, dp=NO_PRIVACY)
    ),
    # -- researchers' code ------------------------------------------------------------------
    "ran other code than what was approved": Wrong(
        "code.other_text",
        lambda s: s.insert(s.place(StudyApproved) + 1, coded("one byte less")),
    ),
    "ran approved code without confinement": Wrong(
        "code.unconfined",
        lambda s: s.insert(s.place(StudyApproved) + 1, coded()).change(TrainDone, 1, level="D"),
    ),
    "approved code after it had run": Wrong(
        "code.unread", lambda s: s.insert(s.place(TrainDone) + 1, coded())
    ),
    "approved code before anybody approved the study": Wrong(
        "code.unapproved", lambda s: s.insert(s.place(StudyApproved), coded())
    ),
    # -- models of other studies ------------------------------------------------------------
    "scales columns by statistics that this site never released": Wrong(
        "adoption.unreleased",
        lambda s: s.insert(s.place(StudyApproved) + 1, adopted("standardise", ME, 2)),
    ),
    "adopted a model before anybody approved": Wrong(
        "adoption.unapproved",
        lambda s: s.insert(s.place(StudyApproved), adopted("standardise", PEERS[0], 2)),
    ),
    "says it goes on from one model and goes on from another": Wrong(
        "adoption.other_start",
        lambda s: s.insert(s.place(StudyApproved) + 1, adopted("start", PEERS[0], 2)),
    ),
    # -- steering ---------------------------------------------------------------------------
    "steered before anybody approved": Wrong(
        "steering.unapproved", lambda s: s.insert(s.place(StudyApproved), steered(5))
    ),
    "steered after the study was closed": Wrong("steering.unapproved", lambda s: s.add(steered(5))),
    "followed an older steering after a newer one": Wrong(
        "steering.order",
        lambda s: before_round_1(steered(5))(before_round_1(steered(9))(s)).insert(
            s.place(TrainDone, 2) + 2, steered(8)
        ),
    ),
    "trained with other arguments unsteered": Wrong(
        "steering.unrecorded", lambda s: s.change(TrainDone, 1, hp=NOBODY)
    ),
    "trained with other arguments before the steering's round": Wrong(
        "steering.unrecorded",
        lambda s: before_round_1(steered(5, 2))(s).change(TrainDone, 1, hp=NOBODY),
    ),
    # -- losses -----------------------------------------------------------------------------
    "approved while nobody knew what was spent": Wrong(
        "budget.undecided",
        lambda s: s.insert(s.place(StudyApproved), SpendingUnknown(DS, NOBODY, 7)),
    ),
    "accepted less than what is on record": Wrong(
        "budget.accepted_below_record",
        lambda s: s.add(SpendingUnknown(DS, NOBODY, 7)).add(SpendingAccepted(DS, 5, 5, "note")),
    ),
    # -- datasets (27) ----------------------------------------------------------------------
    "trained on revoked data": Wrong(
        "dataset.revoked", before_round_1(DatasetRevoked(DS, "owner-withdrew"))
    ),
    "trained on data nobody registered": Wrong(
        "dataset.unknown", lambda s: s.leave_out(DatasetRegistered)
    ),
    "trained on other data than approved": Wrong(
        "dataset.other", lambda s: s.change(TrainDone, 1, ds=NOBODY)
    ),
    "trained on changed data": Wrong(
        "dataset.changed", lambda s: s.change(TrainDone, 1, fp_commit=NOBODY)
    ),
    "computed statistics of data nobody registered": Wrong(
        "dataset.unknown", lambda s: s.add(PrivacySpent(STUDY, NOBODY, "mean", TERMS, MICRO))
    ),
    # -- training and publication -----------------------------------------------------------
    "trained a round twice": Wrong("training.repeated", lambda s: _again(s, TrainDone, 1)),
    "trained rounds out of order": Wrong("training.order", lambda s: _swap(s, TrainDone)),
    "trained from an unrecorded model": Wrong(
        "training.base", lambda s: s.change(TrainDone, 1, base_model=NOBODY)
    ),
    "published what no training made": Wrong(
        "publication.untrained", lambda s: s.leave_out(TrainDone, 1)
    ),
    "published before training": Wrong(
        "publication.untrained",
        lambda s: s.change(UpdatePublished, 0, train_seq=s.seq(TrainDone, 1)),
    ),
    "published another round's training": Wrong(
        "publication.untrained",
        lambda s: s.change(UpdatePublished, 1, train_seq=s.seq(TrainDone, 0)),
    ),
    "published another model than was trained": Wrong(
        "publication.other_model", lambda s: s.change(UpdatePublished, 1, hash=NOBODY)
    ),
    "published an unpaid model as a mere average": Wrong(
        "publication.unrecorded", lambda s: s.change(UpdatePublished, 3, hash=NOBODY)
    ),
    "published a round twice": Wrong(
        "publication.repeated", lambda s: _again(s, UpdatePublished, 1)
    ),
    "published rounds out of order": Wrong(
        "publication.order", lambda s: _swap(s, UpdatePublished)
    ),
    "released a model of unknown origin": Wrong(
        "release.unrecorded", lambda s: s.change(ModelReleased, hash=NOBODY)
    ),
    # -- received updates -------------------------------------------------------------------
    "accepted an update twice": Wrong("receipt.repeated", lambda s: _again(s, UpdateReceived, 0)),
    "accepted a second, other update": Wrong(
        "receipt.repeated",
        lambda s: s.insert(
            s.place(UpdateReceived) + 1, replace(s.record(UpdateReceived), from_leaf=NOBODY)
        ),
    ),
    "accepted a replayed publication": Wrong(
        "receipt.replayed",
        lambda s: s.change(UpdateReceived, 3, from_leaf=s.record(UpdateReceived, 0).from_leaf),
    ),
    "accepted an update of its own": Wrong(
        "receipt.own", lambda s: s.change(UpdateReceived, 0, sender=ME)
    ),
    "accepted an update of a stranger": Wrong(
        "receipt.stranger", lambda s: s.change(UpdateReceived, 0, sender=NOBODY)
    ),
    # -- averaging (20, 21) -----------------------------------------------------------------
    "averaged an input never received": Wrong(
        "average.never_received", lambda s: s.leave_out(UpdateReceived, 0)
    ),
    "averaged a rejected input": Wrong(
        "average.refused_input",
        lambda s: s.change(UpdateReceived, 0, verdict="rejected", reason="not-finite"),
    ),
    "averaged a late input": Wrong(
        "average.refused_input", lambda s: s.change(UpdateReceived, 0, verdict="late")
    ),
    "averaged another model than was accepted": Wrong(
        "average.other_input", lambda s: _input(s, hash=NOBODY)
    ),
    "averaged another publication than was accepted": Wrong(
        "average.other_input", lambda s: _input(s, seq=999)
    ),
    "averaged one neighbour twice": Wrong(
        "average.repeated_input",
        lambda s: s.change(
            AggDone, inputs=s.record(AggDone).inputs[:1] * 2, verdicts=("kept", "kept")
        ),
    ),
    "left an accepted update out": Wrong(
        "average.left_out",
        lambda s: s.change(AggDone, inputs=s.record(AggDone).inputs[:1], verdicts=("kept",)),
    ),
    "accepted an update after its average": Wrong(
        "average.left_out",
        lambda s: s.insert(
            s.place(AggDone) + 1,
            replace(s.record(UpdateReceived), sender=PEERS[3], from_seq=1, from_leaf=NOBODY),
        ),
    ),
    "gave neighbours more than all the weight": Wrong(
        "average.too_heavy", lambda s: _input(s, weight_u=MICRO)
    ),
    "gave an old update the weight of a new one": Wrong(
        "average.too_heavy", lambda s: stood_in(s, weight_u=MICRO // 2 + 1)
    ),
    "averaged an update older than the study allows": Wrong(
        "average.never_received", lambda s: stood_in(s, weight_u=1, staleness="0")
    ),
    "averaged around another own model": Wrong(
        "average.own_input",
        lambda s: s.change(AggDone, own=replace(s.record(AggDone).own, hash=NOBODY)),
    ),
    "pretended a catch-up in a round it published": Wrong(
        "average.own_input", lambda s: s.change(AggDone, own=InputRef(-1, NOBODY))
    ),
    "averaged a round twice": Wrong("average.repeated", lambda s: _again(s, AggDone, 1)),
    "averaged rounds out of order": Wrong("average.order", lambda s: _swap(s, AggDone)),
    # -- budgets (24, 25) -------------------------------------------------------------------
    "spent more than the cap": Wrong(
        "budget.over_cap", lambda s: s.change(DatasetRegistered, cap_u=MICRO // 2)
    ),
    "approved more than the cap": Wrong(
        "budget.approved_over_cap", lambda s: s.change(DatasetRegistered, cap_u=MICRO // 2)
    ),
    "declared less than the approved table": Wrong(
        "budget.below_table", lambda s: s.change(TrainDone, 1, eps_total_u=1)
    ),
    "declared less for the study than approved": Wrong(
        "budget.below_table", lambda s: s.change(TrainDone, 1, eps_u=1)
    ),
    "declared a falling total": Wrong(
        "budget.falling", lambda s: s.change(TrainDone, 0, eps_total_u=9 * MICRO)
    ),
    "declared a falling study": Wrong(
        "budget.falling", lambda s: s.change(TrainDone, 0, eps_u=9 * MICRO)
    ),
    "trained more rounds than approved": Wrong(
        "budget.too_many_rounds",
        lambda s: s.change(StudyApproved, eps_table_u=s.record(StudyApproved).eps_table_u[:3]),
    ),
    "declared less ε than the noise costs": Wrong("budget.understated", lambda s: _understated(s)),
    # -- keys and clock ---------------------------------------------------------------------
    "replaced a key that was not in force": Wrong(
        "key.rotation_order",
        lambda s: s.add(KeyRotated("transport", DS, NOBODY)).add(
            KeyRotated("transport", STUDY, digest("third"))
        ),
    ),
    "took a replaced key back": Wrong(
        "key.reused",
        lambda s: s.add(KeyRotated("transport", DS, NOBODY)).add(
            KeyRotated("transport", NOBODY, DS)
        ),
    ),
    "went on under a disowned log key": Wrong(
        "key.still_used", before_round_1(KeyCompromised("log", DS, START_US + 900 * DAY_US))
    ),
    # -- members ----------------------------------------------------------------------------
    "signed two rosters in one vote": Wrong(
        "roster.signed_twice",
        lambda s: s.add(RosterSigned(2, 1, NOBODY)).add(RosterSigned(2, 1, STUDY)),
    ),
    "signed in a vote that it had closed": Wrong(
        "roster.after_close", lambda s: s.add(RosterClosed(2, 1)).add(RosterSigned(2, 1, STUDY))
    ),
    "accepted two rosters in one vote": Wrong(
        "roster.signed_twice",
        lambda s: (
            s.add(RosterProposed(2, STUDY, NOBODY))
            .add(RosterAccepted(2, 1, STUDY, 4, (ME, *PEERS[:2])))
            .add(RosterAccepted(2, 1, NOBODY, 4, (ME, *PEERS[:2])))
        ),
    ),
    "accepted a roster in a vote that it had closed": Wrong(
        "roster.after_close",
        lambda s: s.add(RosterClosed(2, 1)).add(RosterAccepted(2, 1, STUDY, 4, (ME, *PEERS[:2]))),
    ),
    "accepted a roster that too few had signed": Wrong(
        "roster.accepted_without_quorum",
        lambda s: s.add(RosterAccepted(2, 1, STUDY, 4, (ME, PEERS[0]))),
    ),
    "closed a vote and did not tell what it had accepted": Wrong(
        "roster.lock_forgotten",
        lambda s: s.add(RosterAccepted(2, 1, STUDY, 4, (ME, *PEERS[:2]))).add(RosterClosed(2, 1)),
    ),
    "skipped a version of the roster": Wrong(
        "roster.version_order",
        lambda s: s.add(RosterChanged(1, NOBODY, 4)).add(RosterChanged(3, STUDY, 4, DS)),
    ),
    "went back to an older card": Wrong(
        "roster.card_order",
        lambda s: s.add(CardRenewed(NOBODY, 2, DS)).add(CardRenewed(NOBODY, 1, STUDY)),
    ),
    "dated an entry before its predecessor": Wrong(
        "clock.backwards", lambda s: s.delay(TrainDone, 1, -10 * MINUTE_US)
    ),
    "dated entries after the audit": Wrong(
        "clock.ahead", lambda s: s.delay(ModelReleased, 0, 900 * DAY_US)
    ),
    # -- others' logs -----------------------------------------------------------------------
    "knows of a fork": Wrong(
        "fork.recorded", lambda s: s.add(ForkFound(NOBODY, "K1", NOBODY)), ExitCode.FORK_PROVEN
    ),
}


def _understated(story: Story) -> Story:
    """Table and trainings agree with each other, and both lie."""
    approval = story.record(StudyApproved)
    story = story.change(
        StudyApproved, eps_table_u=tuple(value // 2 for value in approval.eps_table_u)
    )
    for nth in range(3):
        half = story.record(TrainDone, nth).eps_total_u // 2
        story = story.change(TrainDone, nth, eps_u=half, eps_total_u=half)
    return story
