"""Checking stored entries: a diagnosis of one row that trusts nothing and names what is wrong.

Responsible for: one row at a time.
Must not know: heads, the tree, or files.
"""

from typing import Any

from ledger.log.entries import Entry, parse_entry, verify_entry
from ledger.log.errors import (
    EncodingError,
    EntryKeyUnknown,
    EntrySignatureInvalid,
    ForeignEntry,
    LedgerError,
)
from ledger.log.findings import Finding, FindingCode
from ledger.log.identity import LogIdentity
from ledger.log.opening import study_of
from ledger.log.tree import leaf_hash

Columns = tuple[Any, ...]
"""(seq, leaf, kind, study, raw) as stored, of any types."""


def diagnose(
    columns: Columns, prev: bytes | None, identity: LogIdentity
) -> tuple[list[Finding], bytes | None]:
    """What is wrong with one row, and the leaf hash it should have (None: nobody can say).

    prev: the leaf hash before it; None if unknown, then the chain is not checked.
    """
    seq, leaf, kind, study, raw = columns
    if not isinstance(raw, bytes) or not isinstance(leaf, bytes):
        return [Finding(FindingCode.INDEX_ALTERED, seq, "a column has the wrong type")], None
    rehashed = leaf == leaf_hash(raw)
    try:
        entry = parse_entry(raw)
        verify_entry(entry, identity)
    except LedgerError as error:
        # Whoever changed the bytes but not the leaf hash beside them changed just the bytes.
        code = _code_of(error) if rehashed else FindingCode.ENTRY_ALTERED
        return [Finding(code, seq, str(error))], leaf
    findings = _placement(entry, seq, prev)
    if entry.seq == seq and not rehashed:
        findings.append(Finding(FindingCode.INDEX_ALTERED, seq, "leaf column"))
        leaf = entry.leaf
    if (kind, study) != (entry.kind, study_of(entry.body)):
        findings.append(Finding(FindingCode.INDEX_ALTERED, seq, "kind or study column"))
    return findings, leaf


def _placement(entry: Entry, seq: int, prev: bytes | None) -> list[Finding]:
    if entry.seq != seq:
        return [Finding(FindingCode.ENTRY_MISPLACED, seq, f"it is entry {entry.seq}")]
    if prev is not None and entry.prev != prev:
        detail = f"names {entry.prev.hex()}, before it is {prev.hex()}"
        return [Finding(FindingCode.CHAIN_BROKEN, seq, detail)]
    return []


def _code_of(error: LedgerError) -> FindingCode:
    match error:
        case EncodingError():
            return FindingCode.NOT_CANONICAL
        case ForeignEntry():
            return FindingCode.FOREIGN_ENTRY
        case EntryKeyUnknown():
            return FindingCode.KEY_UNKNOWN
        case EntrySignatureInvalid():
            return FindingCode.SIGNATURE_INVALID
        case _:
            return FindingCode.ENTRY_MALFORMED
