"""Home, lock and durable writing: one process at a time, never half a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.runtime.commands.failures import as_operator_error
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_IO, EXIT_LOCKED, OperatorError
from p2pfl.runtime.home import Home, create_directories, existing_home, write_durably
from p2pfl.runtime.lock import hold_home


def test_a_directory_is_a_home_once_it_has_its_configuration(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    create_directories(home)
    with pytest.raises(OperatorError, match="There is no home"):
        existing_home(home.path)
    home.config.write_text("")
    assert existing_home(home.path) == home


def test_a_directory_in_use_is_not_made_a_home(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(OperatorError) as caught:
        create_directories(Home(tmp_path))
    assert caught.value.exit_code == EXIT_CANNOT_CREATE
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_said() -> None:
    with pytest.raises(OperatorError, match="cannot be created") as caught:
        create_directories(Home(Path("/proc/p2pfl-home")))
    assert caught.value.exit_code == EXIT_CANNOT_CREATE


def test_writing_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OperatorError, match="cannot be written") as caught:
        write_durably(path, b"new")
    assert caught.value.exit_code == EXIT_IO
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        hold_home(home, purpose="node start"),
        pytest.raises(OperatorError) as caught,
        hold_home(home, purpose="data add"),
    ):
        pass
    assert caught.value.exit_code == EXIT_LOCKED
    assert f"`p2pfl node start` (process {os.getpid()})" in caught.value.message
    with hold_home(home, purpose="data add"):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, pathlib; from p2pfl.runtime.home import Home; "
        "from p2pfl.runtime.lock import hold_home\n"
        f"with hold_home(Home(pathlib.Path({str(tmp_path)!r})), purpose='node start'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode < 0
    with hold_home(Home(tmp_path), purpose="data add"):
        pass


def test_a_lock_in_a_missing_home_is_an_io_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as caught, hold_home(Home(tmp_path / "x"), purpose="p"):
        pass
    assert caught.value.exit_code == EXIT_IO


def test_disk_errors_become_sentences_and_bugs_stay_bugs() -> None:
    full = OSError(28, "No space left on device", "/home/ledger.db")
    known = as_operator_error(full)
    assert known is not None
    assert known.exit_code == EXIT_IO
    assert "The disk is full (writing /home/ledger.db)" in known.message
    assert "Free disk space" in known.fix
    assert as_operator_error(OSError(9, "Bad file descriptor")) is None
    assert as_operator_error(ZeroDivisionError()) is None
