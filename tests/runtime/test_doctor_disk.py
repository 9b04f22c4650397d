"""The doctor's line about the disk: what is free where the home lies, or would lie."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pfl.runtime.commands.doctoring import Level
from p2pfl.runtime.commands.doctoring_machine import (
    DISK_BYTES_GOOD,
    DISK_BYTES_MIN,
    check_disk,
)


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (DISK_BYTES_GOOD, Level.OK),
        (DISK_BYTES_GOOD - 1, Level.WARN),
        (DISK_BYTES_MIN, Level.WARN),
        (DISK_BYTES_MIN - 1, Level.FAIL),
    ],
)
def test_little_room_is_a_warning_and_too_little_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    (check,) = check_disk(tmp_path)
    assert (check.name, check.level) == ("disk", level)
    assert f"{free / (1 << 30):.1f} GiB are free at {tmp_path}" in check.sentence
    assert ("larger disk" in check.fix) == (level is not Level.OK)


def test_a_home_that_is_not_made_yet_is_looked_at_where_it_would_lie(tmp_path: Path) -> None:
    (check,) = check_disk(tmp_path / "not" / "made" / "yet")
    assert str(tmp_path) in check.sentence
    assert "not/made" not in check.sentence


def test_a_read_only_disk_and_a_folder_of_somebody_else_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    (check,) = check_disk(tmp_path)
    assert (check.level, check.fix) == (Level.FAIL, "Check owner and mode.")
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY, f_bavail=9, f_bfree=9, f_blocks=9, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda place: read_only)
    (check,) = check_disk(tmp_path)
    assert (check.level, check.fix) == (Level.FAIL, "Mount it writable.")
