"""Rebuilding this site's own log after a loss, from what is left of it and what others mirrored.

Responsible for: taking every entry that proves itself, up to the largest head that was ever
signed, and putting the rebuilt files in place so that nothing is lost by that.
Must not know: the network, or how sealed entries are opened.

An entry counts if the log key in force signed it and it names the one before it; the result
counts if it has the root of every known head. A log is never shortened: whatever is left of the
old files moves to `damaged-<n>` in the same home.
Source: LEDGER.md, Storage and commit, Lost disk.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ledger.log.database import Database, Row, StoredHead, StoredSecret
from ledger.log.ed25519 import Signer, verify
from ledger.log.entries import NO_PREVIOUS, Entry, parse_entry, verify_entry, verify_link
from ledger.log.errors import (
    ChainBroken,
    ExitCode,
    LedgerError,
    LogKeyWrong,
    NoteError,
)
from ledger.log.genesis import parse_genesis
from ledger.log.heads_file import (
    HEADS_NAME,
    HeadsFile,
    file_header,
    pack_record,
)
from ledger.log.identity import LogId, LogIdentity
from ledger.log.notes import Checkpoint, KeyType, VerifierKey, note_text, note_verify
from ledger.log.opening import record_of, row_of
from ledger.log.own_kinds import follow, redaction_in
from ledger.log.recovery_files import ROWS_PER_READ, Remains, put_in_place
from ledger.log.tree import Frontier, Node

_BUILDING = "recovering"
_MISSING_RANGES_MAX = 64
_NO_SIGNATURE = bytes(64)


class RecoveryIncomplete(LedgerError):
    """`missing`: the numbers of the entries that nobody gave."""

    rule = "a log is recovered completely or not at all"
    next_step = (
        "Ask again when other sites are connected. What nobody holds, `p2pfl ledger "
        "new-incarnation` declares as lost in a new log."
    )
    exit_code = ExitCode.EVIDENCE_INCOMPLETE

    def __init__(self, missing: Sequence[range]) -> None:
        self.missing = tuple(missing)
        named = ", ".join(f"{gap.start} … {gap.stop - 1}" for gap in missing)
        super().__init__(f"entries {named} are missing")


class RecoveryContradiction(LedgerError):
    rule = "what is left of this log and what others hold of it are two histories"
    next_step = (
        "Do not write to it. Find out who used the log key; `p2pfl ledger new-incarnation` goes "
        "on in a new log."
    )
    exit_code = ExitCode.FORK_PROVEN


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log that is whole again. damaged: where the old files are now.

    kept, taken: entries that were still here, and that came from others; refused: how many of
    those that came were not this log's next entry; secrets_kept: erasable values still there.
    """

    size: int
    root: bytes
    kept: int
    taken: int
    refused: int
    secrets_kept: int
    damaged: Path


def recover_tail(
    home: Path,
    *,
    log_id: LogId,
    log: Signer,
    source: Iterable[bytes],
    witnessed: Sequence[bytes],
) -> Recovered:
    """Rebuild the log `log_id` in `home` from what is left there and raw entries from others.

    log: the newest log key. source: raw entries in order, from anywhere. witnessed: notes of this
    log's heads that others hold; the largest one says how far the log must reach.
    Raises: Locked, StoreError; RecoveryIncomplete, RecoveryContradiction, LogKeyWrong, after
    which the home is as it was.
    """
    building = home / _BUILDING
    with ExitStack() as undo:
        lock = HeadsFile(home)
        undo.callback(lock.close)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        undo.callback(shutil.rmtree, building, ignore_errors=True)
        left = Remains(home)
        undo.callback(left.close)
        rebuilt = _Rebuilt(building, log_id, log, left, witnessed)
        undo.callback(rebuilt.close)
        kept = rebuilt.take(left.entries())
        taken, refused = rebuilt.take_from_others(source)
        secrets = rebuilt.finish(left)
        rebuilt.close()
        left.close()
        damaged = put_in_place(home, building)
        return Recovered(rebuilt.size, rebuilt.root, kept, taken, refused, secrets, damaged)


