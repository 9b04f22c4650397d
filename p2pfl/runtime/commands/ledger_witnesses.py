"""What this site holds of other sites' ledgers, and they of its own, from the home's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossip.keys import read_keys
from gossip.roster import Roster
from ledger.log import LedgerError, LogId, LogReader
from ledger.log.forks import check_fork
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from p2pfl.core.witnessing_terms import quorum, witness_name
from p2pfl.runtime.commands.opening import required_roster
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home, read_bounded

FORK_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class PeerLog:
    """Another site's ledger, as it is known here. Ages in seconds, −1 for never."""

    name: str
    site: bytes
    size: int
    """Entries under the newest head that was seen; −1 if none was."""
    seen_s: int
    cosigned_s: int
    """How long ago this site cosigned it."""
    mirrored: int
    """Leaf hashes of it that are kept here."""
    cosigned_own: int
    """Entries of this site's own ledger under the newest head that the other site cosigned."""


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """The own head and its cosignatures, and every other site's head."""

    size: int
    cosigned_size: int
    """The newest own head with a cosignature; 0 if there is none."""
    cosigned_by: tuple[str, ...]
    needed: int
    quorum_met: bool
    forks: int
    peers: tuple[PeerLog, ...]


@dataclass(frozen=True, slots=True)
class ForkSeen:
    """A proof that holds."""

    form: str
    log_id: bytes
    sizes: tuple[int, int]
    sentence: str


def witness_status(home: Home, *, now_us: int) -> WitnessStatus:
    """From both files, also beside a running node. Raises OperatorError, LedgerError."""
    roster = required_roster(home)
    me = read_keys(home.keys).site
    reader = LogReader.open(home.path)
    try:
        return _status(home, roster, me, reader, now_us)
    finally:
        reader.close()


def _status(home: Home, roster: Roster, me: bytes, reader: LogReader, now_us: int) -> WitnessStatus:
    size = reader.checkpoint.size
    if not (home.path / WITNESS_NAME).is_file():
        raise OperatorError(
            "No node has witnessed anything in this home yet.",
            fix="Start the node: `p2pfl node start`.",
            exit_code=EXIT_NO_INPUT,
        )
    book = WitnessDatabase.open(home.path / WITNESS_NAME)
    try:
        names = {witness_name(card.site): card.name for card in roster.members}
        # Cosignatures of a log before this one are kept, too.
        own = [h for h in book.own_heads() if h.size <= size and reader.root_at(h.size) == h.root]
        newest = own[-1] if own else None
        by = tuple(
            sorted(names.get(c.witness, c.witness) for c in newest.cosignatures) if newest else ()
        )
        covered = {c.witness: head.size for head in own for c in head.cosignatures}
        peers = tuple(
            _peer(book, card.name, card.site, LogId(card.log_id), covered, now_us)
            for card in sorted(roster.members, key=lambda card: card.name)
            if card.site != me
        )
        needed = quorum(len(roster.members))
        cosigned = 0 if newest is None else newest.size
        return WitnessStatus(
            size, cosigned, by, needed, len(by) >= needed, len(book.forks()), peers
        )
    finally:
        book.close()


def _peer(
    book: WitnessDatabase,
    name: str,
    site: bytes,
    log_id: LogId,
    covered: dict[str, int],
    now_us: int,
) -> PeerLog:
    own = covered.get(witness_name(site), 0)
    try:
        held, mirrored = book.head_of(log_id), book.mirrored_size(log_id)
    except LedgerError:
        held, mirrored = None, 0  # never heard of
    if held is None:
        return PeerLog(name, site, -1, -1, -1, mirrored, own)
    cosigned_s = (now_us - held.cosigned_us) // 1_000_000 if held.cosigned_us else -1
    seen_s = (now_us - held.seen_us) // 1_000_000
    return PeerLog(name, site, held.size, seen_s, cosigned_s, mirrored, own)


def fork_checked(file: Path) -> ForkSeen:
    """Check a proof with nothing but its file. Raises OperatorError if it proves nothing."""
    data = read_bounded(file, FORK_BYTES_MAX)
    try:
        verdict = check_fork(data)
    except LedgerError as error:
        raise OperatorError(
            f"{file} proves no fork: {error}",
            fix="Ask whoever sent it for the whole file.",
            exit_code=EXIT_DATA,
        ) from error
    return ForkSeen(verdict.kind.value, verdict.log_id, verdict.sizes, verdict.sentence)
