"""Founding a site and a consortium through the commands."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ops_sites import done, found, p2pfl, register

from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_LOCKED,
    EXIT_NO_INPUT,
    EXIT_USAGE,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home


def init(home: Path, *options: object, name: str = "site", listen: str = "127.0.0.1:7100") -> int:
    words = ("--name", name, "--listen", listen, "--consortium", "heart")
    return p2pfl("init", "--home", home, *words, *options).code


def test_init_makes_a_home_only_its_owner_can_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert init(home) == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for key in (home / "keys").iterdir():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert done("ledger", "verify", "--home", home).code == 0
    kinds = [entry["kind"] for entry in done("ledger", "show", "--home", home, "--json").json]
    assert kinds == ["log.genesis", "policy.changed"]


def test_init_never_overwrites(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert init(home) == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))
    assert init(home) == EXIT_CANNOT_CREATE
    assert sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "listen", "options"),
    [
        ("Charité", "127.0.0.1:7100", ()),
        ("site", "7100", ()),
        ("site", "127.0.0.1:70000", ()),
        ("site", "0.0.0.0:7100", ()),
        ("site", "0.0.0.0:7100", ("--announce", "0.0.0.0:7100")),
    ],
)
def test_init_refuses_names_and_addresses_that_cannot_work(
    tmp_path: Path, name: str, listen: str, options: tuple[str, ...]
) -> None:
    assert init(tmp_path / "home", *options, name=name, listen=listen) == EXIT_USAGE
    assert not (tmp_path / "home").exists()


def test_a_wildcard_listens_when_another_address_is_announced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = ("--announce", "node.charite.example:7100")
    assert init(home, *options, listen="0.0.0.0:7100") == 0
    assert "node.charite.example:7100" in (home / "config.toml").read_text()


def test_roster_comes_into_force_when_the_last_founder_signs(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("a", "b")]
    for at, home in enumerate(homes):
        init(home, name=home.name, listen=f"127.0.0.1:{7100 + at}")
    roster = tmp_path / "r.roster"
    cards = [home / f"{home.name}.card" for home in homes]
    created = done("roster", "create", *cards, "-o", roster, "--home", homes[0], "--json").json
    assert sorted(created["missing"]) == ["a", "b"]
    first = done("roster", "sign", roster, "--home", homes[0], "--json").json
    assert first["missing"] == ["b"]
    assert not first["installed"]
    assert p2pfl("roster", "show", "--home", homes[0]).code == EXIT_NO_INPUT
    early = p2pfl("roster", "install", roster, "--home", homes[0])
    assert early.code == EXIT_DATA
    assert "not signed by b" in early.err
    last = done("roster", "sign", roster, "--home", homes[1], "--json").json
    assert last["installed"]
    assert "In force" in done("roster", "install", roster, "--home", homes[0]).out
    entries = done("ledger", "show", "--home", homes[0], "--json").json
    changed = [entry["body"] for entry in entries if entry["kind"] == "roster.changed"]
    assert changed == [{"version": 1, "hash": last["digest"], "members": 2}]


def test_copies_signed_apart_are_put_together(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("a", "b")]
    for at, home in enumerate(homes):
        init(home, name=home.name, listen=f"127.0.0.1:{7100 + at}")
    copies = [tmp_path / "a.roster", tmp_path / "b.roster"]
    cards = [home / f"{home.name}.card" for home in homes]
    done("roster", "create", *cards, "-o", copies[0], "--home", homes[0])
    copies[1].write_bytes(copies[0].read_bytes())
    for home, copy in zip(homes, copies, strict=True):
        done("roster", "sign", copy, "--home", home)
    assert done("roster", "install", *copies, "--home", homes[0], "--json").json["installed"]


def test_installing_twice_records_once(tmp_path: Path) -> None:
    home, *_ = found(tmp_path, sites=2)
    done("roster", "install", tmp_path / "heart.roster", "--home", home)
    entries = done("ledger", "show", "--home", home, "--json").json
    assert [entry["kind"] for entry in entries].count("roster.changed") == 1


def test_another_founding_roster_cannot_replace_the_one_in_force(tmp_path: Path) -> None:
    home, *_ = found(tmp_path, sites=2)
    alone = tmp_path / "alone.roster"
    done("roster", "create", home / "site0.card", "-o", alone, "--home", home)
    refused = p2pfl("roster", "sign", alone, "--home", home)
    assert refused.code == EXIT_CANNOT_CREATE
    assert "already in force" in refused.err


def test_roster_without_this_sites_own_card_is_not_signed(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("a", "b")]
    for at, home in enumerate(homes):
        init(home, name=home.name, listen=f"127.0.0.1:{7100 + at}")
    roster = tmp_path / "b-only.roster"
    done("roster", "create", homes[1] / "b.card", "-o", roster, "--home", homes[0])
    refused = p2pfl("roster", "sign", roster, "--home", homes[0])
    assert refused.code == EXIT_DATA
    assert "no card of this site" in refused.err


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xc1" * 4000])
def test_garbage_is_no_card_and_no_roster(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "home"
    init(home)
    (tmp_path / "x").write_bytes(content)
    refused = p2pfl("roster", "create", tmp_path / "x", "-o", tmp_path / "r", "--home", home)
    assert refused.code == EXIT_DATA
    assert "is not a valid card" in refused.err
    refused = p2pfl("roster", "sign", tmp_path / "x", "--home", home)
    assert refused.code == EXIT_DATA
    assert "is not a valid roster" in refused.err


def test_a_home_in_use_names_who_uses_it(tmp_path: Path) -> None:
    home, *_ = found(tmp_path, sites=2)
    with hold_home(Home(home), purpose="node start"):
        refused = p2pfl("roster", "install", tmp_path / "heart.roster", "--home", home)
    assert refused.code == EXIT_LOCKED
    assert "in use by `p2pfl node start` (process" in refused.err


@pytest.mark.parametrize(
    ("file", "text", "hint"),
    [
        ("config.toml", 'lisen = "127.0.0.1:1"', 'did you mean "listen"?'),
        ("policy.toml", "alow_no_privacy = true", 'did you mean "allow_no_privacy"?'),
        ("policy.toml", "epsilon_cap = 1000.0", "expected 0.001 to 100"),
        ("policy.toml", 'rules = ["average"]', "expected one of gossip"),
        ("policy.toml", "= 3", "is not TOML"),
    ],
)
def test_mistakes_in_configuration_name_file_and_key(
    tmp_path: Path, file: str, text: str, hint: str
) -> None:
    home, *_ = found(tmp_path, sites=2)
    (home / file).write_text(text)
    refused = p2pfl("roster", "install", tmp_path / "heart.roster", "--home", home)
    assert refused.code == EXIT_CONFIG
    assert file in refused.err
    assert hint in refused.err


def test_a_changed_policy_is_recorded_with_the_next_entry(tmp_path: Path) -> None:
    home, *_ = found(tmp_path, sites=2)
    policy = home / "policy.toml"
    policy.write_text(policy.read_text() + "# stricter\n")
    assert register(home).code == 0
    kinds = [entry["kind"] for entry in done("ledger", "show", "--home", home, "--json").json]
    assert kinds[-2:] == ["policy.changed", "dataset.registered"]


def test_keys_show_shows_public_keys_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    init(home)
    shown = done("keys", "show", "--home", home, "--json").json
    secrets = [path.read_text().split()[-1] for path in (home / "keys").iterdir()]
    assert shown["fingerprint"].replace(" ", "") == shown["site"][:32]
    assert not [secret for secret in secrets if secret in str(shown)]


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    home, *_ = found(tmp_path, sites=2)
    (home / "keys" / "log.key").chmod(0o644)
    refused = p2pfl("roster", "install", tmp_path / "heart.roster", "--home", home)
    assert refused.code == EXIT_CONFIG
    assert "log.key" in refused.err
