"""For each rule: an honest history passes, and one told wrongly is found by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prov_stories import DAY_US, ME, MICRO, PEERS, START_US, Story, audited, codes, digest, is_clean
from prov_teller import NO_PRIVACY, TERMS, plain_story

from ledger.log import ExitCode
from ledger.provenance import rules
from ledger.provenance.findings import Rule
from ledger.provenance.kinds import (
    AggDone,
    ClockAnomaly,
    DatasetRegistered,
    DatasetRevoked,
    ForkFound,
    InputRef,
    KeyCompromised,
    KeyRotated,
    ModelReleased,
    PrivacySpent,
    RosterChanged,
    StudyApproved,
    StudyClosed,
    StudyProposed,
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


def _before_round_1(record: Any) -> Callable[[Story], Story]:
    return lambda story: story.insert(story.place(TrainDone, 1), record)


def _steered(from_seq: int, round_: int = 1) -> StudySteered:
    changes = {"learning_rate": "0.25"}
    return StudySteered(STUDY, round_, digest("steering", from_seq), changes, from_seq)


def _input(story: Story, nth: int = 0, **changes: Any) -> Story:
    """One average with its first input told differently."""
    inputs = story.record(AggDone, nth).inputs
    return story.change(AggDone, nth, inputs=(replace(inputs[0], **changes), *inputs[1:]))


def _again(story: Story, kind: Any, nth: int = 0) -> Story:
    """One record told a second time, right after."""
    return story.insert(story.place(kind, nth) + 1, story.record(kind, nth))


def _swap(story: Story, kind: Any) -> Story:
    """Rounds 1 and 2 of a kind trade their numbers."""
    return story.change(kind, 1, round=2).change(kind, 2, round=1)


WRONG: dict[str, Wrong] = {
    # -- approvals (26, 28) -----------------------------------------------------------------
    "trained without an approval": Wrong("approval.missing", lambda s: s.leave_out(StudyApproved)),
    "trained after a refusal": Wrong(
        "approval.refused", _before_round_1(StudyRefused(STUDY, "no"))
    ),
    "trained after the revocation": Wrong(
        "approval.revoked", _before_round_1(StudyRevoked(STUDY, "owner-withdrew"))
    ),
    "trained after the study was closed": Wrong(
        "approval.closed", _before_round_1(StudyClosed(STUDY, "complete", 1))
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
    # -- steering ---------------------------------------------------------------------------
    "steered before anybody approved": Wrong(
        "steering.unapproved", lambda s: s.insert(s.place(StudyApproved), _steered(5))
    ),
    "steered after the study was closed": Wrong(
        "steering.unapproved", lambda s: s.add(_steered(5))
    ),
    "followed an older steering after a newer one": Wrong(
        "steering.order",
        lambda s: _before_round_1(_steered(5))(_before_round_1(_steered(9))(s)).insert(
            s.place(TrainDone, 2) + 2, _steered(8)
        ),
    ),
    "trained with other arguments unsteered": Wrong(
        "steering.unrecorded", lambda s: s.change(TrainDone, 1, hp=NOBODY)
    ),
    "trained with other arguments before the steering's round": Wrong(
        "steering.unrecorded",
        lambda s: _before_round_1(_steered(5, 2))(s).change(TrainDone, 1, hp=NOBODY),
    ),
    # -- datasets (27) ----------------------------------------------------------------------
    "trained on revoked data": Wrong(
        "dataset.revoked", _before_round_1(DatasetRevoked(DS, "owner-withdrew"))
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
        "key.still_used", _before_round_1(KeyCompromised("log", DS, START_US + 900 * DAY_US))
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


def test_the_plain_story_is_clean(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story())
    assert is_clean(report)
    assert all(check.verdict.value in ("passed", "not checked") for check in report.checks)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_found_by_name(tmp_path: Path, name: str) -> None:
    wrong = WRONG[name]
    report = audited(tmp_path, wrong.tell(plain_story()))
    assert wrong.code in codes(report), report.findings
    assert report.exit_code is wrong.exit_code
    found = next(found for found in report.findings if found.code == wrong.code)
    assert found.action.endswith(".")
    assert found.sentence.endswith(".")


def test_every_rule_has_a_wrong_history() -> None:
    """Rules about files, replays and damage have tests of their own."""
    modules = [value for value in vars(rules).values() if hasattr(value, "CHECKS")]
    known = {
        rule.code for module in modules for rule in vars(module).values() if isinstance(rule, Rule)
    }
    elsewhere = {
        "artefact.differs",
        "artefact.size",
        "artefact.unreadable",
        "average.not_reproduced",
        "budget.not_recomputed",
        "entry.malformed",
        "entry.unknown_kind",
        "log.incomplete",
        "log.unreadable",
    }
    with_peers = {
        "clock.backdated",
        "clock.future",
        "fork.proven",
        "fork.two_heads",
        "fork.witness",
        "log.behind",
        "log.disputed",
        "log.key_replaced",
        "log.replaced",
        "log.rewritten",
        "peer.damaged",
        "peer.rewritten",
        "peer.stale",
        "peer.unreadable",
        "receipt.denied",
        "receipt.other_hash",
        "receipt.unpublished",
        "start.unconfirmed",
        "steering.denied",
    }
    assert known - elsewhere - with_peers == {wrong.code for wrong in WRONG.values()}


def test_a_disowned_key_that_was_replaced_explains_itself(tmp_path: Path) -> None:
    story = plain_story().insert(9, KeyCompromised("log", DS, START_US))
    report = audited(tmp_path, story.insert(10, KeyRotated("transport", DS, NOBODY)))
    assert "key.still_used" in codes(report)
    notes = next(check.notes for check in report.checks if check.id == "keys")
    assert any("may have been in other hands" in note for note in notes)


def test_a_clock_that_was_set_explains_times_that_run_back(tmp_path: Path) -> None:
    story = plain_story().insert(plain_story().place(TrainDone, 1), ClockAnomaly(-DAY_US))
    assert is_clean(audited(tmp_path, story.delay(ClockAnomaly, 0, -DAY_US // 2)))


# -- honest histories that look odd ---------------------------------------------------------------


def test_an_approval_after_a_refusal_counts(tmp_path: Path) -> None:
    story = plain_story()
    refused = story.insert(story.place(StudyApproved), StudyRefused(STUDY, "first-no"))
    assert is_clean(audited(tmp_path, refused))


def test_steering_on_record_explains_other_arguments(tmp_path: Path) -> None:
    story = _before_round_1(_steered(5))(plain_story())
    story = story.change(TrainDone, 1, hp=NOBODY).change(TrainDone, 2, hp=NOBODY)
    assert is_clean(audited(tmp_path, story))


def test_a_proposer_may_steer_what_it_does_not_train_itself(tmp_path: Path) -> None:
    story = plain_story()
    told = story.insert(story.place(StudyApproved), _steered(-1)).add(_steered(-1))
    assert is_clean(audited(tmp_path, told))


def test_mixing_may_go_on_after_the_approval_expired(tmp_path: Path) -> None:
    story = plain_story().delay(UpdatePublished, 3, 100 * DAY_US)
    assert is_clean(audited(tmp_path, story))


def test_a_training_never_released_is_no_fault_but_counts(tmp_path: Path) -> None:
    """A node that dies between training and release has spent the ε all the same."""
    story = plain_story(rounds=1, consensus_rounds=0)
    cut = Story(story.told[: story.place(TrainDone) + 1])
    report = audited(tmp_path, cut)
    assert is_clean(report)
    (budget,) = report.budgets
    assert (budget.trainings, budget.unreleased) == (1, 1)
    assert budget.epsilon is not None
    assert budget.epsilon > 0


def test_a_training_never_released_is_recomputed_too(tmp_path: Path) -> None:
    story = plain_story(rounds=2, consensus_rounds=0)
    approval, trained = story.record(StudyApproved), story.record(TrainDone, 1)
    one = story.record(TrainDone, 0).eps_total_u
    told = story.change(StudyApproved, eps_table_u=(0, one, one)).change(
        TrainDone, 1, eps_total_u=one, eps_u=one
    )
    cut = Story(told.told[: told.place(TrainDone, 1) + 1])
    assert approval.eps_table_u[2] == trained.eps_total_u > one
    assert "budget.understated" in codes(audited(tmp_path, cut))


def test_a_stranger_before_the_newest_roster_may_have_been_a_member(tmp_path: Path) -> None:
    story = plain_story().change(UpdateReceived, 2, sender=NOBODY)
    assert is_clean(audited(tmp_path, story.add(RosterChanged(2, NOBODY, 5))))


def test_an_unknown_roster_accuses_nobody(tmp_path: Path) -> None:
    story = plain_story().leave_out(RosterChanged)
    assert is_clean(audited(tmp_path, story, names={}))


def test_no_privacy_is_no_broken_rule_but_said_loudly(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(dp=NO_PRIVACY))
    assert is_clean(report)
    check = next(check for check in report.checks if check.id == "budget")
    assert any("WITHOUT privacy protection" in note for note in check.notes)


def test_other_roles_may_be_allowed_by_policy(tmp_path: Path) -> None:
    story = plain_story().change(StudyApproved, role="ethics-board")
    assert is_clean(audited(tmp_path, story, approver_roles=frozenset({"ethics-board"})))


def test_a_study_that_was_only_proposed_has_no_budget(tmp_path: Path) -> None:
    story = Story(plain_story().told[:1]).add(StudyProposed(STUDY, PEERS[0]))
    report = audited(tmp_path, story)
    assert is_clean(report)
    assert report.budgets == ()
    assert report.first_us == START_US
