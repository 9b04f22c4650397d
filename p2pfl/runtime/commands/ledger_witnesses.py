"""What this site holds of other sites' ledgers, and they of its own, from the home's files."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from gossip.card import Card
from gossip.keys import read_keys
from gossip.roster import Roster
from ledger.log import LedgerError, LogId, LogReader
from ledger.log.fork_proofs import FORK_BYTES_MAX, fork_digest
from ledger.log.forks import check_fork
from ledger.log.notes import stated_in
from ledger.log.witness_store import WITNESS_NAME, OwnHead, WitnessDatabase
from p2pfl.core.witnessing_epochs import Epochs, epochs_held
from p2pfl.core.witnessing_forks import fork_file
from p2pfl.core.witnessing_terms import quorum, witness_name
from p2pfl.runtime.commands.opening import required_roster
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.policy import read_policy


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
    cosigned_by: tuple[str, ...] = ()
    """Who is known to have cosigned that newest head of it."""
    cosigned_own_s: int = -1
    """How long ago the other site last cosigned a head of this site's own ledger."""


@dataclass(frozen=True, slots=True)
class ForkKnown:
    """A proof that is held. about: who is accused, by name."""

    file: Path
    form: str
    about: str
    sentence: str


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """The own head and its cosignatures, and every other site's head."""

    size: int
    cosigned_size: int
    """The newest own head with a cosignature; 0 if there is none."""
    cosigned_by: tuple[str, ...]
    needed: int
    quorum_met: bool
    witnessed_size: int
    """Entries under the newest own head that a quorum cosigned; 0 if there is none."""
    frozen: bool
    """Whether this site's own ledger is proved to have two histories: it takes no more entries."""
    forks: tuple[ForkKnown, ...]
    peers: tuple[PeerLog, ...]


@dataclass(frozen=True, slots=True)
class ForkSeen:
    """A proof that holds. keys: who signed it, for comparison where the file does not bind them."""

    form: str
    log_id: bytes
    sizes: tuple[int, int]
    keys: tuple[str, ...]
    bound: bool
    sentence: str


def witness_status(home: Home, *, now_us: int) -> WitnessStatus:
    """From both files, also beside a running node. Raises OperatorError, LedgerError."""
    roster = required_roster(home)
    me = read_keys(home.keys).site
    faulty = read_policy(home.policy)[0].faulty_witnesses
    reader = LogReader.open(home.path)
    try:
        return _status(home, roster, me, reader, faulty, now_us)
    finally:
        reader.close()


def _status(
    home: Home, roster: Roster, me: bytes, reader: LogReader, faulty: int | None, now_us: int
) -> WitnessStatus:
    size, frozen = reader.checkpoint.size, reader.frozen is not None
    if not (home.path / WITNESS_NAME).is_file():
        raise OperatorError(
            "No node has witnessed anything in this home yet.",
            fix="Start the node: `p2pfl node start`.",
            exit_code=EXIT_NO_INPUT,
        )
    book = WitnessDatabase.open(home.path / WITNESS_NAME)
    try:
        names = {witness_name(card.site): card.name for card in roster.members}
        liars = {key.name for key in book.accused_witnesses()}
        epochs = epochs_held(roster.members, book)
        # Cosignatures of a log before this one are kept, too.
        own = [
            (head.size, _vouching(head, epochs, liars))
            for head in book.own_heads()
            if head.size <= size and reader.root_at(head.size) == head.root
        ]
        cosigned, lines = own[-1] if own else (0, {})
        covered = {
            witness: _Vouched(at, max(by.get(witness, 0) for _, by in own))
            for at, witnesses in own
            for witness in witnesses
        }
        peers = tuple(
            _peer(book, card, names, covered.get(witness_name(card.site), _NOTHING), now_us)
            for card in sorted(roster.members, key=lambda card: card.name)
            if card.site != me
        )
        needed = quorum(len(roster.members), faulty)
        witnessed = max((at for at, by in own if len(by) >= needed), default=0)
        return WitnessStatus(
            size=size,
            cosigned_size=cosigned,
            cosigned_by=tuple(sorted(names.get(witness, witness) for witness in lines)),
            needed=needed,
            quorum_met=len(lines) >= needed,
            witnessed_size=witnessed,
            frozen=frozen,
            forks=_forks(home, book, roster, epochs),
            peers=peers,
        )
    finally:
        book.close()


def _vouching(head: OwnHead, epochs: Epochs, liars: Container[str]) -> dict[str, int]:
    """By witness, the time that its cosignature states; not those of liars and of thieves."""
    return {
        c.witness: c.time_s for c in head.cosignatures if c.witness not in liars and epochs.count(c)
    }


def _forks(
    home: Home, book: WitnessDatabase, roster: Roster, epochs: Epochs
) -> tuple[ForkKnown, ...]:
    """Every proof held, oldest first, by the names under which the node puts them."""
    names = {card.site: card.name for card in roster.members}
    owners = {card.log_id: card.name for card in roster.members}
    found = []
    for number, proof in enumerate(book.forks(), 1):
        verdict = check_fork(proof)
        form = verdict.kind.value
        about = owners.get(verdict.log_id, "a former member")
        if verdict.witness is not None:
            site = epochs.site_of(verdict.witness)
            about = verdict.witness.name if site is None else names[site]
        file = home.forks / fork_file(number, form, fork_digest(proof))
        found.append(ForkKnown(file, form, about, verdict.sentence))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Vouched:
    """What a witness cosigned of the own log: up to which size, and when last (unix s)."""

    size: int
    time_s: int

    def age_s(self, now_us: int) -> int:
        return max(0, now_us // 1_000_000 - self.time_s) if self.time_s else -1


_NOTHING = _Vouched(0, 0)


def _peer(
    book: WitnessDatabase, card: Card, names: dict[str, str], vouched: _Vouched, now_us: int
) -> PeerLog:
    name, site, log_id = card.name, card.site, LogId(card.log_id)
    own, own_s = vouched.size, vouched.age_s(now_us)
    try:
        held, mirrored = book.head_of(log_id), book.mirrored_size(log_id)
    except LedgerError:
        held, mirrored = None, 0  # never heard of
    if held is None:
        return PeerLog(name, site, -1, -1, -1, mirrored, own, cosigned_own_s=own_s)
    cosigned_s = (now_us - held.cosigned_us) // 1_000_000 if held.cosigned_us else -1
    seen_s = (now_us - held.seen_us) // 1_000_000
    stated = (stated_in(line)[0] for line in held.cosignatures)
    by = tuple(sorted(names.get(witness, witness) for witness in stated))
    return PeerLog(name, site, held.size, seen_s, cosigned_s, mirrored, own, by, own_s)


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
    keys = tuple(map(str, verdict.keys))
    form = verdict.kind.value
    return ForkSeen(form, verdict.log_id, verdict.sizes, keys, verdict.bound, verdict.sentence)
