"""Entries of other sites' logs: plain where we may read them, sealed where only their site may.

Responsible for: keeping what fits the mirrored leaves, in bounded number of bytes.
Must not know: who may read what, or what entries mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ledger.log.entries import RAW_BYTES_MAX
from ledger.log.fork_proofs import ForkProof
from ledger.log.forks import fork_of_entries
from ledger.log.mirror_errors import MirrorFull, MirrorMismatch
from ledger.log.mirror_forks import MirrorForks
from ledger.log.mirror_keys import MirrorKeys
from ledger.log.mirror_limits import WitnessLimits
from ledger.log.mirror_tables import MirrorTables
from ledger.log.mirror_tree import MirrorTree
from ledger.log.tree import leaf_hash

SEALED_BYTES_MAX = RAW_BYTES_MAX + 64
_ENTRIES_PER_READ = 64


class EntryForm(Enum):
    """How an entry of another site is held."""

    PLAIN = "plain"
    """Its raw bytes, whose hash is the mirrored leaf."""
    SEALED = "sealed"
    """Encrypted to its own site: opaque to us, kept to give it back."""


@dataclass(frozen=True, slots=True)
class MirroredEntry:
    """One entry of another site's log."""

    seq: int
    form: EntryForm
    data: bytes


class MirrorEntries:
    """The table `entry`."""

    __slots__ = ("_forks", "_keys", "_limits", "_tables")

    def __init__(
        self, tables: MirrorTables, keys: MirrorKeys, forks: MirrorForks, limits: WitnessLimits
    ) -> None:
        self._tables = tables
        self._keys = keys
        self._forks = forks
        self._limits = limits

    def keep(self, number: int, entries: Sequence[MirroredEntry]) -> None:
        """See WitnessDatabase.keep_entries."""
        for entry in entries:
            self._check_entry(number, entry)
        with self._tables.transaction():
            for entry in entries:
                self._keep_entry(number, entry)

    def _check_entry(self, number: int, entry: MirroredEntry) -> None:
        tree = MirrorTree(self._tables, number)
        confirmed = tree.sizes()[1]
        if not 0 <= entry.seq < confirmed:
            raise MirrorMismatch(expected=f"entry 0 … {confirmed - 1}", actual=entry.seq)
        if entry.form is EntryForm.SEALED:
            if len(entry.data) > SEALED_BYTES_MAX:
                raise MirrorFull("a sealed entry", expected=f"at most {SEALED_BYTES_MAX} bytes")
        elif leaf_hash(entry.data) != tree.node_at(0, entry.seq):
            fork = self._fork_of_entry(number, entry)
            raise MirrorMismatch(f"entry {entry.seq}", fork=fork)

    def _fork_of_entry(self, number: int, entry: MirroredEntry) -> ForkProof | None:
        row = self._tables.one(
            "SELECT data FROM entry WHERE log = ? AND seq = ? AND form = 'plain'",
            number,
            entry.seq,
        )
        disowned = self._keys.disowned(number)
        if row is None:
            return None
        for key in self._keys.keys(number):
            if key.public_key in disowned:
                continue  # entries carry no cosignature that would bound their time
            proof = fork_of_entries(
                key, *sorted((row[0], entry.data)), lineage=self._keys.lineage(number)
            )
            if proof and self._forks.keep(number, proof, self._limits.forks_per_log_max):
                return proof
        return None

    def _keep_entry(self, number: int, entry: MirroredEntry) -> None:
        row = self._tables.one("SELECT entry_bytes FROM log WHERE id = ?", number)
        if row is None or row[0] + len(entry.data) > self._limits.entry_bytes_per_log_max:
            raise MirrorFull("bytes", expected=f"at most {self._limits.entry_bytes_per_log_max}")
        kept = self._tables.write(
            """INSERT INTO entry(log, seq, form, data) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
            SET form = excluded.form, data = excluded.data
            WHERE form = 'sealed' AND excluded.form = 'plain'""",
            number,
            entry.seq,
            entry.form.value,
            entry.data,
        )
        if kept:
            self._tables.write(
                "UPDATE log SET entry_bytes = entry_bytes + ? WHERE id = ?", len(entry.data), number
            )

    def first_missing(self, number: int, start: int) -> int:
        """See WitnessDatabase.first_missing_entry; reads numbers only, not the entries."""
        row = self._tables.one(
            """SELECT min(seq) + 1 FROM entry AS here WHERE log = ? AND seq >= ? AND NOT EXISTS
            (SELECT 1 FROM entry WHERE log = here.log AND seq = here.seq + 1) AND EXISTS
            (SELECT 1 FROM entry WHERE log = here.log AND seq = ?)""",
            number,
            start,
            start,
        )
        return start if row is None or row[0] is None else int(row[0])

    def held(self, number: int, start: int, end: int) -> Iterator[MirroredEntry]:
        """The entries held of [start, end), in order."""
        while start < end:
            rows = self._tables.all(
                """SELECT seq, form, data FROM entry WHERE log = ? AND seq >= ? AND seq < ?
                ORDER BY seq LIMIT ?""",
                number,
                start,
                end,
                _ENTRIES_PER_READ,
            )
            for seq, form, data in rows:
                yield MirroredEntry(seq, EntryForm(form), data)
            start = rows[-1][0] + 1 if rows else end
