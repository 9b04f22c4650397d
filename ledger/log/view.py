"""Reading a log: entries, proofs and secrets, as of its last released head.

Responsible for: the reading API that the open log and a read-only snapshot share.
Must not know: how entries are written, or whether the files were damaged.
"""

from collections.abc import Iterator
from threading import RLock

from ledger.log import tree
from ledger.log.commitments import Secret
from ledger.log.database import Database, Row
from ledger.log.entries import Entry, parse_entry, verify_link
from ledger.log.errors import Corrupt, LedgerError, NoSuchEntry, ProofSizesWrong, SecretMissing
from ledger.log.genesis import parse_genesis
from ledger.log.heads_file import HeadRecord
from ledger.log.identity import LogId, LogIdentity
from ledger.log.notes import Checkpoint
from ledger.log.opening import History, row_of
from ledger.log.own_kinds import Frozen, changes_keys, follow

_ROWS_PER_READ = 256


class LogView:
    """What can be read from a log. Safe to use from several threads."""

    def __init__(self, database: Database, history: History, released: HeadRecord) -> None:
        self._database = database
        self._identity = history.identity
        self._frozen = history.frozen
        self._own_seqs = set(history.seqs)
        self._released = released
        self._lock = RLock()

    @property
    def identity(self) -> LogIdentity:
        """Whose log it is and which keys it has."""
        return self._identity

    @property
    def frozen(self) -> Frozen | None:
        """What ended the log, if a fork of it was proven: it takes no more entries."""
        return self._frozen

    @property
    def log_id(self) -> LogId:
        """The log's 32-byte name."""
        return self._identity.log_id

    @property
    def origin(self) -> str:
        """The log's name in its checkpoints."""
        return self._identity.origin

    @property
    def checkpoint(self) -> Checkpoint:
        """The last released head."""
        return self._released.checkpoint(self._identity)

    @property
    def note(self) -> bytes:
        """The last released head as a signed note."""
        return self._released.note(self._identity)

    def entries(
        self, start: int = 0, stop: int | None = None, *, study: bytes | None = None
    ) -> Iterator[Entry]:
        """Released entries numbered [start, stop), in order; only those of `study` if given.

        Whether the study column leaves an entry out is for `verify_log` to say: what must not
        miss any, such as a sum of spending, reads all entries.
        Raises: Corrupt as soon as stored bytes do not fit their leaf hash, number or columns.
        """
        end = self._released.size if stop is None else min(stop, self._released.size)
        while start < end:
            with self._lock:
                if study is None:
                    upto = min(start + _ROWS_PER_READ, end)
                    rows = self._database.rows(start, upto)
                    _check_complete(rows, start, upto)
                else:
                    rows = self._database.rows_of_study(study, start, end, _ROWS_PER_READ)
            if not rows:
                return
            for row in rows:
                yield _entry_of(row)
            start = rows[-1].seq + 1

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """Leaf hashes of the released entries numbered [start, stop), which are not looked into."""
        start, end = max(0, start), min(stop, self._released.size)
        while start < end:
            with self._lock:
                rows = self._database.rows(start, min(start + _ROWS_PER_READ, end))
            yield from (tree.leaf_hash(row.raw) for row in rows)
            start += _ROWS_PER_READ

    def entry(self, seq: int) -> Entry:
        """The released entry number `seq`. Raises NoSuchEntry, Corrupt."""
        if not 0 <= seq < self._released.size:
            raise NoSuchEntry(expected=f"0 … {self._released.size - 1}", actual=seq)
        return next(self.entries(seq, seq + 1))

    def lineage(self) -> tuple[bytes, ...]:
        """The raw genesis entry and those that changed the log's keys, or those with which its site
        cosigns; none if it has its first ones.

        For whoever witnesses this log: see `WitnessDatabase.admit_lineage`. Raises: Corrupt.
        """
        identity = self._identity
        if len(identity.keys) == len(identity.witnesses) == 1:
            return ()
        found = [self.entry(0)]
        identity = parse_genesis(found[0].raw)
        for seq in sorted(self._own_seqs):
            entry = self.entry(seq)
            identity = follow(identity, entry)
            if changes_keys(identity, entry):
                found.append(entry)
        return tuple(entry.raw for entry in found)

    def prove_inclusion(self, seq: int, size: int) -> tuple[bytes, ...]:
        """The audit path of entry `seq` under the head of `size`. Raises ProofSizesWrong."""
        self._check_size(size)
        with self._lock:
            return tree.prove_inclusion(seq, size, self._database.node_at)

    def prove_consistency(self, m: int, n: int) -> tuple[bytes, ...]:
        """Proof that the head of size `n` extends that of `m`. Raises ProofSizesWrong."""
        self._check_size(n)
        with self._lock:
            return tree.prove_consistency(m, n, self._database.node_at)

    def root_at(self, size: int) -> bytes:
        """The root hash over the first `size` entries. Raises ProofSizesWrong."""
        self._check_size(size)
        with self._lock:
            return tree.root_at(size, self._database.node_at)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._released.size:
            raise ProofSizesWrong(expected=f"size 0 … {self._released.size}", actual=size)

    def open_secret(self, seq: int, field: str) -> Secret:
        """The erasable value behind a commitment of entry `seq`. Raises SecretMissing."""
        with self._lock:
            found = self._database.secret(seq, field)
        if found is None:
            raise SecretMissing(f"entry {seq}, {field[:80]}")
        return Secret(*found)

    def close(self) -> None:
        """Give up the files."""
        with self._lock:
            self._database.close()


def _check_complete(rows: list[Row], start: int, stop: int) -> None:
    if len(rows) != stop - start:
        raise Corrupt("entries are missing", expected=f"{start} … {stop - 1}", actual=len(rows))


def _entry_of(row: Row) -> Entry:
    """The entry in `row`, its bytes checked against the stored leaf hash."""
    try:
        entry = parse_entry(row.raw)
        verify_link(entry, row.seq, entry.prev)
    except LedgerError as error:
        raise Corrupt(f"entry {row.seq}: {error}") from error
    if row != row_of(entry):
        raise Corrupt(f"entry {row.seq} does not fit its leaf hash or index columns")
    return entry
