"""Cards, rosters and keys that are not what they have to be."""

from __future__ import annotations

from pathlib import Path

from free_ports import neighbouring_ports
from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import done, found, p2pfl


def flipped(path: Path, at: int) -> None:
    """Change one byte of a file."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def unsigned(stage: Stage) -> Path:
    """A roster of both sites that only the first has signed."""
    cards = (stage.home / "site0.card", stage.other / "site1.card")
    roster = stage.path / "new.roster"
    done("roster", "create", *cards, "-o", roster, "--home", stage.home)
    done("roster", "sign", roster, "--home", stage.home)
    return roster


def without_us(stage: Stage) -> Path:
    """A complete roster of two other sites of the same consortium."""
    found(stage.path / "strangers", sites=2, first_port=neighbouring_ports(2))
    return stage.path / "strangers" / "heart.roster"


def test_card_was_altered(row: Row, stage: Stage) -> None:
    flipped(stage.other / "site1.card", 60)
    cards = (stage.home / "site0.card", stage.other / "site1.card")
    stage.refused(row, "roster", "create", *cards, "-o", stage.path / "x.roster")
    assert not (stage.path / "x.roster").exists()


def test_card_is_another_file(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "create", stage.table, "-o", stage.path / "x.roster")


def test_signature_is_missing(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "install", unsigned(stage))


def test_roster_file_was_altered(row: Row, stage: Stage) -> None:
    roster = unsigned(stage)
    flipped(roster, 200)
    stage.refused(row, "roster", "sign", roster)


def test_roster_without_us(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "install", without_us(stage))


def test_roster_is_missing(row: Row, tmp_path: Path) -> None:
    options = ("--name", "south", "--listen", "127.0.0.1:7100", "--consortium", "heart")
    done("init", *options, "--home", tmp_path / "south")
    row.check(p2pfl("node", "start", "--home", tmp_path / "south"))


def test_roster_in_force_is_damaged(row: Row, stage: Stage) -> None:
    in_force = stage.home / "roster" / "current.roster"
    flipped(in_force, 200)
    stage.refused(row, "node", "start")
    # What the sentence advises works.
    in_force.rename(stage.path / "damaged")
    done("roster", "install", stage.path / "heart.roster", "--home", stage.home)


def test_roster_in_force_was_exchanged(row: Row, stage: Stage) -> None:
    raw = without_us(stage).read_bytes()
    (stage.home / "roster" / "current.roster").write_bytes(raw)
    stage.refused(row, "node", "start")


def test_second_consortium_in_one_home(row: Row, stage: Stage) -> None:
    (stage.home / "roster" / "current.roster").unlink()
    lone = stage.path / "lone.roster"
    done("roster", "create", stage.home / "site0.card", "-o", lone, "--home", stage.home)
    stage.refused(row, "roster", "sign", lone)


def test_key_is_open_to_others(row: Row, stage: Stage) -> None:
    key = stage.home / "keys" / "identity.key"
    key.chmod(0o644)
    stage.refused(row, "node", "start")
    key.chmod(0o600)
    done("data", "revoke", "patients", "--home", stage.home)


def test_key_is_missing(row: Row, stage: Stage) -> None:
    (stage.home / "keys" / "transport.key").unlink()
    stage.refused(row, "node", "start")


def test_key_of_another_site(row: Row, stage: Stage) -> None:
    (stage.home / "keys" / "log.key").write_bytes((stage.other / "keys" / "log.key").read_bytes())
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")
