"""Keys under a passphrase, a home made of them, and why it must not publish."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from feat_stage import Finished
from ops_sites import Ran, done, p2pfl

from p2pfl.runtime.commands.backups import require_not_restored
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home

PASSPHRASE = "seven wet horses sing"
VARIABLE = "BACKUP_PASSPHRASE"


@pytest.fixture
def backup(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup made beside the running node."""
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    path = tmp_path / "north.backup"
    ran = done("--home", finished.home, "keys", "backup", path, "--passphrase-env", VARIABLE)
    assert "not in it" in ran.out
    return path


def restore(home: Path, backup: Path) -> Ran:
    return p2pfl("--home", home, "keys", "restore", backup, "--passphrase-env", VARIABLE)


def test_a_restored_home_is_the_same_site_without_its_ledger(
    finished: Finished, backup: Path, tmp_path: Path
) -> None:
    home = tmp_path / "restored"
    ran = restore(home, backup)
    assert all(len(line) <= 80 for line in ran.out.splitlines()), ran.out
    assert ran.code == 0, ran.err
    assert "DO NOT publish" in ran.out
    before = done("--home", finished.home, "keys", "show", "--json").json
    after = done("--home", home, "keys", "show", "--json").json
    assert before.pop("card") != after.pop("card")
    assert before == after
    for name in ("identity.key", "transport.key", "log.key", "witness.key", "data.key"):
        restored = home / "keys" / name
        assert restored.read_bytes() == (finished.home / "keys" / name).read_bytes()
        assert stat.S_IMODE(restored.stat().st_mode) == 0o600
    for name in ("config.toml", "policy.toml", "roster/current.roster"):
        assert (home / name).read_bytes() == (finished.home / name).read_bytes()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_restored_home_is_marked_and_cannot_publish(
    finished: Finished, backup: Path, tmp_path: Path
) -> None:
    home = tmp_path / "restored"
    assert restore(home, backup).code == 0
    marker = (home / "keys" / "RESTORED").read_text()
    head = done("--home", finished.home, "ledger", "head", "--json").json
    assert f"the ledger had {head['size']} entries" in marker
    assert head["note"] in marker
    with pytest.raises(OperatorError, match="restored from a backup"):
        require_not_restored(Home(home))
    require_not_restored(Home(finished.home))
    table = finished.tables[0]
    # Not even with a ledger put beside the keys: nobody knows whether it is the newest.
    for name in ("ledger.db", "heads.log"):
        shutil.copy(finished.home / name, home / name)
    marked = p2pfl("--home", home, "node", "start")
    assert marked.code == EXIT_REFUSED
    assert "restored from a backup" in marked.err
    for name in ("ledger.db", "heads.log"):
        (home / name).unlink()
    for words in (("node", "start"), ("data", "add", table, "--name", "again")):
        ran = p2pfl("--home", home, *words)
        assert ran.code != 0
        assert "ledger" in ran.err


def test_a_backup_is_private_sealed_and_never_overwritten(finished: Finished, backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    content = backup.read_text()
    assert content.startswith("p2pfl-sealed-v1 key-backup argon2id-secretbox ")
    seed = (finished.home / "keys" / "identity.key").read_text().split()[-1]
    assert seed not in content
    words = ("--home", finished.home, "keys", "backup", backup, "--passphrase-env", VARIABLE)
    again = p2pfl(*words)
    assert again.code == EXIT_CANNOT_CREATE
    assert backup.read_text() == content


def test_restoring_never_touches_a_home_that_exists(finished: Finished, backup: Path) -> None:
    before = (finished.home / "config.toml").read_bytes()
    ran = restore(finished.home, backup)
    assert ran.code == EXIT_CANNOT_CREATE
    assert (finished.home / "config.toml").read_bytes() == before
    assert not (finished.home / "keys" / "RESTORED").exists()


def test_a_wrong_passphrase_a_changed_file_and_another_file_are_told_apart(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "restored"
    line = backup.read_text()
    changed = tmp_path / "changed"
    changed.write_text(line[:-3] + ("0" if line[-3] != "0" else "1") + line[-2:])
    assert restore(home, changed).code == EXIT_REFUSED
    costly = tmp_path / "costly"
    words = line.split(" ")
    costly.write_text(" ".join([*words[:4], "999999999999", *words[5:]]))
    assert "unreasonable" in restore(home, costly).err
    other = tmp_path / "other"
    other.write_text("no backup\n")
    assert restore(home, other).code == EXIT_DATA
    assert restore(home, tmp_path / "none").code == EXIT_NO_INPUT
    monkeypatch.setenv(VARIABLE, "another passphrase")
    wrong = restore(home, backup)
    assert wrong.code == EXIT_REFUSED
    assert "wrong passphrase" in wrong.err
    assert not home.exists()


def test_a_passphrase_comes_from_a_descriptor_and_is_long_enough(
    finished: Finished, tmp_path: Path
) -> None:
    def backed_up(name: str, passphrase: bytes) -> Ran:
        reading, writing = os.pipe()
        os.write(writing, passphrase)
        os.close(writing)
        try:
            words = ("keys", "backup", tmp_path / name, "--passphrase-fd", reading)
            return p2pfl("--home", finished.home, *words)
        finally:
            os.close(reading)

    assert backed_up("a", PASSPHRASE.encode() + b"\n").code == 0
    short = backed_up("b", b"short\n")
    assert short.code == EXIT_REFUSED
    assert "at least 12" in short.err
    assert not (tmp_path / "b").exists()


def test_a_passphrase_nobody_can_give_is_said(finished: Finished, tmp_path: Path) -> None:
    words = ("--home", finished.home, "keys", "backup", tmp_path / "x")
    for options in ((), ("--passphrase-env", "NOT_SET"), ("--passphrase-fd", 987)):
        assert p2pfl(*words, *options).code == EXIT_USAGE
    both = ("--passphrase-env", VARIABLE, "--passphrase-fd", 0)
    assert "exclude each other" in p2pfl(*words, *both).err
    assert not (tmp_path / "x").exists()
