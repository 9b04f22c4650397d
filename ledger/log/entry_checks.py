"""Checking stored entries: a fast check that trusts the tree, and a diagnosis that trusts nothing.

Responsible for: one row at a time.
Must not know: heads, the tree, or files.

The fast check needs no decoding: keys are sorted, so `l`, `p`, `s`, `t`, `v` and the signature end
every entry. A row that fails it is diagnosed, so that it may be strict but never has to explain.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgpack

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

_STUDY = b"\xa5study\xc4"
# Every entry ends with its version, the id of its key (bin 8, 4 bytes) and its signature (bin 8,
# 64 bytes); before that its time, nine bytes for any year of ours.
_VERSION = b"\xa1v\x01"
_SIGNATURE_AT = -(2 + 64)
_VERSION_AT = _SIGNATURE_AT - (2 + 4) - len(_VERSION)
_TIME_AT = _VERSION_AT - 8


class FastCheck:
    """Chain, number, key and index columns of rows, at about a microsecond each."""

    __slots__ = ("_identity", "_link", "_pack")

    def __init__(self, identity: LogIdentity) -> None:
        self._identity = identity
        # Not shared: a packer is for one thread.
        self._pack = msgpack.Packer().pack
        # "l": log id, "p": 32 bytes follow
        self._link = b"\xa1l\xc4\x20" + identity.log_id + b"\xa1p\xc4\x20"

    def doubtful(self, rows: Sequence[Columns], leaves: Sequence[bytes], prev: bytes) -> list[int]:
        """Positions of rows to diagnose. leaves: hashes of `rows`; prev: leaf before the first.

        rows: not empty; around a change of keys all of them are doubtful.
        """
        first, last = (self._identity.key_at(rows[at][0]) for at in (0, -1))
        if first != last:
            return list(range(len(rows)))
        link, pack, doubts = self._link, self._pack, []
        signed_by = _VERSION + b"\xc4\x04" + first.key_id
        for position, (seq, leaf, kind, study, raw) in enumerate(rows):
            if (
                leaf != leaves[position]
                or raw[_VERSION_AT:_SIGNATURE_AT] != signed_by
                or not raw.endswith(
                    _packed_kind(kind) + link + prev + b"\xa1s" + pack(seq) + b"\xa1t\xcf",
                    0,
                    _TIME_AT,
                )
                or (_STUDY in raw if study is None else _packed_study(study) not in raw)
            ):
                doubts.append(position)
            prev = leaf
        return doubts


@lru_cache(1_024)
def _packed_kind(kind: str) -> bytes:
    return b"\xa1k" + bytes(msgpack.packb(kind))


@lru_cache(1_024)
def _packed_study(study: bytes) -> bytes:
    return b"\xa5study" + bytes(msgpack.packb(study))


def are_well_typed(rows: Sequence[Columns]) -> bool:
    """True if every column has its type, so that `FastCheck` may look at the rows."""
    seqs, leaves, kinds, studies, raws = (
        {*map(type, column)} for column in zip(*rows, strict=True)
    )
    return (
        seqs == {int}
        and leaves == raws == {bytes}
        and kinds == {str}
        and studies <= {bytes, type(None)}
    )


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
