"""The open log: appending entries so that nothing is released before it is durable.

Responsible for: who may append what and when, and the lifetime of the files and their lock.
Must not know: what entries mean that are not about the log itself, or who reads the heads.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ledger.log.commitments import Secret, check_secret, opens
from ledger.log.commits import Commits
from ledger.log.database import Database, StoredSecret
from ledger.log.dm1 import Value
from ledger.log.ed25519 import Signer
from ledger.log.entries import NO_PREVIOUS, Draft, Entry
from ledger.log.errors import (
    ErasureIncomplete,
    KeyChangeInvalid,
    LedgerExists,
    LogFrozen,
    LogKeyWrong,
    LogStopped,
    NothingToAppend,
    SecretMissing,
    SecretRefused,
)
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.heads_file import OS_DISK, Disk, HeadRecord, HeadsFile
from ledger.log.identity import LogIdentity, Previous
from ledger.log.notes import Checkpoint
from ledger.log.opening import (
    History,
    examine,
    read_identity,
    sound_history,
)
from ledger.log.own_kinds import (
    OWN_KINDS,
    commitment_in,
    fork_draft,
    frozen_by,
    is_log_rotation,
    is_witness_rotation,
    redaction_draft,
    redaction_in,
    rotated,
    rotation_draft,
    witness_changed,
    witness_rotated,
)
from ledger.log.tree import Frontier
from ledger.log.view import LogView

ENTRIES_PER_COMMIT_MAX = 10_000
_NOTHING_RELEASED = HeadRecord(0, b"", b"")


@dataclass(frozen=True, slots=True)
class Committed:
    """One durable commit: its entries and the head that covers them, now free to release."""

    entries: tuple[Entry, ...]
    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class DraftSecret:
    """A secret to keep with a commit. `draft`: position of its entry's draft in the call."""

    draft: int
    field: str
    secret: Secret


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
        commits: Commits,
        history: History,
        released: HeadRecord,
    ) -> None:
        """Use `create` or `open`."""
        super().__init__(reading, history, released)
        self._writing = writing
        self._commits = commits
        self._redacted = set(history.redacted)
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
        previous: Previous | None = None,
        disk: Disk = OS_DISK,
    ) -> "Log":
        """Start a new log in `home` with its genesis entry.

        nonce: 32 random bytes. previous: the log of this site that it goes on from, after a loss
        or a fork. disk: how heads.log becomes durable.
        Raises: LedgerExists, GenesisInvalid, KeyRefused, StoreError.
        """
        draft = genesis_draft(
            deployment=deployment,
            identity=identity,
            log_pk=log.public_key,
            witness_pk=witness_pk,
            nonce=nonce,
            previous=previous,
        )
        owner = identity_from_body(draft.body)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as undo:
            heads = HeadsFile(home, disk)
            undo.callback(heads.close)
            writing = Database.create(home)
            undo.callback(writing.close)
            if writing.head() is not None:
                raise LedgerExists(str(home))
            heads.start(owner.origin)
            reading = Database.open_for_reading(home)
            undo.callback(reading.close)
            commits = Commits(
                reading=reading,
                writing=writing,
                heads=heads,
                log_key=log,
                frontier=Frontier(),
                last_leaf=NO_PREVIOUS,
            )
            created = cls(
                reading=reading,
                writing=writing,
                commits=commits,
                history=History(owner),
                released=_NOTHING_RELEASED,
            )
            created.append([draft], now_us)
            undo.pop_all()
        return created

    @classmethod
    def open(cls, home: Path, *, log: Signer, disk: Disk = OS_DISK) -> "Log":
        """Lock and open the log of `home` by the open protocol; `repairs` says what it set right.

        log: the newest key of the log. Raises: NoLedger, DatabaseLost, Locked, FormatUnknown,
        LogKeyWrong, Rollback, HeadsCut, Corrupt, StoreError. After Rollback, HeadsCut or Corrupt
        read it with LogReader and `verify_log`.
        """
        with ExitStack() as undo:
            reading = Database.open_for_reading(home)
            undo.callback(reading.close)
            heads = HeadsFile(home, disk)
            undo.callback(heads.close)
            opened = cls._opened(home, reading, heads, log)
            undo.pop_all()
        return opened

    @classmethod
    def _opened(cls, home: Path, reading: Database, heads: HeadsFile, log: Signer) -> "Log":
        history = sound_history(reading, read_identity(reading))
        identity = history.identity
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
        writing = Database.open_for_writing(home)
        commits = Commits(
            reading=reading,
            writing=writing,
            heads=heads,
            log_key=log,
            frontier=found.frontier,
            last_leaf=found.last_leaf,
        )
        opened = cls(
            reading=reading, writing=writing, commits=commits, history=history, released=released
        )
        opened.repairs = tuple(repairs)
        return opened

    def append(
        self, drafts: Sequence[Draft], now_us: int, secrets: Sequence[DraftSecret] = ()
    ) -> Committed:
        """Append `drafts` as one commit; when this returns it is durable and may be released.

        now_us: µs UTC, written into every entry. secrets: kept in the same commit, for the
        commitments in its entries. Raises: NothingToAppend, EntryFieldWrong, SecretRefused,
        KeyChangeInvalid (replace the log key with `rotate`; a witness key's change needs the
        identity key's statement) or an EncodingError before anything is
        written; LogFrozen once a fork of this log is on record; WriteFailed, Corrupt, StoreError
        after which the log is stopped and must be opened again; LogStopped.
        """
        if not 0 < len(drafts) <= ENTRIES_PER_COMMIT_MAX:
            raise NothingToAppend(expected=f"1 … {ENTRIES_PER_COMMIT_MAX}", actual=len(drafts))
        for draft in drafts:
            if is_log_rotation(draft.kind, draft.body):
                raise KeyChangeInvalid("the new key must come with it")
        for kept in secrets:
            _check_opens(drafts[kept.draft].body, kept.field, kept.secret)
        with self._lock:
            self._check_running()
            first = self._commits.size
            self._check_witness_changes(drafts, first, now_us)
            stored = [
                (first + kept.draft, kept.field, kept.secret.salt, kept.secret.value)
                for kept in secrets
            ]
            return self._commit(drafts, now_us, stored)

    def _check_witness_changes(self, drafts: Sequence[Draft], first: int, now_us: int) -> None:
        """Raises KeyChangeInvalid for what would be found invalid as soon as it is stored."""
        identity = self._identity
        for seq, draft in enumerate(drafts, first):
            if is_witness_rotation(draft.kind, draft.body):
                identity = witness_rotated(identity, seq, now_us, draft.body)

    def freeze(self, form: str, proof: bytes, now_us: int, *, actor: str = "node") -> Committed:
        """Record that this log told two histories; it takes no more entries after that.

        form: K1 … K4; proof: SHA-256 of the fork proof's file. Appending a `fork.found` entry
        that names this log does the same. Raises: like `append`.
        """
        return self.append([fork_draft(self.log_id, form, proof, actor)], now_us)

    def rotate(
        self, new: Signer, statement: bytes, now_us: int, *, actor: str = "node"
    ) -> Committed:
        """Replace the log key: the last entry under the old key, the first head under the new.

        statement: the identity key's, from `sign_rotation`. Keep the new key in a file before:
        from here on the log opens with it alone. Raises: KeyChangeInvalid, and like `append`.
        """
        with self._lock:
            self._check_running()
            draft = rotation_draft(self._identity, new.public_key, statement, actor)
            identity = rotated(self._identity, self._commits.size, draft.body)
            return self._commit([draft], now_us, rotation=(identity, new))

    def _commit(
        self,
        drafts: Sequence[Draft],
        now_us: int,
        kept: Sequence[StoredSecret] = (),
        rotation: tuple[LogIdentity, Signer] | None = None,
    ) -> Committed:
        identity, next_key = rotation or (self._identity, None)
        stored, released = self._commits.commit(
            drafts, identity, now_us, kept=kept, next_key=next_key
        )
        for entry in stored:
            identity = witness_changed(identity, entry)
        # In this order, as other threads read both: the new keys fit the old head, too.
        self._identity = identity
        self._released = released
        for entry in stored:
            self._frozen = self._frozen or frozen_by(identity, entry)
            if entry.kind in OWN_KINDS:
                self._own_seqs.add(entry.seq)
            if erased := redaction_in(entry.kind, entry.body):
                self._redacted.add(erased)
        return Committed(stored, self.checkpoint, self.note)

    def put_secret(self, seq: int, field: str, salt: bytes, value: bytes) -> None:
        """Keep the erasable value behind a commitment of entry `seq`.

        Raises: SecretRefused (out of bounds, not what the entry committed to, or redacted),
        NoSuchEntry, LogStopped, WriteFailed.
        """
        with self._lock:
            self._commits.check_running()
            if (seq, field) in self._redacted:
                raise SecretRefused(f"{field[:80]} of entry {seq} was redacted")
            _check_opens(self.entry(seq).body, field, Secret(salt, value))
            self._writing.write_secret(seq, field, salt, value)

    def redact(
        self, seq: int, field: str, *, basis: str, now_us: int, actor: str = "node"
    ) -> Committed | None:
        """Erase a secret for good, with the entry that says so. The entry it belongs to stays.

        basis: a code for the legal ground. None if it was on record before: then only what was
        left in the write-ahead log is erased. Raises: SecretMissing (nothing of this name),
        ErasureIncomplete (a reader is open: redact again later), and like `append`.
        """
        with self._lock:
            committed = None
            if (seq, field) not in self._redacted:
                self._check_running()
                if self._database.secret(seq, field) is None:
                    raise SecretMissing(f"entry {seq}, {field[:80]}")
                draft = redaction_draft(seq, field, basis, actor)
                committed = self._commit([draft], now_us)
            if not self._writing.empty_wal():
                raise ErasureIncomplete(f"entry {seq}, {field[:80]}")
            return committed

    def _check_running(self) -> None:
        self._commits.check_running()
        if self._frozen:
            raise LogFrozen(f"entry {self._frozen.seq}, proof {self._frozen.proof.hex()}")

    def close(self) -> None:
        """Close the files and release the lock; closing twice is fine."""
        with self._lock:
            self._commits.close()


def _check_opens(body: Mapping[str, Value], field: str, secret: Secret) -> None:
    """Raises SecretRefused unless the secret is within bounds and fits its commitment, if any."""
    check_secret(field, secret.salt, secret.value)
    commitment = commitment_in(body, field)
    if commitment is not None and not opens(commitment, field, secret.salt, secret.value):
        raise SecretRefused(f"{field} is not what the entry commits to")