class _Rebuilt:
    """The new files as they grow, each entry and each known head verified."""

    def __init__(
        self,
        folder: Path,
        log_id: LogId,
        log: Signer,
        left: Remains,
        witnessed: Sequence[bytes],
    ) -> None:
        self._log_id = log_id
        self._log_key = log
        self._database = Database.create(folder)
        self._file = (folder / HEADS_NAME).open("wb")
        self._last_record = max(left.heads(log_id), key=lambda record: record.size, default=None)
        self._records = left.heads(log_id)
        self._next_record = next(self._records, None)
        self._notes = list(_stated(witnessed))
        self._notes_of_size: dict[int, list[tuple[Checkpoint, bytes]]] = {}
        for head, note in self._notes:
            self._notes_of_size.setdefault(head.size, []).append((head, note))
        self._frontier = Frontier()
        self._identity: LogIdentity | None = None
        self._last_leaf = NO_PREVIOUS
        self._rows: list[Row] = []
        self._nodes: list[Node] = []
        self._redacted: set[tuple[int, str]] = set()
        self._last_written = 0

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._frontier.size

    @property
    def root(self) -> bytes:
        """The root over them."""
        return self._frontier.root()

    def take(self, raws: Iterable[bytes]) -> int:
        """Append entries up to the first that is not the next one; how many were."""
        before = self.size
        for raw in raws:
            try:
                self._append(raw)
            except RecoveryContradiction:
                raise
            except LedgerError:
                break
        return self.size - before

    def take_from_others(self, raws: Iterable[bytes]) -> tuple[int, int]:
        """Append entries that are next and lie under a known head; (how many were, were not).

        Raises: RecoveryContradiction, RecoveryIncomplete.
        """
        before, refused = self.size, 0
        later: set[int] = set()
        for raw in raws:
            try:
                entry = parse_entry(raw)
                if self._identity and entry.seq < self.size:
                    self._check_same(entry, self._identity)
                elif entry.seq > self.size or entry.seq >= self._target():
                    later.add(entry.seq)
                else:
                    self._append(raw)
            except RecoveryContradiction:
                raise
            except LedgerError:
                refused += 1
        if self.size < self._target():
            raise RecoveryIncomplete(_gaps(self.size, self._target(), later))
        return self.size - before, refused

    def _target(self) -> int:
        """How many entries the largest head covers that one of this log's keys signed.

        The newest key is known from the start: heads under it tell of entries that are lost.
        """
        stated = [head.size for head, _ in self._notes]
        identity, last = self._identity, self._last_record
        if identity is None:
            # Nobody can say yet whose signature counts.
            return max([1, *stated])
        keys = (*(key.public_key for key in identity.keys), self._log_key.public_key)
        sizes = [head.size for head, note in self._notes if _is_signed(note, identity.origin, keys)]
        if last is not None:
            text = last.checkpoint(identity).text.encode()
            if any(verify(key, text, last.signature) for key in keys):
                sizes.append(last.size)
        return max([1, *sizes])

    def _append(self, raw: bytes) -> None:
        entry = parse_entry(raw)
        identity = self._identity or parse_genesis(raw)
        if identity.log_id != self._log_id:
            raise LogKeyWrong("another log", expected=self._log_id, actual=identity.log_id)
        verify_entry(entry, identity)
        try:
            verify_link(entry, self.size, self._last_leaf)
        except ChainBroken as error:
            # This log's key signed an entry of that number that follows another one.
            raise RecoveryContradiction(str(error)) from error
        if self._identity is None:
            self._file.write(file_header(identity.origin))
        self._identity = follow(identity, entry)
        self._nodes += self._frontier.append(entry.leaf)
        self._rows.append(row_of(entry))
        self._last_leaf = entry.leaf
        if erased := redaction_in(entry.kind, entry.body):
            self._redacted.add(erased)
        self._compare_heads(self._identity)
        if len(self._rows) >= ROWS_PER_READ:
            self._write(StoredHead(self.size, self.root, _NO_SIGNATURE, 0), ())

    def _compare_heads(self, identity: LogIdentity) -> None:
        """Every known head of this size must have this root."""
        keys = [key.public_key for key in identity.keys]
        for head, note in self._notes_of_size.get(self.size, ()):
            if head.root != self.root and _is_signed(note, identity.origin, keys):
                raise RecoveryContradiction(
                    f"a head of size {head.size}", expected=head.root, actual=self.root
                )
        while (record := self._next_record) and record.size <= self.size:
            note = record.note(identity)
            if record.size == self.size and _is_signed(note, identity.origin, keys):
                if record.root != self.root:
                    raise RecoveryContradiction(
                        f"heads.log, size {record.size}", expected=record.root, actual=self.root
                    )
                self._file.write(pack_record(record))
                self._last_written = record.size
            self._next_record = next(self._records, None)

    def _check_same(self, entry: Entry, identity: LogIdentity) -> None:
        """An entry that is here already must be the same one, if this log's key signed it."""
        here = next((row for row in self._rows if row.seq == entry.seq), None)
        leaf = here.leaf if here else self._database.node_at(0, entry.seq)
        if leaf != entry.leaf:
            verify_entry(entry, identity)
            raise RecoveryContradiction(f"entry {entry.seq}", expected=leaf, actual=entry.leaf)

    def _write(self, head: StoredHead, secrets: Iterable[StoredSecret]) -> None:
        self._database.write_commit(self._rows, self._nodes, head, kept=secrets)
        self._rows, self._nodes = [], []

    def finish(self, left: Remains) -> int:
        """Sign the head, make the files durable; how many erasable values were kept.

        Raises: LogKeyWrong.
        """
        identity, log = self._identity, self._log_key
        assert identity is not None, "`take_from_others` wants at least the first entry"
        if log.public_key != identity.log_pk:
            raise LogKeyWrong(expected=identity.log_pk, actual=log.public_key)
        text = Checkpoint(identity.origin, self.size, self.root).text
        head = StoredHead(self.size, self.root, log.sign(text.encode()), 0)
        secrets = list(left.secrets(self.size, frozenset(self._redacted)))
        self._write(head, secrets)
        if self._last_written < self.size:
            self._file.write(pack_record(record_of(head)))
        self._file.flush()
        os.fsync(self._file.fileno())
        return len(secrets)

    def close(self) -> None:
        """Close the files; closing twice is fine."""
        self._file.close()
        self._database.close()


def _stated(notes: Sequence[bytes]) -> Iterator[tuple[Checkpoint, bytes]]:
    for note in notes:
        try:
            yield Checkpoint.parse(note_text(note)), note
        except NoteError:
            continue


def _is_signed(note: bytes, origin: str, public_keys: Iterable[bytes]) -> bool:
    """True if one of the log's keys signed the note: an old key's head still has to be true."""
    keys = (VerifierKey(origin, KeyType.ED25519, key) for key in public_keys)
    try:
        head = Checkpoint.parse(note_verify(note, *keys).text)
    except NoteError:
        return False
    return head.origin == origin


def _gaps(start: int, stop: int, present: set[int]) -> list[range]:
    """The numbers of [start, stop) that are not in `present`, as ranges."""
    gaps: list[range] = []
    for seq in [*sorted(seq for seq in present if start <= seq < stop), stop]:
        if start < seq and len(gaps) < _MISSING_RANGES_MAX:
            gaps.append(range(start, seq))
        start = seq + 1
    return gaps
