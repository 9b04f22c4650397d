"""Disks that are full, files that were damaged: nothing is released, everything is named."""

import resource
from pathlib import Path

import pytest
from log_samples import LOG_KEY, NOW_US, closed_log, draft
from log_tampering import codes, sql

from ledger.log import FindingCode, Log, LogReader, Repair, errors, verify_log
from ledger.log.heads_file import (
    HeadRecord,
    HeadsFile,
    file_header,
)

COMMITS = (3, 1, 5)


@pytest.fixture
def home(tmp_path):
    closed_log(tmp_path / "home", COMMITS)
    return tmp_path / "home"


def test_a_full_disk_stops_the_log_and_loses_nothing_released(home):
    log = Log.open(home, log=LOG_KEY)
    log._writing._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(errors.WriteFailed):
        log.append([draft(padding=60_000)] * 3, NOW_US)
    with pytest.raises(errors.LogStopped):
        log.append([draft()], NOW_US)
    with pytest.raises(errors.LogStopped):
        log.put_secret(0, "reason", bytes(32), b"")
    log.close()
    log = Log.open(home, log=LOG_KEY)
    assert log.checkpoint.size == 10
    assert log.repairs == ()
    log.close()
    assert not verify_log(home).findings


def test_a_head_that_cannot_be_written_leaves_one_commit_to_release(home):
    log = Log.open(home, log=LOG_KEY)
    locked = log._commits._heads._file
    with Path("/dev/full").open("r+b", buffering=0) as log._commits._heads._file:
        with pytest.raises(errors.WriteFailed):
            log.append([draft(1), draft(2)], NOW_US)
        assert log.checkpoint.size == 10
        log.close()
    locked.close()
    reader = LogReader.open(home)
    assert reader.checkpoint.size == 10
    reader.close()
    assert codes(home) == {FindingCode.UNRELEASED}
    log = Log.open(home, log=LOG_KEY)
    assert log.repairs == (Repair.COMMIT_KEPT,)
    assert log.checkpoint.size == 12
    log.close()
    assert not verify_log(home).findings


def test_a_commit_that_reads_back_differently_is_never_released(home):
    log = Log.open(home, log=LOG_KEY)
    trigger = """CREATE TRIGGER flip AFTER INSERT ON entry BEGIN
        UPDATE entry SET raw = zeroblob(90) WHERE seq = new.seq; END"""
    log._writing._connection.execute(trigger)
    with pytest.raises(errors.LedgerError):
        log.append([draft(1)], NOW_US)
    with pytest.raises(errors.LogStopped):
        log.append([draft(1)], NOW_US)
    assert log.checkpoint.size == 10
    log.close()


def test_a_commit_that_vanishes_is_never_released(home):
    log = Log.open(home, log=LOG_KEY)
    trigger = """CREATE TRIGGER lose AFTER INSERT ON entry BEGIN
        DELETE FROM entry WHERE seq = new.seq; END"""
    log._writing._connection.execute(trigger)
    with pytest.raises(errors.Corrupt):
        log.append([draft(1)], NOW_US)
    log.close()


def test_a_head_written_in_part_counts_as_not_written(tmp_path):
    heads = HeadsFile(tmp_path)
    heads.start("tests/origin")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(file_header("tests/origin")) + 50, before[1]))
    try:
        with pytest.raises(OSError, match="wrote 50 of 108"):
            heads.append(HeadRecord(1, bytes(32), bytes(64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert heads.tail("tests/origin").torn_bytes == 50
    heads.close()


def test_secrets_on_a_full_disk_are_refused(home):
    log = Log.open(home, log=LOG_KEY)
    log._writing._connection.execute("PRAGMA max_page_count = 1")
    refused = 0
    for seq in range(10):
        try:
            log.put_secret(seq, "reason", bytes(32), bytes(4_096))
        except errors.WriteFailed:
            refused += 1
    assert refused
    log.close()
    assert not verify_log(home).findings


def test_a_table_that_is_gone_is_damage(home):
    sql(home, ("DROP TABLE node",))
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    assert codes(home) == {FindingCode.UNREADABLE}


def test_a_database_that_cannot_be_opened_is_an_input_output_error(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    for _ in range(2):
        with pytest.raises(errors.StoreError) as caught:
            LogReader.open(tmp_path)
        assert caught.value.exit_code == 74
        # With a write-ahead log beside it, nobody may say that nobody writes.
        (tmp_path / "ledger.db-wal").write_bytes(b"not empty")


def test_a_log_is_readable_where_sqlite_cannot_make_its_side_files(home):
    (home / "ledger.db-shm").mkdir()
    reader = LogReader.open(home)
    assert len(list(reader.entries())) == 10
    reader.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE seq = 3",
        "UPDATE entry SET raw = zeroblob(90) WHERE seq = 3",
        "UPDATE entry SET leaf = zeroblob(32) WHERE seq = 3",
        "UPDATE entry SET study = NULL WHERE seq = 2",
        "UPDATE entry SET kind = CAST(x'ff' AS TEXT) WHERE seq = 3",
        "UPDATE entry SET raw = (SELECT raw FROM entry WHERE seq = 4) WHERE seq = 3",
    ],
)
def test_reading_stops_at_a_damaged_entry(home, statement):
    sql(home, (statement,))
    reader = LogReader.open(home)
    with pytest.raises(errors.Corrupt):
        list(reader.entries())
    reader.close()


def test_bytes_that_sqlite_cannot_read_are_named(home):
    content = bytearray((home / "ledger.db").read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    (home / "ledger.db").write_bytes(content)
    with pytest.raises(errors.Corrupt):
        Log.open(home, log=LOG_KEY)
    assert codes(home) <= {FindingCode.UNREADABLE, FindingCode.GENESIS_INVALID}
    assert codes(home)
    (home / "ledger.db").write_bytes(b"not a database at all" * 500)
    with pytest.raises(errors.Corrupt):
        LogReader.open(home)
    assert codes(home) == {FindingCode.UNREADABLE}
