"""What is told of an audit: of one study, one model, since a day; what a strict one asks for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from prov_stories import (
    DAY_US,
    ME,
    PEERS,
    START_US,
    Story,
    audited,
    context_of,
    digest,
    is_clean,
    write,
)
from prov_teller import plain_story
from test_prov_report import eventful_story

from ledger.log import (
    Checkpoint,
    ExitCode,
    Finding,
    FindingCode,
    Log,
    LogReader,
    Previous,
    Signer,
    Verification,
)
from ledger.log.identity import LogId, log_id_of, origin_of
from ledger.log.notes import note_sign
from ledger.provenance.audit import audit
from ledger.provenance.findings import Demand, Scope, Verdict
from ledger.provenance.kinds import ModelReleased, RoundSkipped, StudyApproved, TrainDone
from ledger.provenance.peers import PeerEvidence
from ledger.provenance.report import to_html, to_json, to_text
from ledger.provenance.timeline import Timeline
from ledger.provenance.witnessing import Cosigned, Witnessing

STUDY = digest("study", 1)


def wrong_story() -> Story:
    """One thing wrong in the study, one after its model was released."""
    story = plain_story().change(StudyApproved, role="nurse")
    return story.add(RoundSkipped(digest("study", 2), 4, "waiting"))


def test_what_belongs_to_another_study_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "one").mkdir()
    everything = audited(tmp_path / "all", wrong_story())
    assert everything.exit_code is ExitCode.RULE_VIOLATED
    scope = Scope(study=digest("study", 2))
    report = audited(tmp_path / "one", wrong_story(), scope=scope)
    assert report.exit_code is ExitCode.CLEAN
    assert report.left_out == len(everything.findings)
    assert "1 findings concern other" in report.not_covered
    assert (report.releases, report.budgets, report.rejections) == ((), (), ())
    assert [told.kind for told in report.incidents if told.study] == ["round.skipped"]
    assert f"only {report.context.study_name(scope.study)}" in report.verdict
    assert f"told       only {report.scope}" in to_text(report)
    document = json.loads(to_json(report))
    assert document["scope"]["study"] == scope.study.hex()
    assert document["scope"]["left_out"] == 1
    assert "Only " in to_html(report)
    assert {check.verdict for check in report.checks} <= {Verdict.PASSED, Verdict.NOT_CHECKED}


def test_the_study_itself_keeps_its_findings(tmp_path: Path) -> None:
    report = audited(tmp_path, wrong_story(), scope=Scope(study=STUDY))
    assert report.exit_code is ExitCode.RULE_VIOLATED
    assert report.left_out == 0
    assert len(report.releases) == len(report.budgets) == 1


def test_a_model_is_told_up_to_its_release(tmp_path: Path) -> None:
    story = plain_story().add(RoundSkipped(STUDY, 9, "too-late"))
    model = story.record(ModelReleased).hash
    report = audited(tmp_path, story, scope=Scope(model=model))
    assert [release.hash for release in report.releases] == [model]
    assert not [told for told in report.incidents if told.kind == "round.skipped"]
    assert f"the model {model.hex()[:12]}" in report.verdict
    unknown = replace(report.context, scope=Scope(model=digest("unknown")))
    reader = LogReader.open(tmp_path)
    assert audit(reader.entries(), unknown, epsilon_of=lambda *_: 0.0).releases == ()
    reader.close()


def test_what_was_before_the_day_is_left_out(tmp_path: Path) -> None:
    story = eventful_story()
    since_us = story.told[-1].time_us
    report = audited(tmp_path, story, scope=Scope(since_us=since_us))
    assert all(told.time_us >= since_us for told in (*report.decisions, *report.incidents))
    assert "since 20" in report.verdict


def test_a_strict_audit_asks_for_what_it_could_not_look_at(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(), demand=Demand.EVERYTHING)
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE
    asked = {found.code for found in report.findings}
    assert asked == {"evidence.not_checked"}
    assert all(check.verdict is not Verdict.NOT_CHECKED for check in report.checks)
    assert "evidence is missing" in report.verdict


def test_a_strict_audit_counts_files_that_are_gone(tmp_path: Path) -> None:
    def replay(done, files):
        raise AssertionError("no file is kept")

    report = audited(
        tmp_path,
        plain_story(),
        demand=Demand.EVERYTHING,
        blob=lambda digest: None,
        replay=replay,
        peers=PeerEvidence(None, members=frozenset(PEERS)),
        names={},
    )
    asked = {found.sentence for found in report.findings if found.code == "evidence.not_at_hand"}
    assert any("could not be looked at" in said and "averages" in said for said in asked)
    assert any(" files could not" in said for said in asked)
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE


def test_a_strict_audit_of_what_is_all_there_is_clean(tmp_path: Path) -> None:
    report = audited(tmp_path, Story(()), demand=Demand.EVERYTHING)
    passed = [check.id for check in report.checks if check.verdict is Verdict.PASSED]
    assert {"log", "entries", "budget", "receipts"} <= set(passed)


def test_receipts_without_any_senders_ledger_are_not_called_checked(tmp_path: Path) -> None:
    evidence = PeerEvidence(None)
    report = audited(tmp_path, plain_story(), peers=evidence, names={})
    verdicts = {check.id: check.verdict for check in report.checks}
    for name in ("sent", "copies", "conduct"):
        assert verdicts[name] is Verdict.NOT_CHECKED, name


@pytest.mark.parametrize("recomputed_max", [None, 1])
def test_every_epsilon_is_recomputed_where_that_is_quick_or_asked_for(
    tmp_path: Path, recomputed_max: int | None
) -> None:
    story = plain_story()
    trainings = sum(isinstance(told.record, TrainDone) for told in story.told)
    report = audited(tmp_path, story, recomputed_max=recomputed_max)
    (budget,) = report.budgets
    assert len(budget.recomputed) == trainings  # full batches: a closed form


def incarnation(home: Path, note: bytes, missing_from: int) -> str:
    """What the report says of a log that goes on from another one."""
    identity, log = Signer(digest("identity")), Signer(digest("log"))
    home.mkdir()
    Log.create(
        home,
        deployment="test",
        identity=identity,
        log=log,
        witness_pk=Signer(digest("witness")).public_key,
        nonce=digest("nonce"),
        now_us=START_US,
        previous=Previous(OLD, note, missing_from),
    ).close()
    reader = LogReader.open(home)
    context = context_of(home, site=ME, now_us=START_US + DAY_US)
    report = audit(reader.entries(), context, epsilon_of=lambda *_: 0.0)
    reader.close()
    assert is_clean(report)
    (told,) = report.incidents
    page = to_html(report)
    assert "New incarnations" in page
    assert told.sentence in page.replace("&#39;", "'")
    assert told.sentence[:40] in to_text(report)
    return told.sentence


OLD = LogId(log_id_of(Signer(digest("identity")).public_key, digest("an older nonce")))


def test_a_log_that_goes_on_from_another_says_so(tmp_path: Path) -> None:
    origin = origin_of("test", OLD)
    head = Checkpoint(origin, 9, digest("root"))
    note = note_sign(head.text, origin, Signer(digest("log")))
    assert "entries 7 to 8 of it are lost" in incarnation(tmp_path / "some", note, 7)
    assert "9 entries, none lost" in incarnation(tmp_path / "none", note, 9)
    assert "no head was witnessed" in incarnation(tmp_path / "never", b"", 0)


def test_a_first_entry_that_binds_nothing_goes_on_from_nothing(tmp_path: Path) -> None:
    home = write(tmp_path, Story(()))
    reader = LogReader.open(home)
    first = reader.entry(0)
    reader.close()
    assert Timeline([first]).previous is None
    forged = replace(first, raw=first.raw[:-1] + bytes([first.raw[-1] ^ 1]))
    assert Timeline([forged]).previous is None


def test_what_concerns_the_whole_log_is_told_in_every_scope(tmp_path: Path) -> None:
    broken = Verification((Finding(FindingCode.ROLLBACK, None, ""),), 4, None)
    scope = Scope(study=digest("study", 2))
    report = audited(tmp_path, plain_story(), verification=broken, scope=scope)
    assert report.exit_code is ExitCode.ROLLBACK
    assert "log.rollback" in {found.code for found in report.findings}


def test_the_text_says_who_vouches(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story())
    title = "Who vouches for this history"

    def text(seen: Witnessing) -> str:
        return to_text(replace(report, context=replace(report.context, witnessing=seen)))

    assert title not in to_text(report)
    assert "No other site has cosigned" in text(Witnessing(0, (), (), 0))
    some = text(Witnessing(3, (Cosigned("Bern", START_US // 1_000_000),), (), 0))
    assert "Bern cosigned the head of 3 entries" in some
    assert f"{report.entries - 3} entries are not cosigned yet" in some
    every = text(Witnessing(report.entries, (Cosigned("Bern", 1),), (), 0))
    assert "not cosigned yet" not in every
