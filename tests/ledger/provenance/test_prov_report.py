"""What people and programs get to read of an audit."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from prov_stories import DAY_US, ME, MICRO, PEERS, START_US, Story, audited, digest, is_clean
from prov_teller import NO_PRIVACY, TERMS, Plan, Teller, approve, average, finish, plain_story, step

from ledger.log import ExitCode, Finding, FindingCode, Verification
from ledger.provenance.audit import LIMITS
from ledger.provenance.kinds import (
    ClockAnomaly,
    DatasetRegistered,
    DatasetRevoked,
    ForkFound,
    InputRef,
    KeyCompromised,
    KeyRotated,
    ModelReleased,
    NodeOfflineStart,
    PeerMisbehaved,
    PolicyChanged,
    PrivacySpent,
    Redacted,
    RoundSkipped,
    StudyApproved,
    StudyRefused,
    StudyRevoked,
    StudySteered,
    TrainDone,
    UpdateReceived,
)
from ledger.provenance.report import SCHEMA, to_json, to_text

STUDY, DS = digest("study", 1), digest("dataset", 1)
SECTIONS = [
    "audited_us",
    "checks",
    "datasets",
    "decisions",
    "exit_code",
    "exit_name",
    "findings",
    "incidents",
    "log",
    "not_covered",
    "not_detectable",
    "rejections",
    "releases",
    "schema",
    "scope",
    "site",
    "verdict",
    "witnesses",
]


def eventful_story() -> Story:
    """The plain story with one of everything that a report tells."""
    story = plain_story()
    for record in (
        RoundSkipped(STUDY, 4, "too-few-neighbours"),
        PeerMisbehaved(PEERS[0], "BadSignature", 10),
        ForkFound(digest("log"), "K1", digest("proof")),
        KeyRotated("transport", digest("old"), digest("new")),
        KeyCompromised("transport", digest("old"), START_US),
        Redacted(4, "approver", "art-17"),
        ClockAnomaly(-1_500_000),
        NodeOfflineStart(4),
        PolicyChanged(digest("policy")),
        StudySteered(STUDY, 2, digest("message"), {"momentum": "0.5", "learning_rate": "0.1"}, -1),
        StudyRefused(digest("study", 2), "owner-refused"),
        StudyRevoked(digest("study", 3), ""),
        DatasetRevoked(digest("dataset", 9), "owner-withdrew"),
        UpdateReceived(
            STUDY, 2, PEERS[3], 7, digest("l"), digest("h"), digest("u"), "rejected", ""
        ),
        UpdateReceived(
            STUDY, 3, PEERS[3], 8, digest("m"), digest("h"), digest("v"), "rejected", ""
        ),
    ):
        story = story.add(record)
    return story


@pytest.mark.parametrize("width", [0, 40, 60, 80, 200])
def test_no_line_is_wider_than_asked(tmp_path: Path, width: int) -> None:
    text = to_text(audited(tmp_path, eventful_story()), width)
    assert max(map(len, text.splitlines())) <= max(width, 40)


def test_a_person_reads_what_happened_in_words(tmp_path: Path) -> None:
    names = {"study_names": {STUDY: "heart-disease"}, "dataset_names": {DS: "cardiology 2026"}}
    report = audited(tmp_path, eventful_story(), origin="clinics/dl-ledger/00", **names)
    text = to_text(report, width=200)
    for told in (
        "Audit of the ledger of Basel",
        "exit code  12 (fork proven)",
        "A log with two histories was proven",
        "What is wrong (1)",
        "What to do: Check the proof",
        "cardiology 2026 (δ = 1e-3)",
        "cardiology 2026 registered: 250 patients or more, ε at most 10 at δ 1e-3",
        "approved for cardiology 2026 by data-owner (approval): 3 rounds, up to ε 0.726 in all",
        "proposed by Bern",
        "closed after 4 rounds (complete)",
        "refused (owner-refused)",
        "revoked [entry",
        "revoked (owner-withdrew)",
        "steered from round 2 on: learning_rate = 0.1, momentum = 0.5",
        "the site's policy changed",
        "Released model of heart-disease",
        "Basel (own, trained in 3)",
        "late: after-the-round",
        "2–3",
        "round 4 of heart-disease",
        "Bern broke the protocol 10 times (BadSignature)",
        "showed two histories (proof K1)",
        "the site's transport key was replaced",
        "declared compromised",
        "the secret behind approver of entry 4 was erased (art-17)",
        "the clock jumped by -1.5 s",
        "none of 4 peers confirmed its log",
        "roster version 1 with 5 members in force",
        *LIMITS,
    ):
        assert told in text, told


def test_missing_privacy_is_written_in_capitals(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(dp=NO_PRIVACY))
    text = to_text(report, width=200)
    assert "3 rounds, WITHOUT privacy protection" in text
    assert "3 ran WITHOUT privacy protection." in text


def test_what_was_not_stated_is_said(tmp_path: Path) -> None:
    story = plain_story().change(DatasetRegistered, legal_basis="", dpia="")
    story = story.change(StudyApproved, meaning="")
    text = to_text(audited(tmp_path, story), width=200)
    assert "legal basis not stated, DPIA not stated" in text
    assert "no meaning stated" in text


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    story = plain_story()
    for round_ in range(40):
        story = story.add(RoundSkipped(STUDY, 10 + round_, "waiting"))
    assert "… and 11 more: the JSON report has all." in to_text(audited(tmp_path, story))


def test_a_log_without_datasets_says_so(tmp_path: Path) -> None:
    text = to_text(audited(tmp_path, Story(plain_story().told[:1])))
    assert "No dataset was registered or used." in text


def test_spending_without_a_registration_has_no_cap(tmp_path: Path) -> None:
    spent = PrivacySpent(STUDY, digest("nowhere"), "mean", TERMS, 9 * MICRO)
    report = audited(tmp_path, Story(plain_story().told[:1]).add(spent))
    (budget,) = report.budgets
    assert (budget.cap_u, budget.left_u, budget.delta) == (-1, 0, "1e-3")
    assert "none on record" in to_text(report)


def test_an_impossible_time_is_shown_as_it_is(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(), now_us=2**62)
    assert f"audited    {2**62} µs" in to_text(report)


def test_the_root_of_a_broken_log_cannot_be_computed(tmp_path: Path) -> None:
    broken = Verification((Finding(FindingCode.ROLLBACK, None, ""),), 4, None)
    report = audited(tmp_path, plain_story(), verification=broken)
    assert report.exit_code is ExitCode.ROLLBACK
    assert "set back or cut" in " ".join(to_text(report).split())
    assert "cannot be computed" in to_text(report)
    assert json.loads(to_json(report))["log"]["root"] is None


@pytest.mark.parametrize(("count", "words"), [(1, "in 1 place "), (2, "in 2 places ")])
def test_the_verdict_counts_broken_rules(tmp_path: Path, count: int, words: str) -> None:
    story = plain_story()
    for nth in range(count):
        story = story.change(TrainDone, nth, fp_commit=digest("changed"))
    assert words in audited(tmp_path, story).verdict


def test_the_json_has_the_documented_shape(tmp_path: Path) -> None:
    report = audited(tmp_path, eventful_story())
    document = json.loads(to_json(report))
    assert document["schema"] == SCHEMA
    assert sorted(document) == SECTIONS
    assert document["site"] == {"id": ME.hex(), "name": "Basel"}
    assert document["findings"][0]["code"] == "fork.recorded"
    assert document["datasets"][0]["studies"][0]["sigma"] == "9.1"
    assert document["releases"][0]["averages"][0]["inputs"][0]["weight_u"] == 250_000
    assert document["rejections"][1]["count"] == 2
    assert to_json(report) == to_json(report)


def test_an_infinite_epsilon_is_null_in_json(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(), epsilon_of=lambda events, delta: float("inf"))
    assert json.loads(to_json(report))["datasets"][0]["epsilon_recomputed"] is None


def test_an_unknown_epsilon_is_said_to_be_unknown(tmp_path: Path) -> None:
    def refusing(events: object, delta: float) -> float:
        raise ZeroDivisionError

    assert "unknown" in to_text(audited(tmp_path, plain_story(), epsilon_of=refusing))


# -- where a model comes from ---------------------------------------------------------------------


def test_a_released_model_names_everybody_who_contributed(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(rounds=5))
    (release,) = report.releases
    assert [step_.round for step_ in release.steps] == [5, 4, 3, 2, 1, 0]
    assert {by.site for by in release.contributors} == set(PEERS[:2])
    assert all(by.kept + by.clipped + by.dropped == 6 for by in release.contributors)
    assert [step_.train_seq >= 0 for step_ in release.steps] == [False, *[True] * 5]


def test_a_lineage_goes_through_catch_ups_and_forgets_abandoned_work(tmp_path: Path) -> None:
    """Round 0 is trained and averaged, round 1 trained in vain, rounds 2 and 3 caught up."""
    teller = Teller(Random(3))  # noqa: S311 -- a seed that repeats, not a secret
    ds = teller.register(1, 10 * MICRO)
    approval = approve(teller, ds, STUDY, TERMS, 4, START_US + DAY_US)
    assert approval is not None
    plan = Plan(approval, 4, 0, PEERS[:2], digest("initial"))

    def received(round_: int) -> list[UpdateReceived]:
        return [teller.receive(STUDY, round_, peer, "accepted") for peer in plan.peers]

    own = step(teller, plan, 0)
    assert own is not None
    average(teller, plan, 0, own, received(0))
    assert step(teller, plan, 1) is not None
    teller.tell(RoundSkipped(STUDY, 1, "catch-up"))
    average(teller, plan, 3, InputRef(-1, plan.model), received(3))
    finish(teller, plan, 3)
    report = audited(tmp_path, teller.story(), names={})
    assert is_clean(report)
    (release,) = report.releases
    assert [step_.round for step_ in release.steps] == [3, 0]
    assert [step_.own_weight_u for step_ in release.steps] == [0, 500_000]
    (budget,) = report.budgets
    assert budget.studies[0].trainings == 2


def test_a_model_nobody_averaged_has_no_contributors(tmp_path: Path) -> None:
    story = plain_story(rounds=1, consensus_rounds=0)
    trained = story.record(TrainDone)
    alone = Story(story.told[: story.place(TrainDone) + 2]).add(
        ModelReleased(STUDY, 0, trained.out_hash, "0", 0)
    )
    report = audited(tmp_path, alone)
    assert is_clean(report)
    assert report.releases[0].contributors == ()


def test_a_story_can_be_changed_in_one_place() -> None:
    story = plain_story()
    assert story.change(TrainDone, 0, round=9).record(TrainDone).round == 9
    moved = story.insert(0, ClockAnomaly(1))
    assert moved.record(TrainDone, -1) == story.record(TrainDone, -1)
    assert replace(story) == story
