"""What a stranger arranged on the disk goes, however it is arranged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.runtime.foreign_folder import remove_folder

DEPTH = 3000
"""Deeper than Python's stack, and than the longest path."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def nest(folder: Path, depth: int, mode: int) -> None:
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir("x", 0o700)
            os.chdir("x")
            Path("file").write_bytes(b"x")
            os.chmod(".", mode)
    finally:
        os.chdir(here)


def test_folders_beyond_the_reach_of_paths_and_stack_are_removed(folder: Path) -> None:
    nest(folder, DEPTH, 0o700)
    (folder / "0").mkdir()  # a name that might be taken for what is moved up
    remove_folder(folder)
    assert not folder.exists()


def test_folders_that_are_closed_to_their_owner_are_removed(folder: Path) -> None:
    nest(folder, 3, 0o300)
    (folder / "no").mkdir(0)
    remove_folder(folder)
    assert not folder.exists()


def test_no_link_is_followed_out_of_it(folder: Path, tmp_path: Path) -> None:
    nest(folder, DEPTH, 0o700)
    kept = tmp_path / "kept"
    kept.mkdir(0o755)
    (kept / "file").write_bytes(b"x")
    (folder / "link").symlink_to(kept)
    (folder / "file").symlink_to(kept / "file")
    remove_folder(folder)
    assert not folder.exists()
    assert (kept / "file").read_bytes() == b"x"
    assert kept.stat().st_mode & 0o777 == 0o755


def test_where_there_is_nothing_nothing_happens(tmp_path: Path) -> None:
    remove_folder(tmp_path / "none")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    remove_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


WAITS = """
import signal, sys
from p2pfl.runtime.foreign_folder import temporary_folder
with temporary_folder("p2pfl-plan-") as folder:
    (folder / "image").write_bytes(b"x")
    print("ready", flush=True)
    while True:
        signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_who_ends_a_command_leaves_nothing_of_its_patients(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", WAITS]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert list(tmp_path.glob("p2pfl-plan-*/image"))
        process.send_signal(number)
        assert process.wait(60) != 0
    assert list(tmp_path.iterdir()) == []
