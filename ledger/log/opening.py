"""The open protocol: is the database the one that released the last head, and nothing less?

Responsible for: comparing ledger.db with heads.log after a stop at any instant, and re-reading
a commit to see that what is stored is what was meant.
Must not know: locks, or how damage is repaired by people.
Source: LEDGER.md, Storage and commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.log.database import Database, Row, StoredHead, row_from
from ledger.log.dm1 import INT_MAX, Value
from ledger.log.entries import NO_PREVIOUS, Entry, parse_entry, verify_entry, verify_link
from ledger.log.errors import Corrupt, HeadsCut, LedgerError, NoLedger, ProofRefused, Rollback
from ledger.log.genesis import parse_genesis
from ledger.log.heads_file import HeadRecord, Tail
from ledger.log.identity import LogIdentity
from ledger.log.own_kinds import (
    Compromised,
    Frozen,
    compromised_by,
    follow,
    frozen_by,
    redaction_in,
)
from ledger.log.tree import (
    Frontier,
    Node,
    frontier_at,
    leaf_hash,
    prove_inclusion,
    verify_inclusion,
)


@dataclass(frozen=True, slots=True)
class Examined:
    """A healthy ledger. `unreleased`: the one commit that heads.log has not seen, if any."""

    released: HeadRecord | None
    unreleased: HeadRecord | None
    frontier: Frontier
    last_leaf: bytes


@dataclass(frozen=True, slots=True)
class History:
    """What a log's own entries made of it.

    identity: with every log key so far. frozen: by the first proof against itself. redacted:
    (entry number, field) of every secret erased. seqs: of these entries. problems: what is wrong
    with some of them, by number; those were left out.
    """

    identity: LogIdentity
    frozen: Frozen | None = None
    compromised: tuple[Compromised, ...] = ()
    redacted: frozenset[tuple[int, str]] = frozenset()
    seqs: frozenset[int] = frozenset()
    problems: tuple[tuple[int, LedgerError], ...] = ()


def study_of(body: Mapping[str, Value]) -> bytes | None:
    """What the study column holds: the body's study if it is bytes."""
    study = body.get("study")
    return study if isinstance(study, bytes) else None


def record_of(head: StoredHead) -> HeadRecord:
    """The heads.log record of a stored head."""
    return HeadRecord(head.size, head.root, head.signature)


def read_identity(database: Database) -> LogIdentity:
    """Whose log this is, from its genesis entry alone. Raises NoLedger, Corrupt."""
    rows = database.rows(0, 1)
    if not rows and database.head() is None:
        raise NoLedger("its creation did not finish")
    try:
        return parse_genesis(rows[0].raw if rows else b"")
    except LedgerError as error:
        raise Corrupt(f"genesis entry: {error}") from error


def read_history(database: Database, genesis: LogIdentity, stop: int = INT_MAX) -> History:
    """What the log's entries about itself before number `stop` say, each verified.

    Raises Corrupt if SQLite cannot read them.
    """
    identity, frozen = genesis, None
    compromised: list[Compromised] = []
    redacted: set[tuple[int, str]] = set()
    seqs: set[int] = set()
    problems: list[tuple[int, LedgerError]] = []
    for columns in database.own_columns(stop):
        seq = columns[0]
        seqs.add(seq)
        try:
            row = row_from(columns)
            entry = parse_entry(row.raw)
            verify_link(entry, seq, entry.prev)
            verify_entry(entry, identity)
            identity = follow(identity, entry)
        except LedgerError as error:
            problems.append((seq, error))
            continue
        frozen = frozen or frozen_by(identity, entry)
        if disowned := compromised_by(identity, entry):
            compromised.append(disowned)
        if erased := redaction_in(entry.kind, entry.body):
            redacted.add(erased)
    return History(
        identity,
        frozen,
        tuple(compromised),
        frozenset(redacted),
        frozenset(seqs),
        tuple(problems),
    )


def sound_history(database: Database, genesis: LogIdentity, stop: int = INT_MAX) -> History:
    """`read_history` for whoever is to rely on it. Raises Corrupt."""
    history = read_history(database, genesis, stop)
    for seq, error in history.problems:
        raise Corrupt(f"entry {seq}: {error}") from error
    return history


