"""For each rule: an honest history passes, and one told wrongly is found by name."""

from dataclasses import replace
from pathlib import Path

import pytest
from prov_choices import CHOICES, kept
from prov_pauses import PAUSES
from prov_stories import DAY_US, PEERS, START_US, Story, audited, codes, is_clean
from prov_teller import NO_PRIVACY, plain_story
from prov_wrongs import (
    DS,
    NOBODY,
    STUDY,
    WRONG,
    adopted,
    before_round_1,
    coded,
    steered,
    stood_in,
)

from ledger.log import ExitCode
from ledger.provenance import rules
from ledger.provenance.findings import Rule
from ledger.provenance.kinds import (
    AggDone,
    ClockAnomaly,
    ForkFound,
    KeyCompromised,
    KeyRotated,
    ModelReleased,
    Record,
    RosterChanged,
    SpendingAccepted,
    SpendingUnknown,
    StudyApproved,
    StudyProposed,
    StudyRefused,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.records_site import ANY_DATA
from ledger.provenance.report_text import to_text


def test_the_plain_story_is_clean(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story())
    assert is_clean(report)
    assert all(check.verdict.value in ("passed", "not checked") for check in report.checks)


ALL = PAUSES | WRONG | CHOICES


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_history_is_found_by_name(tmp_path: Path, name: str) -> None:
    wrong = ALL[name]
    report = audited(tmp_path, wrong.tell(plain_story()))
    assert wrong.code in codes(report), report.findings
    assert report.exit_code is wrong.exit_code
    found = next(found for found in report.findings if found.code == wrong.code)
    assert found.action.endswith(".")
    assert found.sentence.endswith(".")


def test_approved_code_is_told_and_whose_promise_its_privacy_is(tmp_path: Path) -> None:
    story, at = plain_story(), plain_story().place(StudyApproved) + 1
    enforced = audited(tmp_path / "node", story.insert(at, coded()))
    assert is_clean(enforced)
    assert "the node itself keeps its privacy terms" in " ".join(to_text(enforced).split())
    by_code = audited(tmp_path / "code", story.insert(at, coded(kept_by="code")))
    assert is_clean(by_code)
    told = " ".join(to_text(by_code).split())
    assert "by approved code. Its ε holds only if the researcher's code" in told
    assert [each.by_code for budget in by_code.budgets for each in budget.studies] == [True]


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(StudyApproved, id="it has not begun"),
        pytest.param(UpdateReceived, id="it joined late, and began with an average"),
    ],
)
def test_a_study_that_goes_on_from_a_model_need_not_have_trained_it(
    tmp_path: Path, left: type[Record]
) -> None:
    story = plain_story()
    start = story.place(StudyApproved) + 1
    told = [logged for logged in story.told[start:] if not isinstance(logged.record, TrainDone)]
    story = replace(story, told=(*story.told[:start], *(told if left is UpdateReceived else ())))
    report = audited(tmp_path, story.insert(start, adopted("start", PEERS[0], 2)))
    assert "adoption.other_start" not in codes(report)


@pytest.mark.parametrize("staleness", ["1", "8"])
def test_an_older_update_may_stand_in_where_the_study_says_so(
    tmp_path: Path, staleness: str
) -> None:
    story = stood_in(plain_story(), weight_u=100_000, staleness=staleness)
    assert is_clean(audited(tmp_path, story))


@pytest.mark.parametrize("staleness", ["", "many", "99999"])
def test_a_staleness_that_no_node_writes_allows_nothing(tmp_path: Path, staleness: str) -> None:
    story = stood_in(plain_story(), weight_u=1, staleness=staleness)
    assert "average.never_received" in codes(audited(tmp_path, story))


def test_unknown_spending_that_was_decided_is_in_order(tmp_path: Path) -> None:
    story = plain_story()
    spent_u = max(x.record.eps_total_u for x in story.told if isinstance(x.record, TrainDone))
    decision = SpendingAccepted(DS, 5, spent_u + 5, "paper-log")
    story = story.add(SpendingUnknown(DS, NOBODY, 7)).add(decision)
    assert is_clean(audited(tmp_path, story))


