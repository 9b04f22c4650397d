"""The open log: appending entries so that nothing is released before it is durable.

Responsible for: the commit protocol, the lock's lifetime, and what a failed commit means.
Must not know: what entries mean, or who reads the heads.
Source: LEDGER.md, Storage and commit.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ledger.log.commitments import check_secret
from ledger.log.database import Database, Row, StoredHead
from ledger.log.ed25519 import Signer
from ledger.log.entries import (
    NO_PREVIOUS,
    Draft,
    Entry,
    LogIdentity,
    genesis_draft,
    identity_from_body,
    sign_entry,
)
from ledger.log.errors import (
    CheckpointMalformed,
    ErasureIncomplete,
    LedgerExists,
    LogKeyWrong,
    LogStopped,
    NoSuchEntry,
    NothingToAppend,
    PeerHeadConflict,
    WriteFailed,
)
from ledger.log.heads_file import HeadRecord, HeadsFile
from ledger.log.notes import Checkpoint, note_text
from ledger.log.opening import (
    examine,
    read_identity,
    record_of,
    reread_commit,
    study_of,
)
from ledger.log.tree import Frontier, Node, leaf_hash
from ledger.log.view import LogView

ENTRIES_PER_COMMIT_MAX = 10_000
_NOTHING_RELEASED = HeadRecord(0, b"", b"")


@dataclass(frozen=True, slots=True)
class Committed:
    """One durable commit: its entries and the head that covers them, now free to release."""

    entries: tuple[Entry, ...]
    checkpoint: Checkpoint
    note: bytes


class Repair(Enum):
    """What opening a log set right after a crash."""

    TORN_HEAD_CUT = "the torn last record of heads.log was cut"
    COMMIT_KEPT = "a durable commit that had not been released was kept"


class Log(LogView):
    """The one writer of a site's log. Holds the lock until `close`."""

    repairs: tuple[Repair, ...]

    def __init__(
        self,
        *,
        reading: Database,
        writing: Database,
        heads: HeadsFile,
        identity: LogIdentity,
        log: Signer,
        released: HeadRecord,
        frontier: Frontier,
        last_leaf: bytes,
    ) -> None:
        """Use `create` or `open`. `reading` is a second connection: what it sees was stored."""
        super().__init__(reading, identity, released)
        self._writing = writing
        self._heads = heads
        self._log_key = log
        self._frontier = frontier
        self._last_leaf = last_leaf
        self._stopped = False
        self.repairs = ()

    @classmethod
    def create(
        cls,
        home: Path,
        *,
        deployment: str,
        identity: Signer,
        log: Signer,
        witness_pk: bytes,
        nonce: bytes,
        now_us: int,
    ) -> "Log":
        """Start a new log in `home` with its genesis entry.

        nonce: 32 random bytes. Raises: LedgerExists, GenesisInvalid, KeyRefused, StoreError.
        """
        draft = genesis_draft(
            deployment=deployment,
            identity=identity,
            log_pk=log.public_key,
            witness_pk=witness_pk,
            nonce=nonce,
        )
        owner = identity_from_body(draft.body)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as undo:
            heads = HeadsFile(home)
            undo.callback(heads.close)
            writing = Database.create(home)
            undo.callback(writing.close)
            if writing.head() is not None:
                raise LedgerExists(str(home))
            heads.start(owner.origin)
            reading = Database.open_for_reading(home)
            undo.callback(reading.close)
            created = cls(
                reading=reading,
                writing=writing,
                heads=heads,
                identity=owner,
                log=log,
                released=_NOTHING_RELEASED,
                frontier=Frontier(),
                last_leaf=NO_PREVIOUS,
            )
            created.append([draft], now_us)
            undo.pop_all()
        return created

    @classmethod
    def open(cls, home: Path, *, log: Signer) -> "Log":
        """Lock and open the log of `home` by the open protocol; `repairs` says what it set right.

        Raises: NoLedger, Locked, FormatUnknown, LogKeyWrong, Rollback, HeadsCut, Corrupt,
        StoreError. After Rollback, HeadsCut or Corrupt read it with LogReader and `verify_log`.
        """
        with ExitStack() as undo:
            reading = Database.open_for_reading(home)
            undo.callback(reading.close)
            heads = HeadsFile(home)
            undo.callback(heads.close)
            opened = cls._opened(home, reading, heads, log)
            undo.pop_all()
        return opened

    @classmethod
    def _opened(cls, home: Path, reading: Database, heads: HeadsFile, log: Signer) -> "Log":
        identity = read_identity(reading)
        if log.public_key != identity.log_pk:
            raise LogKeyWrong(expected=identity.log_pk, actual=log.public_key)
        tail = heads.tail(identity.origin)
        found = examine(reading, identity, tail)
        heads.repair(tail, identity.origin)
        repairs = [Repair.TORN_HEAD_CUT] if tail.torn_bytes else []
        if found.unreleased:
            heads.append(found.unreleased)
            repairs.append(Repair.COMMIT_KEPT)
        released = found.unreleased or found.released
        if released is None:  # pragma: no cover -- examine() refuses a log without any head
            raise LogStopped
        opened = cls(
            reading=reading,
            writing=Database.open_for_writing(home),
            heads=heads,
            identity=identity,
            log=log,
            released=released,
            frontier=found.frontier,
            last_leaf=found.last_leaf,
        )
        opened.repairs = tuple(repairs)
        return opened

    def append(self, drafts: Sequence[Draft], now_us: int) -> Committed:
        """Append `drafts` as one commit; when this returns it is durable and may be released.

        now_us: µs UTC, written into every entry. Raises: NothingToAppend, EntryFieldWrong or an
        EncodingError before anything is written; WriteFailed, Corrupt, StoreError after which
        the log is stopped and must be opened again; LogStopped.
        """
        if not 0 < len(drafts) <= ENTRIES_PER_COMMIT_MAX:
            raise NothingToAppend(expected=f"1 … {ENTRIES_PER_COMMIT_MAX}", actual=len(drafts))
        with self._lock:
            self._check_running()
            signed = self._signed(drafts, now_us)
            self._stopped = True
            committed = self._commit(signed)
            self._stopped = False
            return committed

    def _signed(self, drafts: Sequence[Draft], now_us: int) -> list[Row]:
        rows: list[Row] = []
        prev = self._last_leaf
        for seq, draft in enumerate(drafts, start=self._frontier.size):
            raw = sign_entry(
                draft,
                identity=self._identity,
                seq=seq,
                prev=prev,
                time_us=now_us,
                log=self._log_key,
            )
            prev = leaf_hash(raw)
            rows.append(Row(seq, prev, draft.kind, study_of(draft.body), raw))
        return rows

    def _commit(self, rows: Sequence[Row]) -> Committed:
        """Steps (1) to (4) of the commit protocol."""
        before = self._frontier.size
        frontier = self._frontier.copy()
        nodes: list[Node] = []
        for row in rows:
            nodes += frontier.append(row.leaf)
        head = self._signed_head(frontier, before)
        self._writing.write_commit(rows, nodes, head)
        # What counts is what another connection reads back, not what this one believes.
        seen = self._frontier.copy()
        stored = reread_commit(self._database, self._identity, seen, self._last_leaf, head)
        record = record_of(head)
        try:
            self._heads.append(record)
        except OSError as error:
            raise WriteFailed(str(error)) from error
        self._frontier, self._last_leaf, self._released = seen, stored[-1].leaf, record
        return Committed(stored, self.checkpoint, self.note)

    def _signed_head(self, frontier: Frontier, previous_size: int) -> StoredHead:
        root = frontier.root()
        text = Checkpoint(self._identity.origin, frontier.size, root).text
        signature = self._log_key.sign(text.encode())
        return StoredHead(frontier.size, root, signature, previous_size)

    def put_peer_head(self, log_id: bytes, note: bytes, size: int, root: bytes) -> None:
        """Keep the head of another log if it is larger than the one held.

        The caller has verified `note`; here it must only state this size and root.
        Raises: NoteError, PeerHeadConflict (same size, another root: a fork), LogStopped,
        WriteFailed.
        """
        _check_states(note, size, root)
        with self._lock:
            self._check_running()
            held = next((head for head in self.peer_heads() if head.log_id == log_id), None)
            if held and held.size == size and held.root != root:
                raise PeerHeadConflict(f"size {size}", expected=held.root, actual=root)
            if held is None or held.size < size:
                self._writing.write_peer_head(log_id, size, root, note)

    def put_secret(self, seq: int, field: str, salt: bytes, value: bytes) -> None:
        """Keep the erasable value behind a commitment of entry `seq`.

        Raises: SecretRefused, NoSuchEntry, LogStopped, WriteFailed.
        """
        check_secret(field, salt, value)
        with self._lock:
            self._check_running()
            if not 0 <= seq < self._released.size:
                raise NoSuchEntry(expected=f"0 … {self._released.size - 1}", actual=seq)
            self._writing.write_secret(seq, field, salt, value)

    def erase_secret(self, seq: int, field: str) -> None:
        """Delete a value for good, from the write-ahead log, too. The entry stays valid.

        Raises: ErasureIncomplete (a reader is open: erase again later), LogStopped, WriteFailed.
        """
        with self._lock:
            self._check_running()
            if not self._writing.erase_secret(seq, field):
                raise ErasureIncomplete(f"entry {seq}, {field[:80]}")

    def _check_running(self) -> None:
        if self._stopped:
            raise LogStopped

    def close(self) -> None:
        """Close the files and release the lock; closing twice is fine."""
        with self._lock:
            self._stopped = True
            super().close()
            # The connection that may write closes last, so that it empties the write-ahead log.
            self._writing.close()
            self._heads.close()


def _check_states(note: bytes, size: int, root: bytes) -> None:
    """The held note must be the evidence of exactly this size and root."""
    stated = Checkpoint.parse(note_text(note))
    if (stated.size, stated.root) != (size, root):
        raise CheckpointMalformed("the note states another head", expected=size, actual=stated.size)
