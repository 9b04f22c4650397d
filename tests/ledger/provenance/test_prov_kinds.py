"""Every kind of entry survives a real log, and no wrong value gets into one or out of one."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from prov_stories import ME, PEERS, Story, Told, digest, write
from prov_teller import TERMS, plain_story

from ledger.log import Entry, LogReader
from ledger.provenance.fields import FieldError, layout_of
from ledger.provenance.kinds import (
    AggDone,
    AggInput,
    AuditRun,
    CardRenewed,
    ClockAnomaly,
    CodeApproved,
    DatasetRegistered,
    DatasetRevoked,
    DpTerms,
    ForkFound,
    InputRef,
    KeyCompromised,
    KeyRotated,
    KindError,
    LogRecovered,
    ModelAdopted,
    ModelKept,
    ModelReleased,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    PrivacySpent,
    Record,
    Redacted,
    RosterAccepted,
    RosterChanged,
    RosterClosed,
    RosterProposed,
    RosterSigned,
    RoundSkipped,
    SpendingAccepted,
    SpendingUnknown,
    StudyApproved,
    StudyAway,
    StudyBack,
    StudyClosed,
    StudyPaused,
    StudyProposed,
    StudyRefused,
    StudyResumed,
    StudyRevoked,
    StudySteered,
    StudyStopped,
    TrainDone,
    UnknownKind,
    UpdatePublished,
    UpdateReceived,
    parse,
)
from ledger.provenance.terms import RecordBody

D = digest("d")
AGG = AggDone(
    study=D,
    round=3,
    own=InputRef(7, D),
    inputs=(AggInput(PEERS[0], D, 4, D, 250_000), AggInput(PEERS[1], D, 5, D, 0)),
    rule="gm_clip",
    rule_params={"tau": "0.5", "steps": "10"},
    verdicts=("kept", "dropped"),
    env_hash=D,
    out_hash=D,
)
ONE_OF_EACH: tuple[Record, ...] = (
    DatasetRegistered(D, D, 250, D, "art-9-2-j", "dpia-7", 3_000_000, "1e-5"),
    DatasetRevoked(D, "owner-withdrew"),
    StudyProposed(D, PEERS[0]),
    StudyApproved(D, "data-owner", "approval", D, D, 1, TERMS, (0, 5, 9), (0, 4, 8)),
    CodeApproved(D, D, "node", "C", {"torch": "2.13.0+cpu"}),
    ModelAdopted(D, "start", D, D, PEERS[0], 31),
    StudyRefused(D, "too-few-sites"),
    StudyRevoked(D, ""),
    StudyClosed(D, "complete", 33),
    StudySteered(D, 4, D, {"learning_rate": "0.25"}, 7),
    StudyPaused(D, 4, "scanner-replaced", 7),
    StudyResumed(D, 4, "", -1),
    StudyStopped(D, 4, "converged", 7),
    StudyAway(D, "maintenance"),
    StudyBack(D),
    TrainDone(D, 0, D, D, D, D, D, D, D, TERMS, 4, 5),
    TrainDone(D, 1, D, D, D, D, D, D, D, TERMS, 4, 5, 12),
    TrainDone(D, 1, D, D, D, D, D, D, D, TERMS, 4, 5, level="B"),
    PrivacySpent(D, D, "column-means", TERMS, 7),
    UpdatePublished(D, 0, D, 140, -1),
    UpdateReceived(D, 0, PEERS[0], 9, D, D, D, "rejected", "not-finite"),
    AGG,
    RoundSkipped(D, 2, "too-few-neighbours"),
    ModelKept(D, 7, D, "1.5e-3", 3),
    ModelReleased(D, 32, D, "1.5e-3", 3),
    PeerMisbehaved(PEERS[0], "BadSignature", 10),
    RosterChanged(2, D, 4),
    RosterChanged(3, D, 5, ME),
    RosterProposed(3, D, ME),
    RosterSigned(3, 1, D),
    RosterAccepted(3, 1, D, 4, (ME, *PEERS[:2])),
    RosterClosed(3, 1),
    RosterClosed(3, 2, 1, D),
    CardRenewed(PEERS[0], 2, D),
    PeerHead(D, 100, D),
    ForkFound(D, "K2", D),
    ForkFound(D, "K4", D, ME),
    KeyRotated("transport", D, ME),
    KeyCompromised("transport", D, 12),
    Redacted(4, "approver", "art-17"),
    PolicyChanged(D),
    ClockAnomaly(-5),
    NodeOfflineStart(3),
    AuditRun(13, 2),
    LogRecovered(90, 10),
    SpendingUnknown(D, D, -1),
    SpendingAccepted(D, 500_000, 700_000, "paper-log"),
)


def entries(home: Path, *records: Record) -> list[Entry]:
    reader = LogReader.open(write(home, Story(tuple(Told(record, 5) for record in records))))
    try:
        return list(reader.entries())[1:]
    finally:
        reader.close()


def entry(home: Path, record: Record, **changes: Any) -> Entry:
    """An entry as it came out of a log, with some of its body replaced."""
    (written,) = entries(home, record)
    return replace(written, body={**written.body, **changes})


def test_one_of_each_kind_is_tried_here() -> None:
    assert {type(record) for record in ONE_OF_EACH} == set(get_args(Record))


def test_every_kind_comes_back_from_a_real_log_as_it_went_in(tmp_path: Path) -> None:
    assert tuple(map(parse, entries(tmp_path, *ONE_OF_EACH))) == ONE_OF_EACH


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: record.KIND)
def test_a_body_that_is_not_packed_yet_is_read_as_any_other(tmp_path: Path, record: Record) -> None:
    body = record.draft("node").body
    assert isinstance(body, RecordBody)
    assert repr(body) == repr(record.body())
    (written,) = entries(tmp_path, record)
    assert parse(replace(written, body=body)) is record


def test_the_layout_names_what_a_body_holds() -> None:
    for record in ONE_OF_EACH:
        names = set(layout_of(type(record)))
        # ε of a training stands inside its terms; some kinds have a field that may be absent.
        assert set(record.body()) <= names
        absent = {"eps_u", "eps_total_u", "steps", "level", "witness", "statement"}
        assert names - set(record.body()) <= absent | {"certificate", "lock"}


def test_a_statement_stands_with_the_log_keys_rotation_alone() -> None:
    signed = KeyRotated("log", D, ME, b"s" * 64)
    assert KeyRotated.from_body(signed.body()) == signed
    assert "statement" not in KeyRotated("transport", D, ME).body()
    with pytest.raises(FieldError, match="statement: expected 64 bytes"):
        KeyRotated("log", D, ME, b"short")


def test_a_closed_vote_names_its_lock_wholly_or_not_at_all() -> None:
    assert "lock" not in RosterClosed(3, 1).body()
    for wrong in ((3, 1, 1, b""), (3, 1, 0, D), (3, 1, 2, D)):
        with pytest.raises(FieldError, match="lock_vote: expected"):
            RosterClosed(*wrong)


def test_only_a_proof_against_a_witness_names_one() -> None:
    assert "witness" not in ForkFound(D, "K4", D).body()
    with pytest.raises(FieldError, match="only a K4 accuses a witness"):
        ForkFound.from_body({"log_id": D, "form": "K1", "proof": D, "witness": ME})
    with pytest.raises(FieldError, match="witness: expected 32 bytes"):
        ForkFound(D, "K4", D, b"short")


def test_the_body_has_the_names_of_the_format() -> None:
    assert sorted(AGG.draft("node").body) == sorted(field.name for field in fields(AGG))
    received = UpdateReceived(D, 0, PEERS[0], 9, D, D, D, "late", "")
    assert received.draft("node").body["from"] == PEERS[0]
    trained = TrainDone(D, 0, D, D, D, D, D, D, D, TERMS, 4, 5).draft("node")
    assert trained.kind == "train.done"
    assert trained.body["dp"] == {**TERMS_BODY, "eps_u": 4, "eps_total_u": 5}
    assert "eps_u" not in trained.body


TERMS_BODY = {
    "mech": "gaussian",
    "sigma": "9.1",
    "q": "1",
    "steps": 1,
    "clip": "2.0",
    "delta": "1e-3",
    "acct": "pld",
    "acct_ver": "0.6.0",
}


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        (StudyRevoked, {"study": D[:31]}, "study: expected 32 bytes"),
        (StudyRevoked, {"study": "x" * 32}, "study: expected 32 bytes"),
        (StudyRevoked, {"reason": "Mrs Smith asked"}, "reason: expected a code"),
        (StudyRevoked, {"reason": "x" * 97}, "reason: expected a code"),
        (StudyRevoked, {"reason": 5}, "reason: expected a code"),
        (StudyClosed, {"rounds": True}, "rounds: expected an integer"),
        (StudyClosed, {"rounds": -1}, "rounds: expected an integer"),
        (StudyClosed, {"rounds": "3"}, "rounds: expected an integer"),
        (ClockAnomaly, {"delta_us": 2**63}, "delta_us: expected an integer"),
        (DatasetRegistered, {"delta": "1"}, "delta: expected a number in"),
        (DatasetRegistered, {"delta": "-0.1"}, "delta: expected a decimal"),
        (DatasetRegistered, {"delta": "٣e-3"}, "delta: expected a decimal"),
        (DatasetRegistered, {"delta": 0}, "delta: expected a decimal"),
        (ModelReleased, {"distance": "nan"}, "distance: expected a decimal"),
        (UpdateReceived, {"verdict": "maybe"}, "verdict: expected one of accepted"),
        (UpdateReceived, {"verdict": 1}, "verdict: expected one of"),
        (
            StudyApproved,
            {"eps_table_u": (), "eps_study_u": ()},
            "eps_table_u: expected at least one",
        ),
        (StudyApproved, {"eps_table_u": (0, 5, 4)}, "none falling"),
        (StudyApproved, {"eps_table_u": [0, 5, 9]}, "eps_table_u: expected at most"),
        (StudyApproved, {"eps_table_u": (0,) * 8193}, "eps_table_u: expected at most"),
        (StudyApproved, {"eps_table_u": (0, -5, 4)}, r"eps_table_u\[1\]"),
        (StudyApproved, {"eps_study_u": (0, 5)}, "eps_study_u: expected as many"),
        (StudyApproved, {"dp": TERMS_BODY}, "dp: expected DpTerms"),
        (AggDone, {"verdicts": ("kept",)}, "verdicts: expected 2, one per input"),
        (AggDone, {"verdicts": ("kept", "loved")}, r"verdicts\[1\]: expected one of"),
        (AggDone, {"rule_params": {"Tau": "1"}}, "rule_params: expected names"),
        (AggDone, {"rule_params": {1: "1"}}, "rule_params: expected names"),
        (AggDone, {"rule_params": {"tau": "a b"}}, r"rule_params.tau: expected a code"),
        (AggDone, {"rule_params": (("tau", "1"),)}, "rule_params: expected a table"),
        (AggDone, {"rule_params": {f"p{i}": "" for i in range(65)}}, "at most 64 codes"),
        (AggDone, {"own": AGG.inputs[0]}, "own: expected InputRef"),
    ],
)
def test_a_wrong_value_never_becomes_a_record(
    kind: type[Record], changes: dict[str, Any], named: str
) -> None:
    record = next(record for record in ONE_OF_EACH if type(record) is kind)
    with pytest.raises(FieldError, match=named) as caught:
        replace(record, **changes)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sigma": "0"}, "sigma: expected more than 0"),
        ({"clip": "0.0"}, "clip: expected more than 0"),
        ({"q": "1.01"}, "q: expected a rate"),
        ({"q": "0"}, "q: expected a rate"),
        ({"delta": "0"}, "delta: expected a number"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"mech": "laplace"}, "mech: expected one of"),
    ],
)
def test_privacy_terms_that_protect_nothing_are_refused(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(FieldError, match=named):
        replace(TERMS, **changes)


def test_no_protection_has_to_be_written_out_and_needs_no_numbers() -> None:
    assert DpTerms("none", "0", "0", 0, "0", "0", "", "").mech == "none"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"study": b"short"}, "study: expected 32 bytes"),
        ({"more": 1}, "the keys from, from_head"),
    ],
)
def test_an_entry_with_a_wrong_body_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    wrong = entry(tmp_path, UpdateReceived(D, 0, PEERS[0], 9, D, D, D, "late", ""), **changes)
    with pytest.raises(KindError, match=named) as caught:
        parse(wrong)
    assert (caught.value.seq, caught.value.kind) == (1, "update.received")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"inputs": 5}, "inputs: expected a list"),
        ({"inputs": [5]}, "inputs: expected a map"),
        ({"inputs": [{"site": D}]}, "inputs: expected the keys"),
        ({"inputs": [{}] * 300}, "inputs: expected the keys"),
        ({"own": []}, "own: expected a map"),
        ({"own": {"seq": 1, "hash": D, "x": 1}}, "own: expected the keys hash, seq"),
    ],
)
def test_a_wrong_nested_part_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(KindError, match=named):
        parse(entry(tmp_path, AGG, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dp": 5}, "dp: expected a map with eps_u"),
        ({"dp": TERMS_BODY}, "dp: expected a map with eps_u"),
        ({"steps": 0}, "steps: expected at least 1, or no such key"),
        ({"level": ""}, "level: expected one of .*, or no such key"),
        ({"eps_u": 4}, "eps_u and eps_total_u inside dp alone"),
        ({"dp": {**TERMS_BODY, "eps_u": 4, "eps_total_u": -5}}, "eps_total_u: expected an integer"),
    ],
)
def test_spending_stands_inside_the_privacy_terms_alone(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    trained = TrainDone(D, 0, D, D, D, D, D, D, D, TERMS, 4, 5)
    with pytest.raises(KindError, match=named):
        parse(entry(tmp_path, trained, **changes))


def test_a_kind_of_the_future_is_unknown_and_the_genesis_entry_is_the_logs_own(
    tmp_path: Path,
) -> None:
    reader = LogReader.open(write(tmp_path, plain_story()))
    genesis, first = reader.entry(0), reader.entry(1)
    reader.close()
    with pytest.raises(UnknownKind, match=r"log\.genesis"):
        parse(genesis)
    with pytest.raises(UnknownKind, match="no such kind"):
        parse(replace(first, kind="study.dreamt"))
