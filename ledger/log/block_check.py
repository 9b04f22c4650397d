"""Whether a block of stored rows holds nothing wrong, asked quickly.

Responsible for: one pass over a block's rows that either vouches for all of them, or for none.
Must not know: heads, inner nodes of the tree, or what is wrong (see `entry_checks.diagnose`).

Without signatures this needs no decoding: an entry's keys are sorted, so `l`, `p`, `s`, `t`, `v`
and the signature end every one. A block that is not vouched for is looked at row by row, so that
this may be strict but never has to explain.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

import msgpack

from ledger.log.database import Database
from ledger.log.entries import NO_PREVIOUS
from ledger.log.entry_checks import Columns, diagnose
from ledger.log.errors import Corrupt
from ledger.log.findings import SigCheck
from ledger.log.identity import LogIdentity

_STUDY = b"\xa5study\xc4"
# Every entry ends with its version, the id of its key (bin 8, 4 bytes) and its signature (bin 8,
# 64 bytes); before that its time, nine bytes for any year of ours.
_VERSION = b"\xa1v\x01"
_SIGNATURE_AT = -(2 + 64)
_VERSION_AT = _SIGNATURE_AT - (2 + 4) - len(_VERSION)
_TIME_AT = _VERSION_AT - 8


@dataclass(frozen=True, slots=True)
class SoundBlock:
    """A block in which nothing is wrong, if the leaf hash before it is `prev`.

    leaves: of its entries, recomputed. is_watched: an entry of a watched kind is among them.
    """

    prev: bytes
    leaves: Sequence[bytes]
    is_watched: bool


class Blocks(Protocol):
    """Where the answers come from: this process, or others beside it."""

    def sound(self, first: int, stop: int) -> SoundBlock | None:
        """Entries [first, stop) if nothing is wrong with them; ask in order, each once."""


class BlockCheck:
    """The check, in this process."""

    __slots__ = ("_database", "_identity", "_kinds", "_link", "_pack", "_sigs")

    def __init__(
        self,
        database: Database,
        identity: LogIdentity,
        sigs: SigCheck,
        watched: Collection[str],
    ) -> None:
        self._database = database
        self._identity = identity
        self._sigs = sigs
        self._kinds = frozenset(watched)
        # Not shared: a packer is for one thread.
        self._pack = msgpack.Packer().pack
        # "l": log id, "p": 32 bytes follow
        self._link = b"\xa1l\xc4\x20" + identity.log_id + b"\xa1p\xc4\x20"

    def sound(self, first: int, stop: int) -> SoundBlock | None:
        """The block of entries [first, stop), or None: look closer."""
        try:
            prev = self._database.node_at(0, first - 1) if first else NO_PREVIOUS
            rows = self._database.columns(first, stop)
        except Corrupt:
            return None
        if len(rows) != stop - first:
            return None
        seqs, leaves, kinds, studies, raws = zip(*rows, strict=True)
        if not (
            {*map(type, leaves), *map(type, raws)} == {bytes}
            and {*map(type, kinds)} == {str}
            and {*map(type, studies)} <= {bytes, type(None)}
            and seqs == tuple(range(first, stop))
            and leaves == tuple([sha256(b"\x00" + raw).digest() for raw in raws])
            and self._are_linked(rows, prev)
            and (self._sigs is not SigCheck.ALL or self._are_signed(rows, prev))
        ):
            return None
        return SoundBlock(prev, leaves, not self._kinds.isdisjoint(kinds))

    def _are_linked(self, rows: Sequence[Columns], prev: bytes) -> bool:
        """Chain, number, key and index columns of rows, at about a microsecond each."""
        first, last = (self._identity.key_at(rows[at][0]) for at in (0, -1))
        if first != last:
            return False
        link, pack = self._link, self._pack
        signed_by = _VERSION + b"\xc4\x04" + first.key_id
        for seq, leaf, kind, study, raw in rows:
            end = _packed_kind(kind) + link + prev + b"\xa1s" + pack(seq) + b"\xa1t\xcf"
            if (
                not raw.endswith(end, 0, _TIME_AT)
                or raw[_VERSION_AT:_SIGNATURE_AT] != signed_by
                or (_STUDY in raw if study is None else _packed_study(study) not in raw)
            ):
                return False
            prev = leaf
        return True

    def _are_signed(self, rows: Sequence[Columns], prev: bytes) -> bool:
        """True if each row is the one encoding of its entry, and signed."""
        before: bytes | None = prev
        for row in rows:
            findings, before = diagnose(row, before, self._identity)
            if findings:
                return False
        return True


@lru_cache(1_024)
def _packed_kind(kind: str) -> bytes:
    return b"\xa1k" + bytes(msgpack.packb(kind))


@lru_cache(1_024)
def _packed_study(study: bytes) -> bytes:
    return b"\xa5study" + bytes(msgpack.packb(study))
