"""Votes and addresses that cannot be what somebody meant."""

from __future__ import annotations

from free_ports import neighbouring_ports
from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import done, found


def test_second_proposal_in_one_vote(row: Row, stage: Stage) -> None:
    done("roster", "propose-remove", "site1", "--home", stage.home)
    stage.refused(row, "roster", "propose-remove", "site0")


def test_proposal_is_not_here(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "sign", "abcdef123456", "--yes")


def test_removes_no_member(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "propose-remove", "nobody")


def test_adds_a_member(row: Row, stage: Stage) -> None:
    stage.refused(row, "roster", "propose-add", stage.other / "site1.card")


def test_address_of_another_member(row: Row, stage: Stage) -> None:
    shown = done("roster", "show", "--home", stage.home, "--json").json
    (taken,) = next(m["addresses"] for m in shown["members"] if m["name"] == "site1")
    stage.refused(row, "roster", "set-address", taken)


def test_chain_of_another_consortium(row: Row, stage: Stage) -> None:
    homes = found(stage.path / "strangers", sites=2, first_port=neighbouring_ports(2))
    chain = stage.path / "chain"
    done("roster", "export", "--out", chain, "--home", homes[0])
    stage.refused(row, "roster", "install", chain)
