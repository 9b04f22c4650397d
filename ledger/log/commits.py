"""The commit protocol: nothing is released before it is durable and was read back.

Responsible for: where the log ends, the order of writes, and what a failed commit means.
Must not know: who may append what, or who reads the heads.
Source: LEDGER.md, Storage and commit.
"""

from collections.abc import Sequence

from ledger.log.database import Database, StoredHead, StoredSecret
from ledger.log.ed25519 import Signer
from ledger.log.entries import Draft, Entry, signed_entry
from ledger.log.errors import LogStopped, WriteFailed
from ledger.log.heads_file import HeadRecord, HeadsFile
from ledger.log.identity import LogIdentity
from ledger.log.notes import Checkpoint
from ledger.log.opening import record_of, reread_commit, row_of
from ledger.log.own_kinds import redaction_in
from ledger.log.tree import Frontier, Node


class Commits:
    """Appends to one log's files. The caller makes sure that one thread uses it at a time."""

    __slots__ = (
        "_frontier",
        "_heads",
        "_last_leaf",
        "_log_key",
        "_reading",
        "_stopped",
        "_writing",
    )

    def __init__(
        self,
        *,
        reading: Database,
        writing: Database,
        heads: HeadsFile,
        log_key: Signer,
        frontier: Frontier,
        last_leaf: bytes,
    ) -> None:
        """`reading` is a second connection: what it sees was stored."""
        self._reading = reading
        self._writing = writing
        self._heads = heads
        self._log_key = log_key
        self._frontier = frontier
        self._last_leaf = last_leaf
        self._stopped = False

    @property
    def size(self) -> int:
        """The number of entries committed, and the number of the next one."""
        return self._frontier.size

    def check_running(self) -> None:
        """Raises LogStopped after `close` or a failed commit."""
        if self._stopped:
            raise LogStopped

    def commit(
        self,
        drafts: Sequence[Draft],
        identity: LogIdentity,
        now_us: int,
        *,
        kept: Sequence[StoredSecret] = (),
        next_key: Signer | None = None,
    ) -> tuple[tuple[Entry, ...], HeadRecord]:
        """One commit: its entries and the head that covers them, now free to release.

        identity: with the key that signs the head, which is `next_key` if there is one. A draft
        that records a redaction erases its secret. Raises: EntryFieldWrong or an EncodingError
        before anything is written; WriteFailed, Corrupt or StoreError, after which the log is
        stopped: what became of the commit is decided when it is opened again.
        """
        self.check_running()
        written = self._signed(drafts, identity, now_us)
        erased = [found for draft in drafts if (found := redaction_in(draft.kind, draft.body))]
        signer = next_key or self._log_key
        self._stopped = True
        frontier = self._frontier.copy()
        nodes: list[Node] = []
        for entry in written:
            nodes += frontier.append(entry.leaf)
        head = _signed_head(frontier, self.size, identity, signer)
        rows = [row_of(entry) for entry in written]
        self._writing.write_commit(rows, nodes, head, kept=kept, erased=erased)
        # What counts is what another connection reads back, not what this one believes.
        seen = self._frontier.copy()
        stored = reread_commit(self._reading, identity, seen, self._last_leaf, head, written)
        record = record_of(head)
        try:
            self._heads.append(record)
        except OSError as error:
            raise WriteFailed(str(error)) from error
        self._frontier, self._last_leaf, self._log_key = seen, stored[-1].leaf, signer
        self._stopped = False
        return stored, record

    def _signed(self, drafts: Sequence[Draft], identity: LogIdentity, now_us: int) -> list[Entry]:
        entries: list[Entry] = []
        prev = self._last_leaf
        for seq, draft in enumerate(drafts, start=self.size):
            entry = signed_entry(
                draft, identity=identity, seq=seq, prev=prev, time_us=now_us, log=self._log_key
            )
            prev = entry.leaf
            entries.append(entry)
        return entries

    def close(self) -> None:
        """Close the files and release the lock; closing twice is fine."""
        self._stopped = True
        self._reading.close()
        # The connection that may write closes last, so that it empties the write-ahead log.
        self._writing.close()
        self._heads.close()


def _signed_head(
    frontier: Frontier, previous_size: int, identity: LogIdentity, signer: Signer
) -> StoredHead:
    root = frontier.root()
    text = Checkpoint(identity.origin, frontier.size, root).text
    return StoredHead(frontier.size, root, signer.sign(text.encode()), previous_size)
