"""Streaming a log's entries once: rows, tree and released heads side by side.

Responsible for: memory that does not grow with the log, and using both cores for signatures.
Must not know: how the database and heads.log should end (see `verification`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

from ledger.log.block_check import Blocks
from ledger.log.database import Database
from ledger.log.entries import NO_PREVIOUS
from ledger.log.entry_checks import Columns, diagnose
from ledger.log.errors import LedgerError
from ledger.log.findings import Finding, FindingCode, Findings, SigCheck
from ledger.log.heads_file import HeadRecord
from ledger.log.identity import LogIdentity
from ledger.log.own_checks import Watch
from ledger.log.own_kinds import Frozen
from ledger.log.tree import frontier_at
from ledger.log.tree_check import BLOCK_LEAVES, BlockTree

_JOBS_IN_FLIGHT = 4
_HEADS_PER_JOB = 256


class Jobs:
    """A bounded queue of signature checks that run beside the stream."""

    def __init__(self, pool: Executor, findings: Findings) -> None:
        self._pool = pool
        self._findings = findings
        self._running: deque[Future[list[Finding]]] = deque()

    def submit(self, job: Callable[[], list[Finding]]) -> None:
        """Start `job`, first waiting for the oldest one if too many run."""
        while len(self._running) >= _JOBS_IN_FLIGHT:
            self._findings.add(*self._running.popleft().result())
        self._running.append(self._pool.submit(job))

    def finish(self) -> None:
        """Wait for all jobs."""
        while self._running:
            self._findings.add(*self._running.popleft().result())


class HeadStream:
    """Released heads, compared with the tree as it grows past each of them."""

    def __init__(
        self,
        heads: Iterator[HeadRecord],
        identity: LogIdentity,
        sigs: SigCheck,
        jobs: Jobs,
        findings: Findings,
        frozen: Frozen | None = None,
    ) -> None:
        """frozen: what ended the log; the first head that covers it must be the last."""
        self._frozen = frozen
        self._heads = heads
        self._identity = identity
        self._sigs = sigs
        self._jobs = jobs
        self._findings = findings
        self._next = next(heads, None)
        self._agreed_size = 0
        self._unverified: list[HeadRecord] = []

    def skip_to(self, size: int) -> None:
        """Leave out heads that end at or before `size`."""
        while self._next and self._next.size <= size:
            self._check_frozen(self._next)
            self._agreed_size = self._next.size
            self._next = next(self._heads, None)

    def _check_frozen(self, head: HeadRecord) -> None:
        if self._frozen and self._agreed_size > self._frozen.seq:
            detail = f"frozen by entry {self._frozen.seq}, yet a head of size {head.size} follows"
            self._findings.report(FindingCode.WRITTEN_AFTER_FREEZE, detail, self._agreed_size)
            self._frozen = None

    def compare(self, tree: BlockTree) -> range | None:
        """Compare the heads that `tree` has reached.

        Returns the entries between the last head that agrees and the first that differs.
        """
        while (head := self._next) and head.size <= tree.size:
            root = tree.root_at(head.size)
            if root != head.root:
                detail = f"size {head.size}: released {head.root.hex()}, entries give {root.hex()}"
                self._findings.report(FindingCode.ROOT_MISMATCH, detail)
                # Every later head differs, too, and would say nothing new.
                self._next = None
                return range(self._agreed_size, head.size)
            self._check_frozen(head)
            self._agreed_size = head.size
            self._unverified.append(head)
            if len(self._unverified) >= _HEADS_PER_JOB:
                self.verify()
            self._next = next(self._heads, None)
        return None

    def verify(self) -> None:
        """Start verifying the signatures of the heads compared so far."""
        heads, self._unverified = self._unverified, []
        if heads and self._sigs is not SigCheck.NONE:
            self._jobs.submit(lambda: _bad_heads(heads, self._identity))


def _bad_heads(heads: Sequence[HeadRecord], identity: LogIdentity) -> list[Finding]:
    findings = []
    for head in heads:
        try:
            head.verify(identity)
        except LedgerError as error:
            detail = f"released head of size {head.size}: {error}"
            findings.append(Finding(FindingCode.HEAD_ALTERED, head.size - 1, detail))
    return findings


class EntryStream:
    """One pass over the entries of one log."""

    def __init__(
        self,
        database: Database,
        identity: LogIdentity,
        sigs: SigCheck,
        blocks: Blocks,
        findings: Findings,
        watch: Watch,
    ) -> None:
        """blocks: vouches for entries, or leaves them to this stream."""
        self._database = database
        self._watch = watch
        self._identity = identity
        self._sigs = sigs
        self._findings = findings
        self._blocks = blocks

    def run(self, start: int, size: int, heads: HeadStream) -> bytes | None:
        """Check entries [start, size) and the heads in it; return the root over all `size`.

        start: a multiple of BLOCK_LEAVES. The root is None if entries are missing.
        Raises Corrupt if the stored tree before `start` is incomplete.
        """
        tree = BlockTree(frontier_at(start, self._database.node_at), self._database.nodes)
        prev: bytes | None = self._database.node_at(0, start - 1) if start else NO_PREVIOUS
        heads.skip_to(start)
        complete = True
        for first in range(start, size, BLOCK_LEAVES):
            stop = min(first + BLOCK_LEAVES, size)
            leaves = self._check_block(first, stop, prev)
            prev = leaves[-1]
            known = [leaf for leaf in leaves if leaf is not None]
            complete = complete and len(known) == len(leaves)
            if complete:
                self._check_nodes(tree, known)
                self._check_heads(tree, heads)
        heads.verify()
        return tree.root_at(size) if complete else None

    def _check_nodes(self, tree: BlockTree, leaves: Sequence[bytes]) -> None:
        first = tree.size
        for level in tree.add_block(leaves):
            detail = f"level {level}, under entries {first} … {first + len(leaves) - 1}"
            self._findings.report(FindingCode.NODE_ALTERED, detail, first)

    def _check_heads(self, tree: BlockTree, heads: HeadStream) -> None:
        suspects = heads.compare(tree)
        if suspects is None or self._sigs is not SigCheck.HEADS:
            return
        # The tree says only that something in this range was changed: find the entry.
        for first in range(suspects.start, suspects.stop, BLOCK_LEAVES):
            rows = self._database.columns(first, min(first + BLOCK_LEAVES, suspects.stop))
            self._findings.add(*_diagnosed([(row, None) for row in rows], self._identity))

    def _check_block(self, first: int, stop: int, prev: bytes | None) -> list[bytes | None]:
        """Check rows [first, stop); the leaf hash of each, None where nobody can say."""
        sound = self._blocks.sound(first, stop)
        if sound is None or sound.prev != prev or len(sound.leaves) != stop - first:
            return self._diagnose_block(first, stop, prev)
        if sound.is_watched:
            self._watch_rows(self._database.columns(first, stop))
        return list(sound.leaves)

    def _diagnose_block(self, first: int, stop: int, prev: bytes | None) -> list[bytes | None]:
        """Look at each row of a block that nobody vouches for."""
        rows = self._rows(first, stop)
        self._watch_rows([row for row in rows if row is not None])
        leaves: list[bytes | None] = []
        for row in rows:
            leaf = None
            if row is not None:
                found, leaf = diagnose(row, leaves[-1] if leaves else prev, self._identity)
                self._findings.add(*found)
            leaves.append(leaf)
        return leaves

    def _watch_rows(self, rows: Sequence[Columns]) -> None:
        for row in rows:
            if row[2] in self._watch.kinds:
                self._watch.see(row)

    def _rows(self, first: int, stop: int) -> list[Columns | None]:
        """The rows [first, stop), None for each that is missing."""
        found = self._database.columns(first, stop)
        if [row[0] for row in found] == list(range(first, stop)):
            return list(found)
        by_seq = {row[0]: row for row in found}
        if len(by_seq) != len(found):
            seen: set[object] = set()
            for row in found:
                if row[0] in seen:
                    self._findings.report(
                        FindingCode.ENTRY_DUPLICATE, "stored more than once", row[0]
                    )
                seen.add(row[0])
        rows: list[Columns | None] = [by_seq.get(seq) for seq in range(first, stop)]
        for seq in range(first, stop):
            if seq not in by_seq:
                self._findings.report(FindingCode.ENTRY_MISSING, "not in the database", seq)
        return rows


def _diagnosed(
    rows: Sequence[tuple[Columns, bytes | None]], identity: LogIdentity
) -> list[Finding]:
    return [finding for row, prev in rows for finding in diagnose(row, prev, identity)[0]]
