"""What ends a log and what goes on from it: forks, losses, new incarnations."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from log_samples import (
    IDENTITY,
    LOG_KEY,
    NOW_US,
    STRANGER,
    WITNESS,
    closed_log,
    draft,
    new_log,
)

from ledger.log import (
    Checkpoint,
    Draft,
    ExitCode,
    FindingCode,
    Log,
    LogReader,
    Previous,
    errors,
    fork_draft,
    note_sign,
    verify_log,
)
from ledger.log.dm1 import encode
from ledger.log.genesis import GENESIS_DOMAIN, genesis_draft, identity_from_body

PROOF = b"\x77" * 32


def codes(home, **arguments):
    return {(f.code, f.seq) for f in verify_log(home, **arguments).findings}


# --- a proven fork freezes the log --------------------


def test_a_log_proven_to_be_forked_takes_no_more_entries(tmp_path):
    log = new_log(tmp_path)
    assert log.frozen is None
    committed = log.freeze("K1", PROOF, NOW_US)
    assert (log.frozen.seq, log.frozen.proof) == (committed.entries[0].seq, PROOF)
    for _ in range(2):
        with pytest.raises(errors.LogFrozen) as caught:
            log.append([draft()], NOW_US)
        assert caught.value.exit_code == ExitCode.FORK_PROVEN
        for command in ("p2pfl ledger check-fork", "p2pfl ledger new-incarnation"):
            assert command in str(caught.value)
        with pytest.raises(errors.LogFrozen):
            log.freeze("K1", PROOF, NOW_US)
        log.close()
        log = Log.open(tmp_path, log=LOG_KEY)
    assert log.checkpoint.size == 2
    log.close()
    reader = LogReader.open(tmp_path)
    assert reader.frozen.proof == PROOF
    reader.close()
    assert codes(tmp_path) == set()


def test_a_frozen_log_still_keeps_what_is_no_entry(log):
    log.append([draft()], NOW_US)
    log.freeze("K2", PROOF, NOW_US)
    log.put_secret(1, "reason", bytes(32), b"value")
    with pytest.raises(errors.LogFrozen):
        log.redact(1, "reason", basis="art-17", now_us=NOW_US)


def test_a_fork_of_another_log_freezes_nothing(log):
    log.append([fork_draft(b"\1" * 32, "K3", PROOF, "node")], NOW_US)
    log.append([draft()], NOW_US)
    assert log.frozen is None


def test_a_fork_entry_without_a_proof_freezes_all_the_same(log):
    log.append([Draft("fork.found", "node", {"log_id": log.log_id})], NOW_US)
    assert log.frozen.proof == b""


def frozen_but_continued(home, *, batched):
    log = new_log(home)
    fork = fork_draft(log.log_id, "K1", PROOF, "node")
    if batched:
        log.append([fork, draft(1), draft(2)], NOW_US)
    else:
        log.append([fork], NOW_US)
        log._commits.commit([draft(1)], log.identity, NOW_US)
        log._commits.commit([draft(2)], log.identity, NOW_US)
    log.close()


def test_entries_of_the_commit_that_froze_the_log_are_fine(tmp_path):
    frozen_but_continued(tmp_path, batched=True)
    assert codes(tmp_path) == set()


def test_a_frozen_log_that_went_on_is_found(tmp_path):
    frozen_but_continued(tmp_path, batched=False)
    result = verify_log(tmp_path)
    assert [(f.code, f.seq) for f in result.findings] == [(FindingCode.WRITTEN_AFTER_FREEZE, 2)]
    assert result.exit_code == ExitCode.RULE_VIOLATED


def test_a_frozen_log_that_went_on_is_found_by_later_parts_alone(tmp_path):
    log = new_log(tmp_path)
    log.freeze("K1", PROOF, NOW_US)
    log._commits.commit([draft(i) for i in range(1_100)], log.identity, NOW_US)
    log._commits.commit([draft(1)], log.identity, NOW_US)
    log.close()
    assert codes(tmp_path, start=1_050) == {(FindingCode.WRITTEN_AFTER_FREEZE, 2)}


# --- losses: named, read-only, with the way out --------------------


def lose_database(home):
    (home / "ledger.db").unlink()


def lose_tail(home):
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM entry WHERE seq >= 7")


def cut_heads(home):
    (home / "heads.log").write_bytes((home / "heads.log").read_bytes()[:-300])


def flip_a_page(home):
    content = bytearray((home / "ledger.db").read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    (home / "ledger.db").write_bytes(content)


@pytest.mark.parametrize(
    ("lose", "error", "code", "status"),
    [
        (lose_database, errors.DatabaseLost, FindingCode.DATABASE_LOST, ExitCode.ROLLBACK),
        (lose_tail, errors.Rollback, FindingCode.TAIL_MISSING, ExitCode.ROLLBACK),
        (cut_heads, errors.HeadsCut, FindingCode.HEADS_CUT, ExitCode.ROLLBACK),
        (flip_a_page, errors.Corrupt, None, ExitCode.INTEGRITY_BROKEN),
    ],
)
def test_every_loss_is_named_read_only_and_shows_the_way_out(tmp_path, lose, error, code, status):
    home = tmp_path / "home"
    closed_log(home)
    lose(home)
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    with pytest.raises(error) as caught:
        Log.open(home, log=LOG_KEY)
    assert caught.value.exit_code == status
    for command in ("p2pfl ledger recover", "p2pfl ledger new-incarnation"):
        assert command in str(caught.value)
    with pytest.raises(error):
        LogReader.open(home)
    result = verify_log(home)
    assert result.exit_code == status
    assert code is None or code in {finding.code for finding in result.findings}
    assert {name: (home / name).read_bytes() for name in before} == before


def test_a_home_without_heads_never_had_a_ledger(tmp_path):
    (tmp_path / "heads.log").write_bytes(b"dl-ledger heads v1\norigin\n")
    with pytest.raises(errors.NoLedger):
        LogReader.open(tmp_path)


# --- a new incarnation --------------------


def incarnation(home, previous):
    return Log.create(
        home,
        deployment="tests",
        identity=IDENTITY,
        log=STRANGER,
        witness_pk=WITNESS.public_key,
        nonce=b"\x55" * 32,
        now_us=NOW_US,
        previous=previous,
    )


@pytest.fixture
def old(tmp_path):
    closed_log(tmp_path / "old")
    reader = LogReader.open(tmp_path / "old")
    reader.close()
    return reader


@pytest.mark.parametrize("missing_from", [0, 7, 10])
def test_a_new_incarnation_names_the_last_head_and_what_is_lost(old, tmp_path, missing_from):
    previous = Previous(old.log_id, old.note, missing_from)
    log = incarnation(tmp_path / "new", previous)
    assert log.identity.previous == previous
    assert log.log_id != old.log_id
    log.close()
    again = Log.open(tmp_path / "new", log=STRANGER)
    assert again.identity.previous == previous
    again.close()
    assert codes(tmp_path / "new") == set()


def test_a_new_incarnation_after_a_loss_that_nobody_witnessed(old, tmp_path):
    log = incarnation(tmp_path / "new", Previous(old.log_id, b"", 0))
    assert log.identity.previous.note == b""
    log.close()


def test_what_a_new_incarnation_names_must_fit(old, tmp_path):
    foreign = note_sign(Checkpoint("elsewhere", 3, bytes(32)).text, "elsewhere", STRANGER)
    itself = incarnation(tmp_path / "itself", None)
    itself.close()
    for previous in (
        Previous(old.log_id, old.note, 11),
        Previous(old.log_id, old.note, -1),
        Previous(old.log_id, b"", 1),
        Previous(old.log_id, b"no note", 0),
        Previous(old.log_id, foreign, 0),
        Previous(b"short", b"", 0),
        Previous(itself.log_id, b"", 0),
    ):
        with pytest.raises(errors.GenesisInvalid):
            incarnation(tmp_path / "new", previous)
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "previous",
    [
        "text",
        {"log_id": b"\1" * 32, "note": b""},
        {"log_id": b"\1" * 32, "note": b"", "missing_from": True},
        {"log_id": b"\1" * 32, "note": b"", "missing_from": 0, "more": 1},
        {"log_id": b"\1" * 32, "note": b"", "missing_from": 1},
    ],
)
def test_a_genesis_that_names_its_past_wrongly_is_refused(previous):
    body = dict(
        genesis_draft(
            deployment="tests",
            identity=IDENTITY,
            log_pk=LOG_KEY.public_key,
            witness_pk=WITNESS.public_key,
            nonce=bytes(32),
        ).body
    )
    del body["binding"]
    body["previous"] = previous
    body["binding"] = IDENTITY.sign(GENESIS_DOMAIN + encode(body))
    with pytest.raises(errors.GenesisInvalid):
        identity_from_body(body)


def test_a_genesis_has_no_other_fields():
    with pytest.raises(errors.GenesisInvalid):
        identity_from_body({"binding": b"", "surprise": 1})


def test_the_old_home_is_not_overwritten(old, tmp_path):
    with pytest.raises(errors.LedgerExists):
        incarnation(tmp_path / "old", Previous(old.log_id, old.note, 10))
    shutil.rmtree(tmp_path / "old")
