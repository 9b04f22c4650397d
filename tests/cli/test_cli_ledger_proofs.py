"""Single proofs from the command line, and audits that compare, are strict, or tell of a part."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from ledger.log import ExitCode
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, EXIT_USAGE


@pytest.fixture
def home(consortium: Path, proposed: str) -> Path:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    return home


def test_an_entry_is_proved_to_whoever_has_the_logs_key(home: Path, tmp_path: Path) -> None:
    made = done("ledger", "prove", "inclusion", 5, "--out", tmp_path, "--home", home, "--json").json
    assert made["is_private"] is False
    checked = ("ledger", "check-proof", made["file"], "--home", tmp_path / "nowhere")
    seen = done(*checked, "--key", made["key"]).out
    assert "entry 5 of this log, under its head of 6" in seen
    assert p2pfl(*checked).code == EXIT_USAGE  # there is no roster to take a key from
    assert done("ledger", "check-proof", made["file"], "--home", home, "--json").json["size"] == 6
    entry = (tmp_path / "entry-5.entry").read_bytes()
    # The last byte of a signature is often 0 by chance: it has to be another one.
    (tmp_path / "other").write_bytes(entry[:-1] + bytes([entry[-1] ^ 1]))
    refused = p2pfl(*checked, "--key", made["key"], "--entry", tmp_path / "other")
    assert refused.code == EXIT_DATA
    again = p2pfl("ledger", "prove", "inclusion", 5, "--out", tmp_path, "--home", home)
    assert again.code == EXIT_NO_INPUT
    said = done("ledger", "prove", "inclusion", 3, "--out", tmp_path, "--home", home).out
    assert "only this site may read" in said
    assert p2pfl("ledger", "prove", "inclusion", 6, "--home", home).code == EXIT_USAGE
    assert p2pfl(*checked, "--key", "nonsense").code == EXIT_USAGE


def test_growth_is_proved_between_released_heads(home: Path, tmp_path: Path) -> None:
    text = done("ledger", "prove", "consistency", 3, 6, "--out", tmp_path, "--home", home).out
    assert "3-6.consistency-proof" in text
    proof = tmp_path / "3-6.consistency-proof"
    seen = done("ledger", "check-proof", proof, "--home", home).out
    assert "begins with the 3 that it had" in seen
    missing = p2pfl("ledger", "prove", "consistency", 3, 99, "--home", home)
    assert missing.code == EXIT_NO_INPUT
    assert "the nearest: " in missing.err
    turned = p2pfl("ledger", "prove", "consistency", 6, 3, "--home", home)
    assert turned.code == EXIT_USAGE
    assert "prove consistency 3 6" in turned.err


def test_an_audit_compares_with_the_neighbours_ledger(home: Path, consortium: Path) -> None:
    other = consortium / "site1"
    text = done("ledger", "audit", "--peers", other, "--home", home).out
    assert "Compared with what 1 other sites' ledgers" in text
    nothing = p2pfl("ledger", "audit", "--peers", "network", "--home", home)
    assert nothing.code == EXIT_NO_INPUT
    assert "p2pfl node start" in nothing.err
    empty = p2pfl("ledger", "audit", "--peers", consortium, "--home", home)
    assert empty.code == EXIT_NO_INPUT


def test_a_strict_audit_says_what_is_missing(home: Path) -> None:
    strict = p2pfl("ledger", "audit", "--strict", "--no-replay", "--home", home)
    assert strict.code == ExitCode.EVIDENCE_INCOMPLETE
    assert "[evidence.not_checked]" in strict.out.replace("\n", " ").replace("     ", "")
    assert max(map(len, strict.out.splitlines())) <= 80


def test_an_audit_tells_of_what_was_asked_for(home: Path, proposed: str) -> None:
    name = done("study", "list", "--home", home, "--json").json[0]["name"]
    for study in (proposed[:8], name):
        told = done("ledger", "audit", "--study", study, "--since", "2020-01-31", "--home", home)
        assert f"{name} (" in told.out
        assert "since 2020-01-31" in told.out
    for options in (("--study", "abc"), ("--study", "feedfeed"), ("--model", "feedfeed")):
        unknown = p2pfl("ledger", "audit", *options, "--home", home)
        assert unknown.code == EXIT_NO_INPUT
        assert "of this ledger" in unknown.err
    assert p2pfl("ledger", "audit", "--since", "monday", "--home", home).code == EXIT_USAGE
