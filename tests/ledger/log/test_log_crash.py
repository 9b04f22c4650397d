"""Stopped at any instant: what opening a log makes of what it finds."""

import shutil

import pytest
from log_samples import LOG_KEY, NOW_US, closed_log, draft, new_log
from log_tampering import codes, sql

from ledger.log import FindingCode, Log, LogReader, OnDamage, Repair, errors, verify_log
from ledger.log.heads_file import (
    RECORD_BYTES,
    file_header,
    pack_record,
)

COMMITS = (3, 1, 5)


@pytest.fixture
def home(tmp_path):
    closed_log(tmp_path / "home", COMMITS)
    return tmp_path / "home"


def header_bytes(home):
    reader = LogReader.open(home)
    length = len(file_header(reader.origin))
    reader.close()
    return length


def test_heads_log_cut_at_every_byte(home, tmp_path):
    content = (home / "heads.log").read_bytes()
    start = header_bytes(home)
    assert len(content) == start + 4 * RECORD_BYTES
    # Every byte of the last record and of the header's end; in between the edges of records.
    cuts = {*range(len(content) - RECORD_BYTES - 1, len(content) + 1), *range(0, len(content), 36)}
    for length in sorted(cuts):
        copy = tmp_path / f"cut{length}"
        shutil.copytree(home, copy)
        (copy / "heads.log").write_bytes(content[:length])
        whole = max(0, length - start) // RECORD_BYTES
        if whole < 3:
            # More than one released head is gone: that is no crash.
            with pytest.raises(errors.HeadsCut) as caught:
                Log.open(copy, log=LOG_KEY)
            assert caught.value.exit_code == 11
            assert FindingCode.HEADS_CUT in codes(copy)
            with pytest.raises(errors.HeadsCut):
                LogReader.open(copy)
        else:
            assert verify_log(copy).exit_code == 0
            reader = LogReader.open(copy)
            assert reader.checkpoint.size == (10 if whole == 4 else 5)
            reader.close()
            log = Log.open(copy, log=LOG_KEY)
            assert log.checkpoint.size == 10
            torn = Repair.TORN_HEAD_CUT in log.repairs
            assert torn == (length not in {start + 3 * RECORD_BYTES, len(content)})
            assert (Repair.COMMIT_KEPT in log.repairs) == (whole == 3)
            log.append([draft(7)], NOW_US)
            log.close()
            # A signature is deterministic: releasing the same head again tells nobody two stories.
            assert (copy / "heads.log").read_bytes().startswith(content)
            assert not verify_log(copy).findings
        shutil.rmtree(copy)


@pytest.mark.parametrize("offset", range(0, RECORD_BYTES, 9))
def test_a_damaged_last_record_is_like_a_torn_write(home, offset):
    content = bytearray((home / "heads.log").read_bytes())
    content[-1 - offset] ^= 0x10
    (home / "heads.log").write_bytes(content)
    assert codes(home) == {FindingCode.TORN_HEAD, FindingCode.UNRELEASED}
    log = Log.open(home, log=LOG_KEY)
    assert log.repairs == (Repair.TORN_HEAD_CUT, Repair.COMMIT_KEPT)
    log.close()
    assert not verify_log(home).findings


def test_two_damaged_records_are_no_torn_write(home):
    content = bytearray((home / "heads.log").read_bytes())
    content[-1] ^= 1
    content[-1 - RECORD_BYTES] ^= 1
    (home / "heads.log").write_bytes(content)
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    assert FindingCode.HEAD_ALTERED in codes(home)


def test_a_damaged_record_in_the_middle_is_found(home):
    content = bytearray((home / "heads.log").read_bytes())
    content[-1 - 2 * RECORD_BYTES] ^= 1
    (home / "heads.log").write_bytes(content)
    Log.open(home, log=LOG_KEY).close()
    assert codes(home) == {FindingCode.HEAD_ALTERED}


def test_repeated_records_are_found(home):
    content = (home / "heads.log").read_bytes()
    (home / "heads.log").write_bytes(content + content[-RECORD_BYTES:])
    assert codes(home) == {FindingCode.HEAD_ALTERED}


def test_heads_log_of_another_log_is_refused(home, tmp_path):
    new_log(tmp_path / "other", nonce=b"\1" * 32).close()
    shutil.copy(tmp_path / "other" / "heads.log", home / "heads.log")
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    assert FindingCode.HEAD_ALTERED in codes(home)


def test_a_missing_heads_log_is_a_cut_one(home):
    (home / "heads.log").unlink()
    assert FindingCode.HEADS_CUT in codes(home)
    with pytest.raises(errors.HeadsCut):
        LogReader.open(home)
    with pytest.raises(errors.HeadsCut):
        Log.open(home, log=LOG_KEY)


def test_an_older_database_is_a_rollback(home, tmp_path):
    shutil.copytree(home, tmp_path / "backup")
    log = Log.open(home, log=LOG_KEY)
    log.append([draft(1)], NOW_US)
    log.close()
    shutil.copy(tmp_path / "backup" / "ledger.db", home / "ledger.db")
    with pytest.raises(errors.Rollback) as caught:
        Log.open(home, log=LOG_KEY)
    assert caught.value.exit_code == 11
    assert "p2pfl ledger recover" in str(caught.value)
    assert "p2pfl ledger new-incarnation" in str(caught.value)
    with pytest.raises(errors.Rollback):
        LogReader.open(home)
    assert codes(home) == {FindingCode.ROLLBACK}
    assert verify_log(home).exit_code == 11


