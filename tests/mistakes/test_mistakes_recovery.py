"""After a loss, and around keys and erased values: what is refused, and why."""

from __future__ import annotations

from mistakes_stage import Stage
from mistakes_table import Row


def test_nobody_answers_a_recovery(row: Row, stage: Stage) -> None:
    stage.refused(row, "ledger", "recover", "--wait", "1", "--yes")


def test_key_change_is_not_confirmed(row: Row, stage: Stage) -> None:
    key = (stage.home / "keys" / "log.key").read_bytes()
    stage.refused(row, "ledger", "rotate-key")
    assert (stage.home / "keys" / "log.key").read_bytes() == key


def test_time_of_a_theft_is_no_time(row: Row, stage: Stage) -> None:
    stage.refused(row, "ledger", "rotate-key", "--yes", "--compromised-since", "last week")


def test_erasing_what_is_not_there(row: Row, stage: Stage) -> None:
    stage.refused(row, "ledger", "redact", "1", "approver", "--basis", "gdpr-17", "--yes")


def test_spending_is_known(row: Row, stage: Stage) -> None:
    words = ("accept-spending", "patients", "--epsilon", "1", "--basis", "note", "--yes")
    stage.refused(row, "data", *words)
