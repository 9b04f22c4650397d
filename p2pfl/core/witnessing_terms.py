"""What witnessing is given, what goes into it and what comes out: closed unions and protocols."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from gossip.card import Card
from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.rate import TokenBucket
from gossip.roster import Roster
from gossip.witness_messages import ForkTold, WitnessMessage
from ledger.log import (
    Checkpoint,
    Entry,
    KeyType,
    KnownWitness,
    LogId,
    VerifierKey,
    WitnessStore,
    origin_of,
)
from ledger.log.forks import ForkProof
from ledger.log.witness_store import MirroredEntry, OwnHead
from p2pfl.core import events as ev
from p2pfl.core.meetings import Lost as Lost
from p2pfl.core.meetings import Met as Met


@dataclass(frozen=True, slots=True)
class WitnessTerms:
    """How often what is told and asked, and how much of it."""

    swap_s: float = 600.0
    """The own head goes to each connected member at the pace of `head_pace_s`, and this often
    though nothing changed; heads held of others are swapped as often."""
    quorum_wait_s: float = 10.0
    """After a start, once one site has said which head of the own log it knows, so long is waited
    for as many as exclude a conspiracy."""
    again_s: float = 5.0
    """What was lost on the way is asked again, and a site is told what is held at most so often."""
    fetch_s: float = 0.5
    """Leaves and entries that are missing are asked for at most this often, of one log; a few of
    them as much less often as heads come."""
    reply_s: float = 60.0
    replies_burst: float = 12.0
    hear_per_s: float = 0.5
    hear_burst: float = 30.0
    """Messages of one member about the heads that it holds. Honest ones tell on meeting, then
    every `again_s` at most."""
    patience_doublings: int = 5
    """A member that does not answer is asked half as often each time, so many times."""
    serve_per_s: float = 4.0
    """Messages of leaves or entries that one member is sent at most."""
    serve_burst: float = 16.0
    leaves: int = 1_024
    entries: int = 128
    entries_bytes: int = 48 * 1_024


@dataclass(frozen=True, slots=True)
class Said:
    """A member said something about logs: straight to this site, or a proof for everyone."""

    sender: SiteId
    message: WitnessMessage | ForkTold


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """A head of a member's log came with something else; its signature was verified."""

    log_id: bytes
    note: bytes


@dataclass(frozen=True, slots=True)
class OwnGrew:
    """The own log has a newer head, durable and free to be released."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Members:
    """Another roster is in force."""

    roster: Roster


WitnessInput = Met | Lost | Said | HeadSeen | OwnGrew | Tick | Members


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to a connected member; it may get lost."""

    site: SiteId
    message: WitnessMessage


@dataclass(frozen=True, slots=True)
class TellEveryone:
    """See that every member gets this proof."""

    message: ForkTold


@dataclass(frozen=True, slots=True)
class ForkKept:
    """Put a proof's file where people find it: in the home's folder `forks`."""

    file: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Learned:
    """What the core has to know."""

    event: (
        ev.OwnLogConfirmed
        | ev.OwnLogWords
        | ev.OfflineStart
        | ev.OwnLogBehind
        | ev.LogKeys
        | ev.ForkFound
        | ev.PeerRefused
    )


WitnessOutput = Tell | TellEveryone | ForkKept | Learned


class OwnLogView(Protocol):
    """The own log, as far as it is released."""

    @property
    def log_id(self) -> LogId:
        """Its name."""

    @property
    def origin(self) -> str:
        """Its name in checkpoints."""

    @property
    def note(self) -> bytes:
        """Its newest head, signed."""

    @property
    def checkpoint(self) -> Checkpoint:
        """That head without its signature."""

    def lineage(self) -> Sequence[bytes]:
        """Its genesis entry and those that changed its keys, raw; none if none did."""

    def prove_consistency(self, m: int, n: int) -> tuple[bytes, ...]:
        """That the head of `n` entries extends that of `m`."""

    def root_at(self, size: int) -> bytes:
        """The root over its first entries."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Its entries."""

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """Leaf hashes of some of them."""