def test_damaged_files_can_still_be_looked_at(home):
    sql(home, ("DELETE FROM entry WHERE seq >= 7",))
    reader = LogReader.open(home, on_damage=OnDamage.SHOW)
    assert isinstance(reader.damage, errors.Rollback)
    assert [entry.seq for entry in reader.entries()] == list(range(7))
    assert reader.checkpoint.size == 7
    reader.close()
    (home / "heads.log").unlink()
    sql(home, ("UPDATE head SET size = 7",))
    reader = LogReader.open(home, on_damage=OnDamage.SHOW)
    assert isinstance(reader.damage, errors.HeadsCut)
    assert len(list(reader.entries())) == 7
    reader.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM head",
        "UPDATE head SET size = 11",
        "UPDATE head SET size = 'ten'",
        "UPDATE entry SET leaf = zeroblob(32) WHERE seq = 9",
        "UPDATE entry SET raw = zeroblob(90) WHERE seq = 9",
        "UPDATE entry SET kind = x'00' WHERE seq = 9",
        "UPDATE node SET h = zeroblob(32) WHERE lvl = 3 AND idx = 0",
        "DELETE FROM node WHERE lvl = 3 AND idx = 0",
        "UPDATE node SET h = 'text' WHERE lvl = 3 AND idx = 0",
        "UPDATE entry SET raw = zeroblob(90) WHERE seq = 0",
        "DELETE FROM entry WHERE seq = 0",
    ],
)
def test_files_that_contradict_each_other_are_not_written_to(home, statement):
    sql(home, (statement,))
    before = (home / "heads.log").read_bytes()
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    with pytest.raises(errors.Corrupt):
        LogReader.open(home)
    assert (home / "heads.log").read_bytes() == before
    assert verify_log(home).exit_code == 10 or "head" in statement


def cut_last_head(home):
    content = (home / "heads.log").read_bytes()
    (home / "heads.log").write_bytes(content[:-RECORD_BYTES])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET raw = zeroblob(90) WHERE seq = 7",
        "UPDATE entry SET leaf = zeroblob(32) WHERE seq = 7",
        "UPDATE entry SET kind = 'other' WHERE seq = 7",
        "UPDATE entry SET study = zeroblob(32) WHERE seq = 7",
        "UPDATE node SET h = zeroblob(32) WHERE lvl = 1 AND idx = 3",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET signature = zeroblob(64)",
        "DELETE FROM entry WHERE seq = 7",
    ],
)
def test_an_unreleased_commit_is_kept_only_if_all_of_it_is_valid(home, statement):
    cut_last_head(home)
    sql(home, (statement,))
    with pytest.raises(errors.Corrupt) as caught:
        Log.open(home, log=LOG_KEY)
    assert "unreleased" in str(caught.value)


def test_a_released_head_with_a_wrong_signature_is_refused(home):
    content = (home / "heads.log").read_bytes()
    log = LogReader.open(home)
    forged = type(log._released)(log._released.size, log._released.root, bytes(64))
    log.close()
    (home / "heads.log").write_bytes(content[:-RECORD_BYTES] + pack_record(forged))
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    assert codes(home) == {FindingCode.HEAD_ALTERED}


def test_a_creation_cut_before_its_first_commit_can_be_done_again(tmp_path):
    home = tmp_path / "home"
    new_log(home).close()
    sql(home, ("DELETE FROM entry",), ("DELETE FROM head",))
    header = (home / "heads.log").read_bytes()[:-RECORD_BYTES]
    for left_over in (b"", b"dl-led", header):
        (home / "heads.log").write_bytes(left_over)
        with pytest.raises(errors.NoLedger):
            Log.open(home, log=LOG_KEY)
        again = tmp_path / f"again{len(left_over)}"
        shutil.copytree(home, again)
        new_log(again, nonce=b"\1" * 32).close()
        assert not verify_log(again).findings


def test_a_lost_database_is_not_replaced_by_a_new_log(home):
    (home / "ledger.db").unlink()
    with pytest.raises(errors.LedgerExists):
        new_log(home)


def test_a_creation_cut_before_its_tables_can_be_done_again(tmp_path):
    (tmp_path / "ledger.db").touch()
    with pytest.raises(errors.NoLedger):
        LogReader.open(tmp_path)
    new_log(tmp_path).close()
    assert not verify_log(tmp_path).findings


@pytest.mark.parametrize("length", [0, 10, None])
def test_a_creation_cut_before_its_first_release_is_kept(tmp_path, length):
    home = tmp_path / "home"
    new_log(home).close()
    start = header_bytes(home)
    content = (home / "heads.log").read_bytes()
    (home / "heads.log").write_bytes(content[: start if length is None else length])
    reader = LogReader.open(home)
    assert reader.checkpoint.size == 1
    reader.close()
    log = Log.open(home, log=LOG_KEY)
    assert Repair.COMMIT_KEPT in log.repairs
    log.close()
    assert (home / "heads.log").read_bytes() == content
