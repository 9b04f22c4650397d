"""Verification of what lies around the entries: heads.log, the stored head, many heads."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from log_samples import LOG_KEY, NOW_US, draft, new_log

from ledger.log import (
    ExitCode,
    Finding,
    FindingCode,
    Log,
    SigCheck,
    verify_log,
    worst_of,
)
from ledger.log.findings import FINDINGS_MAX, Findings
from ledger.log.heads_file import RECORD_BYTES
from ledger.log.verify_stream import Jobs


def test_9_a_database_from_an_older_backup(home, tmp_path):
    shutil.copy(home / "ledger.db", tmp_path / "backup.db")
    log = Log.open(home, log=LOG_KEY)
    log.append([draft(1)], NOW_US)
    log.close()
    shutil.copy(tmp_path / "backup.db", home / "ledger.db")
    result = verify_log(home)
    assert [finding.code for finding in result.findings] == [FindingCode.ROLLBACK]
    assert result.exit_code == ExitCode.ROLLBACK


def test_10_a_torn_write_is_no_damage(home):
    with (home / "heads.log").open("ab") as file:
        file.write(b"\1" * 50)
    result = verify_log(home)
    assert [finding.code for finding in result.findings] == [FindingCode.TORN_HEAD]
    assert result.exit_code == ExitCode.CLEAN


def test_11_a_truncated_heads_log(home):
    content = (home / "heads.log").read_bytes()
    (home / "heads.log").write_bytes(content[: -2 * RECORD_BYTES])
    result = verify_log(home)
    assert [finding.code for finding in result.findings] == [FindingCode.HEADS_CUT]
    assert result.exit_code == ExitCode.ROLLBACK


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE head SET signature = zeroblob(64)", FindingCode.HEAD_ALTERED),
        ("UPDATE head SET root = zeroblob(32)", FindingCode.ROOT_MISMATCH),
        ("UPDATE head SET size = size - 1", FindingCode.HEAD_ALTERED),
        ("UPDATE head SET size = size + 1", FindingCode.TAIL_MISSING),
        ("DELETE FROM head", FindingCode.HEAD_ALTERED),
    ],
)
def test_a_changed_stored_head(tamper, change, code):
    tamper.run(change)
    assert code in {code for code, _ in tamper.found()[0]}


def test_more_blocks_than_jobs_in_flight(tmp_path):
    log = new_log(tmp_path)
    log.append([draft(number) for number in range(6_000)], NOW_US)
    log.close()
    result = verify_log(tmp_path)
    assert (result.findings, result.size) == ((), 6_001)


def test_many_heads_are_verified(tmp_path):
    log = new_log(tmp_path)
    for number in range(300):
        log.append([draft(number)], NOW_US)
    log.close()
    assert not verify_log(tmp_path, sigs=SigCheck.HEADS).findings
    content = bytearray((tmp_path / "heads.log").read_bytes())
    content[-5] ^= 1
    (tmp_path / "heads.log").write_bytes(content)
    assert verify_log(tmp_path, sigs=SigCheck.HEADS).exit_code == ExitCode.CLEAN


def test_findings_are_bounded_and_the_worst_decides():
    findings = Findings()
    for seq in range(2 * FINDINGS_MAX):
        findings.report(FindingCode.ENTRY_MISSING, "gone", seq)
    findings.report(FindingCode.ROLLBACK, "older")
    assert len(findings.sorted()) == FINDINGS_MAX + 1
    assert worst_of(ExitCode.INTEGRITY_BROKEN, ExitCode.CLEAN, ExitCode.ROLLBACK) == 11
    assert worst_of() == ExitCode.CLEAN


def test_many_jobs_beside_the_stream_lose_no_finding():
    findings = Findings()
    reported = [Finding(FindingCode.HEAD_ALTERED, seq, "") for seq in range(20)]
    with ThreadPoolExecutor(2) as pool:
        jobs = Jobs(pool, findings)
        for finding in reported:
            jobs.submit(lambda finding=finding: [finding])
        jobs.finish()
    assert list(findings.sorted()) == reported
