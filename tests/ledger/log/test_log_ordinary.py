"""Pipes, devices and folders in place of a ledger's files are refused before they are opened."""

import os
import sqlite3

import pytest
from log_histories import opened

from ledger.log import LedgerError
from ledger.log.database import Database, corrupt_if_unreadable
from ledger.log.errors import Corrupt, NoLedger, StoreError
from ledger.log.heads_file import HeadsFile
from ledger.log.ordinary import NotAnOrdinaryFile, require_no_trap, require_ordinary


def test_a_pipe_a_device_and_a_folder_are_refused_and_links_are_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    require_ordinary(tmp_path / "file", tmp_path / "link", tmp_path / "loop", tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(NotAnOrdinaryFile, match="ordinary"):
            require_ordinary(tmp_path / "file", tmp_path / name)


def test_of_side_files_only_what_would_keep_a_reader_waiting_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    require_no_trap(tmp_path, tmp_path / "none")
    with pytest.raises(NotAnOrdinaryFile, match="ordinary"):
        require_no_trap(tmp_path, tmp_path / "pipe")


def test_a_disk_with_less_than_the_reserve_has_no_room_for_mirrors(tmp_path):
    for reserve, has_room in ((0, True), (1 << 60, False)):
        book = opened(tmp_path / "w.db", free_bytes_min=reserve)
        assert book.has_room is has_room
        book.close()


def test_the_last_heads_file_of_a_home_is_looked_at_too(tmp_path):
    os.mkfifo(tmp_path / "heads.log")
    with pytest.raises(LedgerError, match="ordinary"):
        Database.open_for_reading(tmp_path)


def test_heads_of_a_home_that_is_not_there_are_no_ledger(tmp_path):
    with pytest.raises(NoLedger, match="No such file"):
        HeadsFile(tmp_path / "nowhere")


def test_a_disk_that_fails_does_not_make_a_ledger_corrupt():
    """An input or output error is the disk's; a wrong statement is the table's."""
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR
    with pytest.raises(StoreError, match="disk I/O error"), corrupt_if_unreadable():
        raise failing
    with pytest.raises(Corrupt, match="no such table"), corrupt_if_unreadable():
        sqlite3.connect(":memory:").execute("SELECT 1 FROM absent")
