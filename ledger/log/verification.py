"""Verifying a stored log from end to end and naming every damage; needs no private key.

Responsible for: comparing how ledger.db and heads.log end, then streaming what lies between.
Must not know: what entries mean (that is the audit's work), or how to repair.

Fast where nothing is wrong: leaf hashes, chain, numbers, index columns, tree nodes and the root
at every released head. Where something is wrong, or with SigCheck.ALL, rows are decoded and their
signatures verified. Only SigCheck.ALL finds a non-canonical entry that the log key itself signed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ledger.log.block_check import BlockCheck
from ledger.log.block_processes import checked_beside, cores, processes_for
from ledger.log.database import Database, StoredHead
from ledger.log.errors import Corrupt, DatabaseLost, HeadsCut, LedgerError
from ledger.log.findings import FindingCode, Findings, SigCheck, Verification
from ledger.log.heads_file import HEADS_NAME, HeadRecord, Tail, read_tail_of, scan_records
from ledger.log.identity import LogIdentity
from ledger.log.opening import read_history, read_identity, record_of
from ledger.log.own_checks import (
    NOTHING_ERASABLE,
    Erasable,
    Watch,
    check_compromised,
    check_secrets,
    report_key_changes,
)
from ledger.log.tree_check import BLOCK_LEAVES
from ledger.log.verify_stream import EntryStream, HeadStream, Jobs

# Heads' signatures are verified outside Python's lock, beside the stream.
_THREADS = 2


def verify_log(
    home: Path,
    *,
    sigs: SigCheck = SigCheck.ALL,
    start: int = 0,
    erasable: Erasable = NOTHING_ERASABLE,
) -> Verification:
    """Verify the log in `home` as of now; a node may be running meanwhile.

    start: verify from this entry on (rounded down to a block of 1024); what lies before it is
    taken from the stored tree, which the heads after it confirm.
    erasable: secrets that must be there unless a `redacted` entry says that they were erased.
    Raises: NoLedger, FormatUnknown, StoreError. Every damage is a finding, not an exception.
    """
    findings = Findings()
    try:
        database = Database.open_for_reading(home)
    except DatabaseLost as error:
        findings.report(FindingCode.DATABASE_LOST, error.rule)
        return Verification(findings.sorted(), 0, None)
    except Corrupt as error:
        findings.report(FindingCode.UNREADABLE, error.detail)
        return Verification(findings.sorted(), 0, None)
    try:
        size, root = _verify(home, database, sigs, start, erasable, findings)
    except Corrupt as error:
        findings.report(FindingCode.UNREADABLE, error.detail)
        size, root = 0, None
    finally:
        database.close()
    return Verification(findings.sorted(), size, root)


def _verify(
    home: Path,
    database: Database,
    sigs: SigCheck,
    start: int,
    erasable: Erasable,
    findings: Findings,
) -> tuple[int, bytes | None]:
    try:
        genesis = read_identity(database)
    except Corrupt as error:
        # Without the genesis entry nobody can say which key the rest must be signed with.
        findings.report(FindingCode.GENESIS_INVALID, error.detail, 0)
        return database.size(), None
    # The released head first, the snapshot after it: a running node may append between them.
    tail = _tail(home, genesis, findings)
    database.pin_snapshot()
    history = read_history(database, genesis)
    identity = history.identity
    report_key_changes(history, findings)
    size, head = database.size(), database.head()
    _compare_ends(home, identity, tail.last, size, head, findings)
    start = min(start, size)
    start -= start % BLOCK_LEAVES
    watch = Watch(database, history, erasable, findings)
    own = BlockCheck(database, identity, sigs, watch.kinds)
    count = processes_for(size - start, sigs, cores())
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        checked_beside(own, home, sigs, watch.kinds, range(start, size), count) as blocks,
    ):
        jobs = Jobs(pool, findings)
        released = _released(home, identity, tail, findings)
        heads = HeadStream(released, identity, sigs, jobs, findings, history.frozen)
        stream = EntryStream(database, identity, sigs, blocks, findings, watch)
        root = stream.run(start, size, heads)
        jobs.finish()
    watch.finish(start)
    check_compromised(database, history, size, findings)
    check_secrets(database, history, findings)
    if head and head.size == size and root is not None:
        _check_stored_head(head, root, identity, findings)
    if database.has_stray_rows(size):
        findings.report(FindingCode.NODE_ALTERED, "entries or nodes that no entry calls for")
    return size, root


def _tail(home: Path, identity: LogIdentity, findings: Findings) -> Tail:
    try:
        tail = read_tail_of(home, identity.origin)
    except HeadsCut as error:
        findings.report(FindingCode.HEADS_CUT, error.detail)
        return Tail(None, 0, 0)
    except Corrupt as error:
        findings.report(FindingCode.HEAD_ALTERED, error.detail)
        return Tail(None, 0, 0)
    if tail.torn_bytes:
        findings.report(FindingCode.TORN_HEAD, f"{tail.torn_bytes} bytes; the next start cuts them")
    return tail


def _compare_ends(
    home: Path,
    identity: LogIdentity,
    last: HeadRecord | None,
    size: int,
    head: StoredHead | None,
    findings: Findings,
) -> None:
    """The same questions as the open protocol's, answered with findings."""
    released = last.size if last else 0
    head_size = head.size if head else 0
    if head_size > size:
        findings.report(FindingCode.TAIL_MISSING, f"{head_size} entries committed, {size} found")
    elif size < released:
        findings.report(FindingCode.ROLLBACK, f"{released} entries released, {size} found")
    elif head_size < size:
        detail = f"the stored head covers {head_size} of {size} entries"
        findings.report(FindingCode.HEAD_ALTERED, detail)
    try:
        newest = read_tail_of(home, identity.origin).last
    except (HeadsCut, Corrupt):
        return  # reported when the file was first read
    newest_size = newest.size if newest else 0
    if head and newest_size < head.previous_size:
        detail = f"heads up to {head.previous_size} were released, heads.log ends at {newest_size}"
        findings.report(FindingCode.HEADS_CUT, detail)
    elif newest_size < head_size:
        findings.report(FindingCode.UNRELEASED, f"entries {newest_size} … {head_size - 1}")


def _released(
    home: Path, identity: LogIdentity, tail: Tail, findings: Findings
) -> Iterator[HeadRecord]:
    """The released heads up to `tail`, in order; altered records become findings."""
    if not tail.last:
        return
    previous_size = 0
    with (home / HEADS_NAME).open("rb") as file:
        for index, record in enumerate(scan_records(file, identity.origin, tail)):
            if record is None or record.size <= previous_size:
                findings.report(FindingCode.HEAD_ALTERED, f"heads.log record {index}")
                continue
            previous_size = record.size
            yield record


def _check_stored_head(
    head: StoredHead, root: bytes, identity: LogIdentity, findings: Findings
) -> None:
    try:
        record_of(head).verify(identity)
    except LedgerError as error:
        findings.report(FindingCode.HEAD_ALTERED, f"stored head: {error}")
    if head.root != root:
        findings.report(FindingCode.ROOT_MISMATCH, f"stored head of size {head.size}")
