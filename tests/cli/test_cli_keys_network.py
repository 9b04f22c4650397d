"""A key backup and the network key: a restored home can connect, also from older backups."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ops_sites import done, found, p2pfl

from p2pfl.runtime.commands.backups import PURPOSE
from p2pfl.runtime.config import read_config, render_config
from p2pfl.runtime.errors import EXIT_CONFIG, EXIT_DATA
from p2pfl.runtime.home import Home
from p2pfl.runtime.network_key import network_key_file, read_network_key
from p2pfl.runtime.sealed_file import seal, unseal

PASSPHRASE = "seven wet horses sing"
VARIABLE = "BACKUP_PASSPHRASE"
SEALED = ("--passphrase-env", VARIABLE)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose consortium shares a network key."""
    folder = tmp_path_factory.mktemp("network")
    found(folder, sites=1, first_port=7461)
    home = Home(folder / "site0")
    done("keys", "network", "make", "--home", home.path)
    config = replace(read_config(home.config), network_key=True)
    home.config.write_bytes(render_config(config))
    return home


@pytest.fixture(scope="module")
def backup(founded: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("safe") / "north.keys"
    os.environ[VARIABLE] = PASSPHRASE
    ran = done("--home", founded.path, "keys", "backup", path, *SEALED)
    del os.environ[VARIABLE]
    assert "the network key" in ran.out
    return path


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)


def changed(backup: Path, path: Path, **network_key: str) -> Path:
    """The same backup with another network key in it, or with none as older versions wrote it."""
    packed = json.loads(unseal(backup.read_bytes(), PASSPHRASE, purpose=PURPOSE))
    del packed["network_key"]
    content = json.dumps({**packed, **network_key}).encode()
    path.write_bytes(seal(content, PASSPHRASE, purpose=PURPOSE, random_bytes=os.urandom))
    return path


def test_a_restored_home_has_the_network_key(founded: Home, backup: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "restored")
    told = done("--home", home.path, "keys", "restore", backup, *SEALED, "--json").json
    assert (told["network_key"], told["network_key_missing"]) == (True, False)
    key = read_network_key(home)
    assert key == read_network_key(founded)
    assert network_key_file(home).stat().st_mode & 0o777 == 0o600
    assert key.hex() not in backup.read_text()


def test_an_older_backup_is_restored_and_the_missing_network_key_is_named(
    backup: Path, tmp_path: Path
) -> None:
    older = changed(backup, tmp_path / "older")
    home = Home(tmp_path / "restored")
    ran = done("--home", home.path, "keys", "restore", older, *SEALED)
    assert "keys network take FILE" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert not network_key_file(home).exists()


def test_a_network_key_of_another_length_is_none(backup: Path, tmp_path: Path) -> None:
    wrong = changed(backup, tmp_path / "wrong", network_key="ab")
    ran = p2pfl("--home", tmp_path / "restored", "keys", "restore", wrong, *SEALED)
    assert ran.code == EXIT_DATA
    assert not (tmp_path / "restored").exists()


def test_a_backup_that_would_lack_a_key_in_force_is_not_made(founded: Home, tmp_path: Path) -> None:
    file = network_key_file(founded)
    file.rename(tmp_path / "away")
    try:
        ran = p2pfl("--home", founded.path, "keys", "backup", tmp_path / "b", *SEALED)
    finally:
        (tmp_path / "away").rename(file)
    assert ran.code == EXIT_CONFIG
    assert not (tmp_path / "b").exists()
