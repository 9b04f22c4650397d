"""Damage, unreadable entries, model files and replays: what an audit sees besides records."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prov_stories import (
    DAY_US,
    MICRO,
    START_US,
    Story,
    audited,
    codes,
    context_of,
    digest,
    epsilon_of,
    is_clean,
    write,
)
from prov_teller import TERMS, plain_story

from ledger.log import (
    Draft,
    Entry,
    ExitCode,
    LedgerError,
    Log,
    LogReader,
    OnDamage,
    Signer,
    Verification,
)
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import DpEvent, Replayed, Verdict
from ledger.provenance.kinds import (
    AggDone,
    DatasetRegistered,
    DpTerms,
    StudyApproved,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)
from p2pfl.privacy import accounting
from p2pfl.privacy.events import parse_event


def verdict_of(report: AuditReport, check_id: str) -> Verdict:
    return next(check.verdict for check in report.checks if check.id == check_id)


def notes_of(report: AuditReport, check_id: str) -> str:
    return " ".join(next(check.notes for check in report.checks if check.id == check_id))


# -- the log itself -------------------------------------------------------------------------------


def test_a_flipped_bit_in_the_database_is_reported(tmp_path: Path) -> None:
    home = write(tmp_path, plain_story())
    with sqlite3.connect(home / "ledger.db") as database:
        (raw,) = database.execute("SELECT raw FROM entry WHERE seq = 5").fetchone()
        flipped = raw[:60] + bytes([raw[60] ^ 1]) + raw[61:]
        database.execute("UPDATE entry SET raw = ? WHERE seq = 5", (flipped,))
    database.close()
    context = context_of(home)
    reader = LogReader.open(home, on_damage=OnDamage.SHOW)
    try:
        report = audit(reader.entries(), context, epsilon_of=epsilon_of)
    finally:
        reader.close()
    assert report.exit_code is ExitCode.INTEGRITY_BROKEN
    assert verdict_of(report, "log") is Verdict.FAILED
    assert any(found.code.startswith("log.") and found.seq == 5 for found in report.findings)
    assert "cannot be relied on" in report.verdict


def read_all(home: Path) -> list[Entry]:
    reader = LogReader.open(home)
    try:
        return list(reader.entries())
    finally:
        reader.close()


def test_an_error_while_reading_stops_the_audit_where_it_came(tmp_path: Path) -> None:
    home = write(tmp_path, plain_story())
    entries = read_all(home)

    def damaged() -> Iterator[Entry]:
        yield from entries[:9]
        raise LedgerError("page 12 is unreadable")

    report = audit(damaged(), context_of(home), epsilon_of=epsilon_of)
    assert (report.entries, report.exit_code) == (9, ExitCode.INTEGRITY_BROKEN)
    assert "log.unreadable" in codes(report)


def test_fewer_entries_than_were_signed_are_reported(tmp_path: Path) -> None:
    home = write(tmp_path, plain_story())
    report = audit(read_all(home)[:-3], context_of(home), epsilon_of=epsilon_of)
    assert codes(report) == {"log.incomplete"}
    assert report.exit_code is ExitCode.INTEGRITY_BROKEN


def test_what_the_next_start_repairs_is_a_note_only(tmp_path: Path) -> None:
    home = write(tmp_path, plain_story())
    with (home / "heads.log").open("ab") as heads:
        heads.write(b"\0torn")
    report = audit(read_all(home), context_of(home), epsilon_of=epsilon_of)
    assert is_clean(report)
    assert "next start" in notes_of(report, "log")


def test_an_empty_log_can_be_audited(tmp_path: Path) -> None:
    verification = Verification(findings=(), size=0, root=None)
    context = replace(context_of(write(tmp_path, plain_story())), verification=verification)
    report = audit([], context, epsilon_of=epsilon_of)
    assert is_clean(report)
    assert report.log_id == b""


def append(home: Path, draft: Draft) -> Path:
    log = Log.open(home, log=Signer(digest("log")))
    try:
        log.append([draft], START_US + 300 * DAY_US)
    finally:
        log.close()
    return home


def test_an_entry_of_an_unknown_kind_leaves_the_evidence_incomplete(tmp_path: Path) -> None:
    home = append(write(tmp_path, plain_story()), Draft("study.dreamt", "node", {}))
    report = audit(read_all(home), context_of(home), epsilon_of=epsilon_of)
    assert codes(report) == {"entry.unknown_kind"}
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE
    assert verdict_of(report, "entries") is Verdict.INCOMPLETE
    assert "evidence is missing" in report.verdict


def test_an_entry_with_a_wrong_body_breaks_a_rule(tmp_path: Path) -> None:
    home = append(write(tmp_path, plain_story()), Draft("study.revoked", "node", {"study": b"1"}))
    report = audit(read_all(home), context_of(home), epsilon_of=epsilon_of)
    assert codes(report) == {"entry.malformed"}
    assert report.exit_code is ExitCode.RULE_VIOLATED


# -- model files (19) -----------------------------------------------------------------------------


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs"
    folder.mkdir()
    return folder


def store(blobs: Path, content: bytes) -> bytes:
    name = hashlib.sha256(content).digest()
    (blobs / name.hex()).write_bytes(content)
    return name


def with_files(story: Story, blobs: Path, size: int = 140) -> Story:
    """The plain story with real files behind round 0: own update, inputs and average."""
    own = store(blobs, b"o" * size)
    story = story.change(TrainDone, 0, out_hash=own)
    story = story.change(UpdatePublished, 0, hash=own, size=size)
    inputs = list(story.record(AggDone, 0).inputs)
    for nth in range(2):
        model = store(blobs, b"%d" % nth * size)
        story = story.change(UpdateReceived, nth, hash=model)
        inputs[nth] = replace(inputs[nth], hash=model)
    out = store(blobs, b"a" * size)
    ref = replace(story.record(AggDone, 0).own, hash=own)
    story = story.change(AggDone, 0, own=ref, inputs=tuple(inputs), out_hash=out)
    return story.change(TrainDone, 1, base_model=out)


def reader_of(blobs: Path) -> object:
    def find(name: bytes) -> Path | None:
        path = blobs / name.hex()
        return path if path.exists() else None

    return find


def test_kept_model_files_are_compared_with_their_entries(tmp_path: Path, blobs: Path) -> None:
    report = audited(tmp_path / "home", with_files(plain_story(), blobs), blob=reader_of(blobs))
    assert is_clean(report)
    assert verdict_of(report, "artefacts") is Verdict.PASSED
    assert "not kept any more" in notes_of(report, "artefacts")


def test_an_update_whose_file_was_changed_is_found(tmp_path: Path, blobs: Path) -> None:
    story = with_files(plain_story(), blobs)
    (blobs / story.record(UpdatePublished, 0).hash.hex()).write_bytes(b"x" * 140)
    report = audited(tmp_path / "home", story, blob=reader_of(blobs))
    assert codes(report) == {"artefact.differs"}
    assert report.exit_code is ExitCode.INTEGRITY_BROKEN


def test_an_update_of_another_size_is_found(tmp_path: Path, blobs: Path) -> None:
    story = with_files(plain_story(), blobs).change(UpdatePublished, 0, size=141)
    report = audited(tmp_path / "home", story, blob=reader_of(blobs))
    assert codes(report) == {"artefact.size"}


def test_a_file_that_cannot_be_read_leaves_the_evidence_incomplete(
    tmp_path: Path, blobs: Path
) -> None:
    story = with_files(plain_story(), blobs)
    path = blobs / story.record(UpdatePublished, 0).hash.hex()
    path.unlink()
    path.mkdir()
    report = audited(tmp_path / "home", story, blob=reader_of(blobs))
    assert codes(report) == {"artefact.unreadable"}
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE


# -- replay (29) ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("same_environment", "distance", "expected"),
    [
        (True, 1e-7, {"average.not_reproduced"}),
        (False, 1e-7, set()),
        (False, 1e-3, {"average.not_reproduced"}),
    ],
)
def test_another_result_is_tolerated_in_another_environment_only(
    tmp_path: Path,
    blobs: Path,
    same_environment: bool,
    distance: float,
    expected: set[str],
) -> None:
    def replay(record: AggDone, files: Mapping[bytes, Path]) -> Replayed:
        return Replayed(digest("other"), distance, same_environment)

    story = with_files(plain_story(), blobs)
    report = audited(tmp_path / "home", story, blob=reader_of(blobs), replay=replay)
    assert codes(report) == expected
    assert ("another environment" in notes_of(report, "replay")) == (not expected)


def test_a_reproduced_average_passes_and_missing_files_are_told(
    tmp_path: Path, blobs: Path
) -> None:
    seen: list[int] = []

    def replay(record: AggDone, files: Mapping[bytes, Path]) -> Replayed:
        seen.append(len(files))
        return Replayed(record.out_hash, 0.0, same_environment=True)

    story = with_files(plain_story(), blobs)
    report = audited(tmp_path / "home", story, blob=reader_of(blobs), replay=replay)
    assert is_clean(report)
    assert seen == [4]
    assert "3 could not be replayed" in notes_of(report, "replay")


def test_every_average_replayed_needs_no_note(tmp_path: Path, blobs: Path) -> None:
    story = with_files(plain_story(rounds=2, consensus_rounds=0), blobs)
    only = Story(story.told[: story.place(AggDone) + 1])

    def replay(record: AggDone, files: Mapping[bytes, Path]) -> Replayed:
        return Replayed(record.out_hash, 0.0, same_environment=True)

    report = audited(tmp_path / "home", only, blob=reader_of(blobs), replay=replay)
    assert notes_of(report, "replay") == ""


def test_an_average_whose_rule_refuses_its_inputs_is_not_reproduced(
    tmp_path: Path, blobs: Path
) -> None:
    def replay(record: AggDone, files: Mapping[bytes, Path]) -> Replayed:
        raise ValueError("shapes differ")

    story = with_files(plain_story(), blobs)
    report = audited(tmp_path / "home", story, blob=reader_of(blobs), replay=replay)
    assert codes(report) == {"average.not_reproduced"}
    assert "shapes differ" in report.findings[0].sentence


# -- with the project's own accountant ------------------------------------------------------------


def exact(events: Sequence[DpEvent], delta: float) -> float:
    """What the command line hands to the audit."""
    return accounting.epsilon(
        [parse_event(e.mech, str(e.sigma), str(e.q), e.steps) for e in events], delta
    )


@pytest.mark.parametrize(
    "terms", [TERMS, replace(TERMS, mech="poisson", sigma="1.1", q="0.05", steps=20)]
)
def test_a_table_of_the_accountant_is_never_below_what_it_recomputes(
    tmp_path: Path, terms: DpTerms
) -> None:
    per_round = parse_event(terms.mech, terms.sigma, terms.q, terms.steps)
    table = accounting.epsilon_table_u([], per_round, 3, 1e-3)
    story = plain_story(dp=terms, cap_u=50 * MICRO).change(StudyApproved, eps_table_u=table)
    for nth in range(3):
        spent_u = table[nth + 1]
        story = story.change(TrainDone, nth, eps_u=spent_u, eps_total_u=spent_u)
    report = audited(tmp_path / "exact", story, epsilon_of=exact)
    assert is_clean(report)
    low = story.change(StudyApproved, eps_table_u=(0, *(value - 3 for value in table[1:])))
    for nth in range(3):
        low = low.change(TrainDone, nth, eps_total_u=table[nth + 1] - 3)
    assert codes(audited(tmp_path / "low", low, epsilon_of=exact)) == {"budget.understated"}


# -- recomputing ε --------------------------------------------------------------------------------


SAMPLED = replace(TERMS, mech="poisson", q="0.05")


def test_the_number_of_recomputations_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "all").mkdir()
    calls: list[int] = []

    def counting(events: Sequence[DpEvent], delta: float) -> float:
        calls.append(len(events))
        return epsilon_of(events, delta)

    story = plain_story(rounds=60, dp=SAMPLED, cap_u=50 * MICRO)
    report = audited(tmp_path / "some", story, epsilon_of=counting, recomputed_max=5)
    assert is_clean(report)
    assert 3 <= len(calls) <= 5
    assert f"at {len(calls)} of 60 places" in notes_of(report, "budget")
    report = audited(tmp_path / "all", story, epsilon_of=counting, recomputed_max=None)
    assert "at 60 of 60 places" in notes_of(report, "budget")


def test_one_recomputation_looks_at_the_newest_training(tmp_path: Path) -> None:
    report = audited(tmp_path, plain_story(dp=SAMPLED), recomputed_max=1)
    (budget,) = report.budgets
    assert [at.seq for at in budget.recomputed] == [plain_story().seq(TrainDone, 2)]


def test_an_accountant_that_cannot_say_leaves_the_evidence_incomplete(tmp_path: Path) -> None:
    def refusing(events: Sequence[DpEvent], delta: float) -> float:
        raise ValueError("σ too small")

    report = audited(tmp_path, plain_story(), epsilon_of=refusing)
    assert codes(report) == {"budget.not_recomputed"}
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE
    assert "σ too small" in report.findings[0].sentence


@pytest.mark.parametrize("epsilon", [float("nan"), float("inf")])
def test_an_epsilon_without_bound_is_understated_by_any_declaration(
    tmp_path: Path, epsilon: float
) -> None:
    report = audited(tmp_path, plain_story(), epsilon_of=lambda events, delta: epsilon)
    assert codes(report) == {"budget.understated"}


def test_declared_spending_of_a_running_study_leaves_its_reservation(tmp_path: Path) -> None:
    story = plain_story(rounds=3)
    running = Story(story.told[: story.place(TrainDone, 1) + 1])
    report = audited(tmp_path, running)
    (budget,) = report.budgets
    table = story.record(StudyApproved).eps_table_u
    assert budget.declared_u == table[2]
    assert budget.reserved_u == table[3] - table[2]
    assert budget.left_u == story.record(DatasetRegistered).cap_u - table[3]
