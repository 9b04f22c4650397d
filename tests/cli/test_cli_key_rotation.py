"""Replacing keys through the commands: transport key by a card, log and witness key on record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ops_sites import done, found, p2pfl

from gossip import ed25519
from gossip.keys import Role, key_path, read_key, read_keys
from ledger.log import LogReader
from p2pfl.runtime.commands.log_keys import keep_next_key, newest_keys
from p2pfl.runtime.commands.witness_keys import require_witness_key, witness_keys_of
from p2pfl.runtime.errors import EXIT_DATA, EXIT_LOCKED, EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.membership_files import members_of


@pytest.fixture(scope="module")
def two_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rotation")
    found(folder, sites=2, first_port=7451)
    return folder


@pytest.fixture
def two(two_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(two_once, tmp_path / "c")
    return tmp_path / "c" / "site0", tmp_path / "c" / "site1"


def transport_pk(home: Path) -> bytes:
    return ed25519.public_key_of(read_key(home / "keys", Role.TRANSPORT))


def named_at(home: Path, member: str) -> bytes:
    """The transport key under which one site knows another."""
    roster = members_of(Home(home))
    assert roster is not None
    return next(card.transport_pk for card in roster.members if card.name == member)


def test_a_new_transport_key_reaches_the_others_by_its_card(two: tuple[Path, Path]) -> None:
    one, other = two
    old, first_card = transport_pk(one), (one / "site0.card").read_bytes()
    asked = p2pfl("keys", "rotate", "transport", "--home", one)
    assert asked.code == EXIT_REFUSED
    assert transport_pk(one) == old
    rotated = done("keys", "rotate", "transport", "--yes", "--home", one, "--json").json
    assert rotated["serial"] == 1
    assert bytes.fromhex(rotated["new"]) == transport_pk(one) == named_at(one, "site0") != old
    assert named_at(other, "site0") == old
    taken = done("roster", "take-card", rotated["card"], "--home", other, "--json").json
    assert (taken["name"], taken["serial"]) == ("site0", 1)
    assert named_at(other, "site0") == transport_pk(one)
    done("roster", "take-card", rotated["card"], "--home", other)  # again: nothing new
    stale = other.parent / "stale.card"
    stale.write_bytes(first_card)
    assert p2pfl("roster", "take-card", stale, "--home", other).code == EXIT_DATA
    for home in two:
        kinds = [e["kind"] for e in done("ledger", "show", "--home", home, "--json").json]
        assert kinds.count("card.renewed") == 1
        assert done("ledger", "audit", "--home", home).code == 0


def test_a_card_that_is_nobodys_or_forged_is_not_taken(two: tuple[Path, Path]) -> None:
    one, other = two
    listen = ("--listen", "127.0.0.1:7459", "--consortium", "heart")
    done("init", "--home", one.parent / "oslo", "--name", "oslo", *listen)
    stranger = one.parent / "oslo" / "oslo.card"
    assert p2pfl("roster", "take-card", stranger, "--home", other).code == EXIT_REFUSED
    card = Path(done("keys", "rotate", "transport", "--yes", "--home", one, "--json").json["card"])
    forged = bytearray(card.read_bytes())
    forged[80] ^= 1
    card.write_bytes(forged)
    assert p2pfl("roster", "take-card", card, "--home", other).code == EXIT_DATA


def test_a_stop_in_between_leaves_the_key_that_the_card_names(two: tuple[Path, Path]) -> None:
    one, _ = two
    old, home = transport_pk(one), Home(one)
    keep_next_key(home, Role.TRANSPORT, bytes(range(32)))  # stopped before the card was made
    done("roster", "status", "--home", one)
    assert transport_pk(one) == old
    assert not key_path(home.keys / "next", Role.TRANSPORT).exists()
    rotated = done("keys", "rotate", "transport", "--yes", "--home", one, "--json").json
    # Stopped after the card was on record, before the key took its place:
    keep_next_key(home, Role.TRANSPORT, read_key(home.keys, Role.TRANSPORT))
    key_path(home.keys, Role.TRANSPORT).write_text(f"p2pfl-key-v1 transport plain {'11' * 32}\n")
    done("roster", "status", "--home", one)
    assert transport_pk(one) == bytes.fromhex(rotated["new"])


def test_keys_that_cannot_be_replaced_now_are_refused_with_what_to_do(
    two: tuple[Path, Path],
) -> None:
    one, _ = two
    since = ("--compromised-since", "2099-01-01T00:00:00Z")
    for key, code in (("witness", EXIT_USAGE), ("transport", EXIT_USAGE)):
        assert p2pfl("keys", "rotate", key, "--yes", *since, "--home", one).code == code
    with hold_home(Home(one), purpose="node start"):
        running = p2pfl("keys", "rotate", "transport", "--yes", "--home", one)
    assert running.code == EXIT_LOCKED
    assert "node start" in running.err


def test_keys_rotate_log_is_the_ledgers_own_rotation(two: tuple[Path, Path]) -> None:
    one, _ = two
    assert p2pfl("keys", "rotate", "log", "--home", one).code == EXIT_REFUSED
    done("keys", "rotate", "log", "--yes", "--home", one)
    kinds = [entry["kind"] for entry in done("ledger", "show", "--home", one, "--json").json]
    assert kinds[-1] == "key.rotated"


def witness_pk(home: Path) -> bytes:
    return ed25519.public_key_of(read_key(home / "keys", Role.WITNESS))


def plain_key(home: Path, role: Role, seed: bytes) -> None:
    key_path(home / "keys", role).write_text(f"p2pfl-key-v1 {role.value} plain {seed.hex()}\n")


def test_a_new_witness_key_is_on_record_on_the_card_and_shown(two: tuple[Path, Path]) -> None:
    one, _ = two
    old = witness_pk(one)
    asked = p2pfl("keys", "rotate", "witness", "--home", one)
    assert asked.code == EXIT_REFUSED
    assert "--compromised-since" in asked.err
    assert witness_pk(one) == old
    done("keys", "rotate", "witness", "--yes", "--home", one)
    since = ("--compromised-since", "2020-01-01T00:00:00Z")
    second = witness_pk(one)
    rotated = done("keys", "rotate", "witness", "--yes", *since, "--home", one, "--json").json
    assert [rotated["old"], rotated["new"]] == [second.hex(), witness_pk(one).hex()]
    assert rotated["serial"] == 2
    kinds = [e["kind"] for e in done("ledger", "show", "--home", one, "--json").json]
    assert [kinds.count(k) for k in ("key.rotated", "key.compromised", "card.renewed")] == [2, 1, 2]
    assert done("ledger", "audit", "--home", one).code == 0
    shown = done("keys", "show", "--home", one, "--json").json
    assert shown["witness"] == rotated["new"]
    assert [(k["key"], k["disowned"]) for k in shown["witness_before"]] == [
        (old.hex(), False),
        (second.hex(), True),
    ]
    roster = members_of(Home(one))
    assert roster is not None
    assert witness_pk(one) in {card.witness_pk for card in roster.members}
    told = done("keys", "show", "--home", one).out
    assert "not believed since 2020-01-01 00:00:00 UTC" in told


def test_a_stop_in_between_leaves_the_witness_key_that_the_ledger_names(
    two: tuple[Path, Path],
) -> None:
    one, home = two[0], Home(two[0])
    old = read_key(home.keys, Role.WITNESS)
    keep_next_key(home, Role.WITNESS, bytes(range(32)))  # stopped before the entry was written
    assert newest_keys(home).witness == old
    done("roster", "status", "--home", one)
    assert read_key(home.keys, Role.WITNESS) == old
    assert not key_path(home.keys / "next", Role.WITNESS).exists()
    done("keys", "rotate", "witness", "--yes", "--home", one)
    # Stopped after the entry was durable, before the key took its place:
    new = read_key(home.keys, Role.WITNESS)
    keep_next_key(home, Role.WITNESS, new)
    plain_key(one, Role.WITNESS, old)
    assert newest_keys(home).witness == new, "a backup that is made now is of use"
    done("roster", "status", "--home", one)
    assert read_key(home.keys, Role.WITNESS) == new


def test_a_home_with_an_old_witness_key_does_not_start_and_can_make_another(
    two: tuple[Path, Path],
) -> None:
    """Its keys come from a backup of before."""
    one, home = two[0], Home(two[0])
    old = read_key(home.keys, Role.WITNESS)
    done("keys", "rotate", "witness", "--yes", "--home", one)
    plain_key(one, Role.WITNESS, old)
    reader = LogReader.open(one)
    identity = reader.identity
    reader.close()
    with pytest.raises(OperatorError, match="refuse what the old one signs") as refused:
        require_witness_key(read_keys(home.keys), identity)
    assert "keys rotate witness" in refused.value.fix
    done("keys", "rotate", "witness", "--yes", "--home", one)
    named = witness_keys_of(home)
    assert len(named) == 3
    assert named[-1].public_key == witness_pk(one)
