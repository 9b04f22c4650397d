"""Homes that are none, configuration with a slip in it, and a first `init` gone wrong."""

from __future__ import annotations

from pathlib import Path

from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import p2pfl

FOUND = ("--name", "south", "--consortium", "heart")


def test_home_is_missing(row: Row, tmp_path: Path) -> None:
    row.check(p2pfl("study", "list", "--home", tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_home_is_another_directory(row: Row, tmp_path: Path) -> None:
    row.check(p2pfl("data", "list", "--home", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_home_is_a_file(row: Row, stage: Stage) -> None:
    row.check(p2pfl("data", "list", "--home", stage.table))


def test_init_over_a_home(row: Row, stage: Stage) -> None:
    identity = (stage.home / "keys" / "identity.key").read_bytes()
    stage.refused(row, "init", *FOUND, "--listen", "127.0.0.1:7100")
    assert (stage.home / "keys" / "identity.key").read_bytes() == identity


def test_init_over_other_files(row: Row, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep me")
    row.check(p2pfl("init", *FOUND, "--listen", "127.0.0.1:7100", "--home", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_listen_without_port(row: Row, tmp_path: Path) -> None:
    row.check(p2pfl("init", *FOUND, "--listen", "localhost", "--home", tmp_path / "h"))
    assert not (tmp_path / "h").exists()


def test_wildcard_without_announce(row: Row, tmp_path: Path) -> None:
    row.check(p2pfl("init", *FOUND, "--listen", "0.0.0.0:7100", "--home", tmp_path / "h"))
    assert not (tmp_path / "h").exists()


def test_site_name_with_a_space(row: Row, tmp_path: Path) -> None:
    words = ("--name", "St Mary", "--consortium", "heart", "--listen", "127.0.0.1:7100")
    row.check(p2pfl("init", *words, "--home", tmp_path / "h"))


def test_unknown_config_key(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "config.toml", "listen", "lisen")
    stage.refused(row, "node", "start")


def test_malformed_config(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "config.toml", 'name = "', "name = ")
    stage.refused(row, "node", "start")


def test_malformed_listen_address(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "config.toml", f"127.0.0.1:{stage.port}", "127.0.0.1:http")
    stage.refused(row, "node", "start")


def test_unknown_policy_key(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "policy.toml", "epsilon_cap", "epsilon_cup")
    stage.refused(row, "node", "start")
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")


def test_policy_out_of_range(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "policy.toml", "epsilon_cap = 8.0", "epsilon_cap = 800.0")
    stage.refused(row, "study", "approve", stage.study, "--data", "patients")


def test_policy_is_missing(row: Row, stage: Stage) -> None:
    (stage.home / "policy.toml").unlink()
    stage.refused(row, "node", "start")