def examine(database: Database, identity: LogIdentity, tail: Tail) -> Examined:
    """Compare the database with the last released head.

    Raises: Rollback (database older), HeadsCut (heads.log older by more than one commit),
    Corrupt (anything that contradicts).
    """
    last, head, size = tail.last, database.head(), database.size()
    released_size = last.size if last else 0
    if size < released_size:
        raise Rollback(expected=f"{released_size} entries", actual=size)
    if head is None or head.size != size:
        raise Corrupt("entries and head", expected=size, actual=head.size if head else None)
    if last:
        check_released(database, identity, last)
    frontier = frontier_at(released_size, database.node_at)
    last_leaf = database.node_at(0, released_size - 1) if released_size else NO_PREVIOUS
    if head.size == released_size:
        return Examined(last, None, frontier, last_leaf)
    if head.previous_size != released_size:
        raise HeadsCut(expected=f"a head of size {head.previous_size}", actual=released_size)
    try:
        entries = reread_commit(database, identity, frontier, last_leaf, head)
    except LedgerError as error:
        raise Corrupt(f"the unreleased commit: {error}") from error
    return Examined(last, record_of(head), frontier, entries[-1].leaf)


def check_released(database: Database, identity: LogIdentity, last: HeadRecord) -> None:
    """Check that `last` is a signed head of this log and the tree still has its root.

    Raises: Corrupt.
    """
    try:
        last.verify(identity)
    except LedgerError as error:
        raise Corrupt(f"the last head of heads.log: {error}") from error
    root = frontier_at(last.size, database.node_at).root()
    if root != last.root:
        raise Corrupt(f"root at size {last.size}", expected=last.root, actual=root)
    _check_last_leaf(database, last)


def _check_last_leaf(database: Database, last: HeadRecord) -> None:
    """The next entry will name this leaf, which the root above may not have touched."""
    seq = last.size - 1
    leaf = b"".join(leaf_hash(row.raw) for row in database.rows(seq, last.size))
    proof = prove_inclusion(seq, last.size, database.node_at)
    try:
        verify_inclusion(leaf, seq, last.size, proof, last.root)
    except ProofRefused as error:
        raise Corrupt(f"entry {seq}: {error}") from error
    if leaf != database.node_at(0, seq):
        raise Corrupt(f"entry {seq} does not fit its leaf hash")


def reread_commit(
    database: Database,
    identity: LogIdentity,
    frontier: Frontier,
    last_leaf: bytes,
    head: StoredHead,
    written: Sequence[Entry] = (),
) -> tuple[Entry, ...]:
    """Read the commit after `frontier` back and verify all of it; `frontier` grows by it.

    written: the entries as they were signed a moment ago. Bytes that are still the same need not
    be parsed again; their signatures are verified all the same.
    Raises: a LedgerError naming what is wrong: numbers, chain, signatures, leaf hashes, index
    columns, tree nodes, root or the head's signature.
    """
    entries, nodes = [], []
    known = {entry.raw: entry for entry in written}
    for row in database.rows(frontier.size, head.size):
        entry = known.get(row.raw) or parse_entry(row.raw)
        verify_link(entry, frontier.size, last_leaf)
        verify_entry(entry, identity)
        if row != row_of(entry):
            raise Corrupt(f"index columns of entry {entry.seq}")
        nodes += frontier.append(entry.leaf)
        entries.append(entry)
        last_leaf = entry.leaf
    if frontier.size != head.size:
        raise Corrupt("entries of a commit", expected=head.size, actual=frontier.size)
    _check_nodes(database, nodes)
    if frontier.root() != head.root:
        raise Corrupt("root", expected=head.root, actual=frontier.root())
    record_of(head).verify(identity)
    return tuple(entries)


def row_of(entry: Entry) -> Row:
    """How `entry` is stored."""
    return Row(entry.seq, entry.leaf, entry.kind, study_of(entry.body), entry.raw)


def _check_nodes(database: Database, nodes: Iterable[Node]) -> None:
    by_level: dict[int, list[Node]] = {}
    for node in nodes:
        by_level.setdefault(node[0], []).append(node)
    for level, expected in by_level.items():
        stored = database.nodes(level, expected[0][1], expected[-1][1] + 1)
        if stored != [node[2] for node in expected]:
            raise Corrupt(f"tree nodes of level {level}")