class Held(Protocol):
    """What is held of one log: see `ledger.log.witness_store`."""

    @property
    def log_id(self) -> LogId: ...
    @property
    def size(self) -> int: ...
    @property
    def note(self) -> bytes: ...
    @property
    def cosignatures(self) -> tuple[bytes, ...]: ...


class WitnessBook(WitnessStore, Protocol):
    """What this site holds about other logs: `ledger.log.witness_store.WitnessDatabase`."""

    @property
    def has_room(self) -> bool: ...
    def together(self) -> AbstractContextManager[None]: ...
    def set_logs(self, keys: Mapping[LogId, VerifierKey]) -> None: ...
    def set_witnesses(
        self,
        keys: Iterable[VerifierKey],
        bad_max: int = 0,
        earlier: Iterable[KnownWitness] = (),
    ) -> None: ...
    def heads(self) -> Sequence[Held]: ...
    def head_of(self, log_id: LogId) -> Held | None: ...
    def note_seen(self, log_id: LogId, note: bytes, now_us: int) -> ForkProof | None: ...
    def mirrored_size(self, log_id: LogId) -> int: ...
    def mirror(self, log_id: LogId, start: int, leaves: Sequence[bytes]) -> ForkProof | None: ...
    def confirmed_size(self, log_id: LogId) -> int: ...
    def leaves(self, log_id: LogId, start: int, stop: int) -> Sequence[bytes]: ...
    def keep_entries(self, log_id: LogId, entries: Sequence[MirroredEntry]) -> None: ...
    def entries(
        self, log_id: LogId, start: int = 0, stop: int | None = None
    ) -> Iterator[MirroredEntry]: ...
    def first_missing_entry(self, log_id: LogId, start: int = 0) -> int: ...
    def admit_rotation(self, log_id: LogId, raw: bytes) -> VerifierKey: ...
    def own_heads(self) -> Iterator[OwnHead]: ...
    def put_own_cosignature(self, size: int, root: bytes, line: bytes, ts_s: int) -> None: ...
    def admit_lineage(self, log_id: LogId, entries: Sequence[bytes]) -> bool: ...
    def lineage(self, log_id: LogId) -> Sequence[bytes]: ...
    def keys_in_force(self, log_id: LogId) -> Sequence[tuple[int, VerifierKey]]: ...
    def accused_witnesses(self) -> Collection[VerifierKey]: ...
    def fork_digests(self) -> Collection[bytes]: ...
    def put_fork(self, proof: bytes) -> bool: ...
    def forks(self) -> tuple[bytes, ...]: ...


Seal = Callable[[bytes], bytes]
"""Makes an entry's raw bytes readable for this site's identity key alone."""
MayRead = Callable[[SiteId, Entry], bool]


def witness_name(site: bytes) -> str:
    """The name under which a site cosigns."""
    return f"witness-{site.hex()[:16]}"


def witness_key(card: Card) -> VerifierKey:
    """What a member's cosignatures are verified with, as its card says; see `witnessing_epochs`."""
    return VerifierKey(witness_name(card.site), KeyType.COSIGNATURE_V1, card.witness_pk)


def log_key(consortium: str, card: Card) -> VerifierKey:
    """What a member's heads are verified with."""
    origin = origin_of(consortium, card.log_id)
    return VerifierKey(origin, KeyType.ED25519, card.log_pk)


def quorum(sites: int, faulty: int | None = None) -> int:
    """How many of the other sites' cosignatures exclude a split view.

    sites: members of the consortium, the log's own site among them, so n = sites − 1 witnesses.
    faulty: how many of the witnesses may lie; ⌊(n − 1)/3⌋ if not agreed otherwise, and never all
    of them. Two quorums of ⌊(n + f)/2⌋ + 1 share an honest witness, and an honest witness cosigns
    one history only.

    >>> quorum(3), quorum(4), quorum(5), quorum(10)
    (2, 2, 3, 6)
    """
    witnesses = max(0, sites - 1)
    return (witnesses + liars_max(sites, faulty)) // 2 + 1 if witnesses else 0


