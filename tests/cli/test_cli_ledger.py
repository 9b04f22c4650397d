"""Reading the ledger through the commands: verdicts, exit codes, beside a running writer."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from ledger.log import ExitCode, Log, Signer
from p2pfl.runtime.errors import EXIT_USAGE


@pytest.fixture
def home(consortium: Path, proposed: str) -> Path:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    return home


def test_a_whole_ledger_is_clean(home: Path) -> None:
    verified = done("ledger", "verify", "--home", home, "--json").json
    assert verified["exit_code"] == 0
    assert verified["findings"] == []
    assert verified["size"] == 6
    head = done("ledger", "head", "--home", home, "--json").json
    assert head["root"] == verified["root"]
    assert done("ledger", "head", "--home", home).out == head["note"]


@pytest.mark.parametrize("sigs", ["all", "heads", "none"])
def test_signatures_to_verify_can_be_chosen(home: Path, sigs: str) -> None:
    assert "6 entries, 0 findings" in done("ledger", "verify", "--sigs", sigs, "--home", home).out


def test_an_altered_entry_ends_verify_and_audit_with_its_exit_code(home: Path) -> None:
    with sqlite3.connect(home / "ledger.db") as database:
        (raw,) = database.execute("SELECT raw FROM entry WHERE seq = 3").fetchone()
        altered = raw[:80] + bytes([raw[80] ^ 1]) + raw[81:]
        database.execute("UPDATE entry SET raw = ? WHERE seq = 3", (altered,))
    verified = p2pfl("ledger", "verify", "--home", home)
    assert verified.code == ExitCode.INTEGRITY_BROKEN
    assert "entry 3" in verified.out
    assert p2pfl("ledger", "audit", "--home", home).code == ExitCode.INTEGRITY_BROKEN
    changed = p2pfl("data", "revoke", "patients", "--home", home)
    assert changed.code == ExitCode.INTEGRITY_BROKEN
    assert "→ Do not write to it" in changed.err


def test_cut_entries_end_with_the_code_for_lost_ones(home: Path) -> None:
    with sqlite3.connect(home / "ledger.db") as database:
        database.execute("DELETE FROM entry WHERE seq = 5")
    assert p2pfl("ledger", "verify", "--home", home).code == ExitCode.ROLLBACK


def test_no_ledger_is_said(home: Path) -> None:
    (home / "ledger.db").unlink()
    missing = p2pfl("ledger", "head", "--home", home)
    assert missing.code == ExitCode.ROLLBACK
    assert "its ledger.db is gone" in missing.err


def test_audit_names_people_and_prints_json(home: Path) -> None:
    text = done("ledger", "audit", "--home", home).out
    assert "The ledger of site0 is whole" in text
    assert "patients registered" in text
    assert max(map(len, text.splitlines())) <= 80
    for options in (("--format", "json"), ("--json",)):
        report = json.loads(done("ledger", "audit", "--home", home, *options).out)
        assert report["exit_code"] == 0


def test_reading_works_while_a_writer_holds_the_ledger(home: Path) -> None:
    seed = bytes.fromhex((home / "keys" / "log.key").read_text().split()[-1])
    log = Log.open(home, log=Signer(seed))
    try:
        for words in (
            ("ledger", "verify"),
            ("ledger", "audit"),
            ("ledger", "head"),
            ("ledger", "show"),
            ("privacy", "status"),
            ("study", "list"),
            ("data", "list"),
        ):
            done(*words, "--home", home)
    finally:
        log.close()


def test_show_pages_through_entries(home: Path) -> None:
    kinds = [
        entry["kind"]
        for entry in done("ledger", "show", "--home", home, "--from", 1, "-n", 2, "--json").json
    ]
    assert kinds == ["policy.changed", "roster.changed"]
    last = done("ledger", "show", "--home", home, "-n", 1).out
    assert "study.approved  by data-owner" in last
    assert max(map(len, last.splitlines())) <= 80
    assert p2pfl("ledger", "show", "--home", home, "--from", -3).code == EXIT_USAGE


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_first_entry_beyond_the_end_is_named_with_the_range(home: Path, command: str) -> None:
    beyond = p2pfl("ledger", command, "--from", "99999", "--home", home)
    assert beyond.code == EXIT_USAGE
    assert "no entry 99999" in beyond.err
    assert "0 to 5" in beyond.err
