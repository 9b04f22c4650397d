"""Erasable secrets: kept with their entry, erased with an entry that says so (tamper case 32)."""

import os

import pytest
from log_samples import LOG_KEY, NOW_US, new_log
from log_tampering import Tampering

from ledger.log import (
    Draft,
    DraftSecret,
    ExitCode,
    FindingCode,
    Log,
    Secret,
    commitment_of,
    errors,
    verify_log,
)

ERASABLE = {"study.approved": ("approver", "reason")}


def codes(home, **arguments):
    return {(f.code, f.seq) for f in verify_log(home, **arguments).findings}


def approved(log, *, field="approver", value=b"Dr. Jane Doe", salt=b"\x21" * 32):
    commitment = commitment_of(field, salt, value)
    body = {f"{field}_commit": commitment}
    secret = DraftSecret(0, field, Secret(salt, value))
    return log.append([Draft("study.approved", "node", body)], NOW_US, [secret]).entries[0].seq


@pytest.fixture
def home(tmp_path):
    """Entry 1 with a secret, entry 2 with a secret that was redacted by entry 3."""
    log = new_log(tmp_path / "home")
    approved(log)
    approved(log, value=b"Dr. John Doe")
    log.redact(2, "approver", basis="art-17", now_us=NOW_US)
    log.close()
    return tmp_path / "home"


def test_a_redaction_erases_the_secret_and_says_so(home):
    assert codes(home, erasable=ERASABLE) == set()
    for path in home.iterdir():
        assert b"John" not in path.read_bytes(), path
    log = Log.open(home, log=LOG_KEY)
    assert log.open_secret(1, "approver").value == b"Dr. Jane Doe"
    with pytest.raises(errors.SecretMissing):
        log.open_secret(2, "approver")
    assert dict(log.entry(3).body) == {"basis": "art-17", "field": "approver", "seq": 2}
    assert log.redact(2, "approver", basis="art-17", now_us=NOW_US) is None
    with pytest.raises(errors.SecretRefused):
        log.put_secret(2, "approver", b"\x21" * 32, b"Dr. John Doe")
    with pytest.raises(errors.SecretMissing):
        log.redact(0, "approver", basis="art-17", now_us=NOW_US)
    assert log.checkpoint.size == 4
    log.close()


def test_an_entry_that_says_redacted_erases_with_its_commit(home):
    log = Log.open(home, log=LOG_KEY)
    said = {"basis": "art-17", "field": "approver", "seq": 1}
    log.append([Draft("redacted", "node", said)], NOW_US)
    with pytest.raises(errors.SecretMissing):
        log.open_secret(1, "approver")
    log.append([Draft("redacted", "node", {"basis": "no field"})], NOW_US)
    log.close()
    assert codes(home, erasable=ERASABLE) == set()


def test_32_a_secret_erased_without_an_entry(home):
    tampering = Tampering(home)
    tampering.run("DELETE FROM secret WHERE seq = 1")
    found, result = tampering.found(erasable=ERASABLE)
    assert found == {(FindingCode.REDACTION_UNLOGGED, 1)}
    assert result.exit_code == ExitCode.RULE_VIOLATED
    assert verify_log(home).exit_code == ExitCode.CLEAN  # nobody said that it must be there


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE secret SET value = x'00'",
        "UPDATE secret SET salt = zeroblob(32)",
        "UPDATE secret SET salt = zeroblob(31)",
        "UPDATE secret SET value = 'text'",
        "UPDATE secret SET value = zeroblob(5000)",
    ],
)
def test_32_a_value_that_does_not_open_its_commitment(home, change):
    tampering = Tampering(home)
    tampering.run(change)
    found, result = tampering.found()
    assert found == {(FindingCode.COMMITMENT_BROKEN, 1)}
    assert result.exit_code == ExitCode.INTEGRITY_BROKEN


@pytest.mark.parametrize(
    ("seq", "code", "number"),
    [
        (2, FindingCode.REDACTION_UNDONE, 2),
        (77, FindingCode.COMMITMENT_BROKEN, 77),
        ("'x'", FindingCode.COMMITMENT_BROKEN, None),
    ],
)
def test_32_a_secret_put_where_none_may_be(home, seq, code, number):
    tampering = Tampering(home)
    tampering.run(f"INSERT INTO secret SELECT {seq}, field, salt, value FROM secret")  # noqa: S608 -- ours
    assert tampering.found()[0] == {(code, number)}


def test_a_secret_of_a_damaged_entry_is_not_blamed(home):
    tampering = Tampering(home)
    tampering.run("UPDATE entry SET raw = zeroblob(90) WHERE seq = 1")
    assert tampering.found(erasable=ERASABLE)[0] == {(FindingCode.ENTRY_ALTERED, 1)}


def test_more_secrets_than_one_read(tmp_path):
    log = new_log(tmp_path)
    salts = [os.urandom(32) for _ in range(300)]
    drafts = [
        Draft("study.approved", "node", {"reason_commit": commitment_of("reason", salt, b"x")})
        for salt in salts
    ]
    secrets = [DraftSecret(i, "reason", Secret(salt, b"x")) for i, salt in enumerate(salts)]
    log.append(drafts, NOW_US, secrets)
    log.close()
    assert codes(tmp_path, erasable=ERASABLE) == set()


def test_a_secret_must_open_what_its_entry_commits_to(log):
    wrong = DraftSecret(0, "approver", Secret(bytes(32), b"somebody else"))
    body = {"approver_commit": commitment_of("approver", bytes(32), b"somebody")}
    with pytest.raises(errors.SecretRefused):
        log.append([Draft("study.approved", "node", body)], NOW_US, [wrong])
    assert log.checkpoint.size == 1
    log.append([Draft("study.approved", "node", body)], NOW_US)
    with pytest.raises(errors.SecretRefused):
        log.put_secret(1, "approver", bytes(32), b"somebody else")
    log.put_secret(1, "approver", bytes(32), b"somebody")