def liars_max(sites: int, faulty: int | None = None) -> int:
    """How many of the other sites may lie at once: see `quorum`.

    >>> liars_max(1), liars_max(4), liars_max(5), liars_max(4, faulty=9)
    (0, 0, 1, 2)
    """
    witnesses = max(0, sites - 1)
    return max(0, witnesses - 1) // 3 if faulty is None else max(0, min(faulty, witnesses - 1))


def words_needed(sites: int, faulty: int | None = None, false: int = 0) -> int:
    """How many other sites' words on the own log exclude that a longer one is kept back.

    The same count wherever it is asked: at a start, and before a ledger is mended. false: other
    sites that are proven to have cosigned two histories; their word is not counted, nor waited for.

    >>> words_needed(4), words_needed(4, faulty=2), words_needed(4, faulty=2, false=1)
    (2, 3, 2)
    """
    others = max(0, sites - 1)
    return max(1, min(others - false, quorum(sites, faulty))) if others else 0


TERMS: Final = WitnessTerms()


class WitnessingRefused(PeerError):
    """Base of what members say about logs and does not hold."""


class BadCosignature(WitnessingRefused):
    """An answer about a head that the own log does not have, or with a signature that is not."""


class BadNote(WitnessingRefused):
    """A note that is no head of a member's log."""


class TooManyHeads(WitnessingRefused):
    """Heads that a member holds, told more often than anybody needs to."""


class ForeignLog(WitnessingRefused):
    """A request about another log than the sender's own."""


class BadLeaves(WitnessingRefused):
    """Leaf hashes or entries that do not belong to the heads that the log signed."""


class BadKeys(WitnessingRefused):
    """Entries that do not prove which keys a member's log has."""


class BadForkProof(WitnessingRefused):
    """What is told as a proof of a fork proves nothing about a member's log."""


@dataclass(slots=True)
class Peer:
    """One connected member. cosigned: entries of the own log that it cosigned last, as it says."""

    cosigned: int = 0
    told_size: int = -1
    """Of the own head that it was last sent."""
    pushed_s: float = float("-inf")
    is_asked: bool = False
    """Whether it has yet to answer. Its answer says where the next request starts."""
    asked_again: int = 0
    """Requests since its last answer."""
    fetched: int = 0
    """What was asked for of its log since something of it came."""
    replies: TokenBucket = field(
        default_factory=lambda: TokenBucket(1.0 / TERMS.reply_s, TERMS.replies_burst)
    )
    """Of heads, to heads that it told: two that answer each other late would never end."""
    told_s: float = float("-inf")
    """When it was last told which heads are held."""
    fetched_s: float = float("-inf")
    refusal: str = ""
    serving: TokenBucket = field(
        default_factory=lambda: TokenBucket(TERMS.serve_per_s, TERMS.serve_burst)
    )

    def pause_s(self, size: int, pace_s: float) -> float:
        """Between two requests for the own head; sooner, one would contradict what it cosigns.

        size: of the newest own head; pace_s: between two heads."""
        if self.is_asked:
            return max(TERMS.again_s, pace_s) * patience(self.asked_again)
        if size > self.told_size:
            return pace_s
        return TERMS.swap_s if self.cosigned >= size else TERMS.again_s

    def asked(self, size: int, now_s: float) -> None:
        """It is asked to cosign the own head of this size."""
        self.asked_again += self.is_asked
        self.told_size, self.pushed_s, self.is_asked = size, now_s, True

    def answered(self, size: int) -> None:
        """It answered about the own head of this size: late, unless that was the newest asked."""
        if size == self.told_size:
            self.is_asked, self.asked_again = False, 0


def patience(unanswered: int) -> float:
    """How many times longer the next pause is.

    >>> [patience(count) for count in (0, 1, 2, 99)]
    [1.0, 2.0, 4.0, 32.0]
    """
    return 2.0 ** min(unanswered, TERMS.patience_doublings)
