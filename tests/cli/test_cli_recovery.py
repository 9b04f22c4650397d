"""Commands of the months after: a new log key, an erased name, a decision on unknown spending."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from gossip.keys import read_keys
from ledger.log import ExitCode, Log, LogReader, Signer
from ledger.log.errors import SecretMissing
from ledger.provenance import kinds
from p2pfl.runtime.commands.carrying import carried_over


@pytest.fixture
def home(consortium: Path, proposed: str) -> Path:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    return home


def _log_pk(home: Path) -> bytes:
    with closing(LogReader.open(home)) as reader:
        return reader.identity.log_pk


def test_a_new_log_key_goes_on_and_the_old_one_is_disowned(home: Path) -> None:
    old = _log_pk(home)
    asked = p2pfl("ledger", "rotate-key", "--home", home)
    assert asked.code == 1
    assert "--yes" in asked.err
    since = ("--compromised-since", "2026-01-01T00:00:00Z")
    rotated = done("ledger", "rotate-key", "--yes", *since, "--home", home, "--json").json
    assert bytes.fromhex(rotated["old"]) == old
    assert _log_pk(home) == Signer(read_keys(home / "keys").log).public_key != old
    done("data", "revoke", "patients", "--home", home)
    # What a disowned key signed is believed as far as others cosigned it, and here nobody did.
    audited = p2pfl("ledger", "audit", "--home", home, "--json")
    assert audited.code == ExitCode.EVIDENCE_INCOMPLETE
    assert [found["code"] for found in audited.json["findings"]] == ["log.key-compromised"]
    assert not (home / "keys" / "next" / "log.key").exists()


def test_a_key_change_that_was_interrupted_is_finished_at_the_next_command(home: Path) -> None:
    done("ledger", "rotate-key", "--yes", "--home", home)
    new = home / "keys" / "log.key"
    (home / "keys" / "next" / "log.key").write_bytes(new.read_bytes())
    (home / "keys" / "next" / "log.key").chmod(0o600)
    new.write_bytes((home / "keys" / "witness.key").read_bytes().replace(b"witness", b"log"))
    done("data", "revoke", "patients", "--home", home)
    assert _log_pk(home) == Signer(read_keys(home / "keys").log).public_key


def test_a_time_that_is_none_and_one_to_come_are_refused(home: Path) -> None:
    for since in ("yesterday", "2999-01-01T00:00:00Z"):
        words = ("ledger", "rotate-key", "--yes", "--compromised-since", since)
        assert p2pfl(*words, "--home", home).code == 64


def test_an_approvers_name_is_erased_and_its_entry_stays(home: Path) -> None:
    with closing(LogReader.open(home)) as reader:
        (seq,) = [e.seq for e in reader.entries() if e.kind == "study.approved"]
    words = ("ledger", "redact", seq, "approver", "--basis", "gdpr-17-1-b", "--home", home)
    assert p2pfl(*words).code == 1
    assert done(*words, "--yes", "--json").json["recorded_as"] > seq
    assert done(*words, "--yes", "--json").json["recorded_as"] == -1
    with closing(LogReader.open(home)) as reader, pytest.raises(SecretMissing):
        reader.open_secret(seq, "approver")
    assert done("ledger", "audit", "--home", home, "--json").json["exit_code"] == 0


def test_unknown_spending_is_the_cap_until_people_decide(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    _lose_track(home)
    approve = ("study", "approve", proposed, "--data", "patients", "--home", home)
    refused = p2pfl(*approve)
    assert refused.code == 1
    assert "p2pfl data accept-spending patients" in refused.err
    decide = ("data", "accept-spending", "patients", "--basis", "paper-log", "--home", home)
    assert "ε = 0.500" in p2pfl(*decide, "--epsilon", "0.5").err
    assert p2pfl(*decide, "--epsilon", "-1", "--yes").code == 1
    assert done(*decide, "--epsilon", "0.5", "--yes", "--json").json["total"] == 0.5
    assert p2pfl(*decide, "--epsilon", "0.5", "--yes").code == 1
    (seen,) = done("privacy", "status", "--home", home, "--json").json
    assert (seen["spent"], seen["left"]) == (0.5, seen["cap"] - 0.5)
    assert done("ledger", "audit", "--home", home, "--json").json["exit_code"] == 0


def _lose_track(home: Path) -> None:
    with closing(Log.open(home, log=Signer(read_keys(home / "keys").log))) as log:
        (ds,) = [e.body["ds"] for e in log.entries() if e.kind == "dataset.registered"]
        assert isinstance(ds, bytes)
        log.append([kinds.SpendingUnknown(ds, bytes(32), 3).draft("operator")], _now_us(log))


def _now_us(log: Log) -> int:
    return max(entry.time_us for entry in log.entries())


def test_what_was_spent_goes_along_into_the_next_log_and_gaps_exhaust_it(home: Path) -> None:
    with closing(LogReader.open(home)) as reader:
        known = tuple(reader.entries())
        log_id, size = reader.log_id, reader.checkpoint.size
    whole = carried_over(known, log_id, size, size)
    assert [draft.kind for draft in whole.drafts] == ["dataset.registered"]
    assert (whole.datasets, whole.exhausted) == (1, 0)
    cut = carried_over(known[:-1], log_id, size - 1, size)
    assert [draft.kind for draft in cut.drafts] == ["dataset.registered", "spending.unknown"]
    assert cut.exhausted == 1