def test_registrations_that_may_be_lost_are_told(tmp_path: Path) -> None:
    story = plain_story().add(SpendingUnknown(ANY_DATA, NOBODY, 7))
    report = audited(tmp_path, story)
    notes = [note for check in report.checks if check.id == "losses" for note in check.notes]
    assert [note for note in notes if "registrations may be among the entries" in note]
    assert is_clean(report)


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
        "adoption.denied",
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
        "pause.denied",
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
    assert known - elsewhere - with_peers == {wrong.code for wrong in ALL.values()}


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
    story = before_round_1(steered(5))(plain_story())
    story = story.change(TrainDone, 1, hp=NOBODY).change(TrainDone, 2, hp=NOBODY)
    assert is_clean(audited(tmp_path, story))


def test_a_proposer_may_steer_what_it_does_not_train_itself(tmp_path: Path) -> None:
    story = plain_story()
    told = story.insert(story.place(StudyApproved), steered(-1)).add(steered(-1))
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


def test_a_removed_member_counts_in_the_averaging_that_its_removal_interrupted(
    tmp_path: Path,
) -> None:
    story = plain_story()
    rounds = [t.record.round for t in story.told if isinstance(t.record, UpdateReceived)]
    first, second, third = (rounds.index(round_) for round_ in (0, 1, 2))
    told = story.change(UpdateReceived, first, sender=NOBODY)
    told = told.change(UpdateReceived, second, sender=NOBODY)
    removed = told.insert(told.place(UpdateReceived, second), RosterChanged(2, NOBODY, 4, DS))
    assert "receipt.stranger" not in codes(audited(tmp_path / "under way", removed))
    late = removed.change(UpdateReceived, third, sender=NOBODY)
    assert "receipt.stranger" in codes(audited(tmp_path / "late", late))


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


def test_a_recorded_fork_says_who_is_accused(tmp_path: Path) -> None:
    own = audited(tmp_path / "plain", plain_story()).log_id
    found = {
        "other": ForkFound(NOBODY, "K1", NOBODY),
        "own": ForkFound(own, "K2", NOBODY),
        "witness": ForkFound(own, "K4", NOBODY, PEERS[0]),
    }
    said = {}
    for name, record in found.items():
        report = audited(tmp_path / name, plain_story().add(record))
        (said[name],) = [f.sentence for f in report.findings if f.code == "fork.recorded"]
        assert report.exit_code is ExitCode.FORK_PROVEN
    assert "that log" in said["other"]
    assert "its own log has two histories: it is frozen" in said["own"]
    assert "cosigned two histories" in said["witness"]
    told = to_text(audited(tmp_path / "again", plain_story().add(found["witness"])), 200)
    assert "cosigned two histories of log" in told


def test_how_much_local_work_was_boxed_in_time_is_said(tmp_path: Path) -> None:
    story = plain_story().change(TrainDone, 0, steps=12).change(TrainDone, 2, steps=50)
    report = audited(tmp_path, story)
    assert not codes(report)
    notes = next(check.notes for check in report.checks if check.id == "training")
    assert any("boxes local work in time: 12 to 50 steps in 2 rounds" in note for note in notes)


def test_how_trainings_were_confined_is_said(tmp_path: Path) -> None:
    story = plain_story().change(TrainDone, 0, level="B").change(TrainDone, 2, level="C")
    report = audited(tmp_path, story)
    assert not codes(report)
    notes = next(check.notes for check in report.checks if check.id == "training")
    assert any("of its trainings: 1 at level B, 1 at level C" in note for note in notes)


def test_a_kept_model_that_is_an_average_and_was_released_is_right(tmp_path: Path) -> None:
    story = plain_story()
    averages = [told.record for told in story.told if isinstance(told.record, AggDone)]
    for place in (0, len(averages) - 1):
        story = story.insert(story.place(ModelReleased), kept(story, place))
    last = averages[-1]
    story = story.change(ModelReleased, round=last.round, hash=last.out_hash)
    assert is_clean(audited(tmp_path, story))
