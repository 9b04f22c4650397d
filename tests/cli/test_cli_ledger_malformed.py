"""An audit of a home whose files are not what they should be: an exit code, a sentence, no hang."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ops_sites import p2pfl

from ledger.log import WitnessDatabase

HUGE_BYTES = 3 << 30
"""Sparse: it takes no room on the disk, and all memory of whoever reads it whole."""
PATIENCE_S = 60
LEDGER = ("ledger.db", "heads.log")
OTHERS = ("witness.db", "config.toml", "policy.toml", "roster/current.roster", "study", "dataset")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff\x00\xfe" * 500)


def huge(path: Path) -> None:
    os.truncate(path, HUGE_BYTES)


def leading_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nonexistent/file")


def leading_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folded(path: Path) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path) -> None:
    path.unlink()


HARMS = (
    emptied,
    halved,
    garbled,
    huge,
    leading_nowhere,
    leading_to_itself,
    endless,
    piped,
    folded,
    missing,
)

ENDLESS = (huge, leading_to_itself, endless, piped)
"""What would hang a program, or take all its memory, if it read without looking."""
CASES = [*((name, harm) for name in LEDGER for harm in HARMS)]
CASES += [(name, harm) for name in OTHERS for harm in ENDLESS]
PEER_FILES = (*LEDGER, "witness.db", "roster/current.roster")
PEER_CASES = [(name, harm) for name in PEER_FILES for harm in (garbled, endless, piped, folded)]


def named(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "")


@pytest.fixture
def home(consortium: Path, proposed: str) -> Path:
    home = consortium / "site0"
    WitnessDatabase.open(home / "witness.db").close()
    return home


@contextmanager
def patience() -> Iterator[None]:
    """Whoever waits for a pipe waits for ever: end it by name."""

    def out_of_patience(number: int, frame: object) -> None:
        raise TimeoutError("the audit hangs")

    before = signal.signal(signal.SIGALRM, out_of_patience)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def file_of(home: Path, name: str) -> Path:
    match name:
        case "study":
            (path,) = (home / "studies").glob("*.toml")
            return path
        case "dataset":
            return home / "data" / "patients" / "dataset.toml"
        case _:
            return home / name


@pytest.mark.parametrize(("name", "harm"), CASES, ids=named)
def test_an_audit_of_a_malformed_home_ends_with_a_sentence(
    home: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(file_of(home, name))
    with patience():
        ran = p2pfl("ledger", "audit", "--home", home)
    told = ran.out + ran.err
    assert ran.code in {0, 10, 11, 14, 65, 66, 74, 78}, told
    assert told.strip()
    assert "Traceback" not in told
    assert not (home / "logs" / "bugs.log").exists()
    if name in LEDGER and harm is not huge:
        assert ran.code in {10, 11, 74}, "the ledger itself is gone or harmed"


@pytest.mark.parametrize(("name", "harm"), PEER_CASES, ids=named)
def test_a_malformed_peer_takes_nothing_from_the_audit(
    home: Path, name: str, harm: Callable[[Path], None]
) -> None:
    peer = home.parent / "peer"
    shutil.copytree(home.parent / "site1", peer)
    WitnessDatabase.open(peer / "witness.db").close()
    harm(peer / name)
    with patience():
        ran = p2pfl("ledger", "audit", "--peers", peer, "--home", home, "--json")
    assert ran.code in {0, 14, 65, 66, 74}, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
