"""What other sites hold that an audit may compare with a log: their logs, heads and cosignatures.

Responsible for the shape of that evidence and for verifying a signed head that somebody held.
Does no I/O: `peers_files` reads it from other sites' ledgers. Judges nothing; `rules` do."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.log import (
    Checkpoint,
    ExitCode,
    KeyType,
    KnownWitness,
    LedgerError,
    LogIdentity,
    Verification,
    VerifierKey,
)
from ledger.log.identity import FOREVER_US
from ledger.log.notes import (
    cosignatures_of,
    key_id_of,
    note_text,
    note_verify,
    signature_lines,
    stated_in,
)
from ledger.log.tree import Frontier
from ledger.provenance.kinds import ClockAnomaly
from ledger.provenance.timeline import Logged, Timeline

TOLERANCE_US = 5 * 60 * 1_000_000
"""How far the clocks of two honest sites may differ; what differs more is looked at."""
SETTLING_US = 60 * 1_000_000
"""What happened less than this before an audit may not have reached every copy yet."""


@dataclass(frozen=True, slots=True)
class Voucher:
    """Whose cosignatures a witness key makes, and until when they count; see `WitnessKey`."""

    site: bytes
    until_us: int = FOREVER_US
    is_disowned: bool = False

    def ended(self, other: "Voucher") -> "Voucher":
        """The same key as two logs of the site tell of it: the earlier end."""
        until_us = min(self.until_us, other.until_us)
        return Voucher(self.site, until_us, self.is_disowned or other.is_disowned)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness vouched at this time (unix s, its clock) that it saw this head and no other."""

    witness: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class HeldHead:
    """A head that the log's own key signed, as somebody holds it. The signature was verified.

    holder: the site that held it. seen_us: when it came there, 0 where nobody knows."""

    log_id: bytes
    size: int
    root: bytes
    holder: bytes
    cosigned: tuple[Cosigned, ...] = ()
    seen_us: int = 0


@dataclass(frozen=True, slots=True)
class ProvenFork:
    """A fork proof that checked out: which form, about which log or witness, in a sentence."""

    form: str
    about: bytes
    sentence: str


@dataclass(frozen=True, slots=True)
class CardSeen:
    """What a roster that `holder` keeps says about the audited site: which log, which log key."""

    holder: bytes
    log_id: bytes
    log_pk: bytes


@dataclass(frozen=True, slots=True)
class PeerLog:
    """Another site's log, as far as it could be read.

    leaves: leaf hashes of all its entries. timeline: those entries whose text could be read.
    sealed: how many entries only the site itself can read, by design; the rest is missing from
    this copy. notes: SHA-256 of every head it ever released, empty where only a mirror was read.
    verification: None for a mirrored log."""

    site: bytes
    log_id: bytes
    leaves: tuple[bytes, ...]
    timeline: Timeline
    sealed: int
    notes: frozenset[bytes]
    verification: Verification | None

    @property
    def size(self) -> int:
        return len(self.leaves)

    @property
    def is_sound(self) -> bool:
        """Whether its own verification found nothing wrong."""
        return self.verification is None or self.verification.exit_code is ExitCode.CLEAN

    @property
    def is_whole(self) -> bool:
        """Whether every entry could be read."""
        return len(self.timeline.times) == self.size

    @property
    def is_gapless(self) -> bool:
        """Whether everything is there that its writer shows to members of its studies."""
        return len(self.timeline.times) + self.sealed >= self.size

    def can_read(self, seq: int) -> bool:
        """Whether the text of an entry is at hand."""
        return seq in self.timeline.times


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """Everything an audit was given of other sites.

    identity: the audited log's own, None where its genesis entry cannot be read.
    members: sites of the roster but the audited one; empty where no roster is known.
    problems: what could not be read, in sentences."""

    identity: LogIdentity | None
    logs: tuple[PeerLog, ...] = ()
    heads: tuple[HeldHead, ...] = ()
    forks: tuple[ProvenFork, ...] = ()
    cards: tuple[CardSeen, ...] = ()
    members: frozenset[bytes] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def sound(self) -> tuple[PeerLog, ...]:
        """The logs that say something: a damaged copy accuses nobody."""
        return tuple(log for log in self.logs if log.is_sound)

    def log_of(self, site: bytes) -> PeerLog | None:
        """The sound log of a site, the longest one if several copies were given."""
        found = [log for log in self.sound if log.site == site]
        return max(found, key=lambda log: log.size, default=None)

    def heads_of(self, log_id: bytes) -> tuple[HeldHead, ...]:
        """All heads of one log that anybody holds, smallest first."""
        found = [head for head in self.heads if head.log_id == log_id]
        return tuple(sorted(found, key=lambda head: (head.size, head.root, head.holder)))


def held_head(
    note: bytes,
    identity: LogIdentity,
    witnesses: Mapping[bytes, Voucher],
    *,
    holder: bytes,
    lines: Iterable[bytes] = (),
    seen_us: int = 0,
) -> HeldHead | None:
    """The head in a signed note, or None unless a key of this log signed it at that size.

    witnesses: by public witness key. lines: cosignature lines kept beside the note.
    Cosignatures that do not verify do not count."""
    try:
        checkpoint = Checkpoint.parse(note_text(note))
        note_verify(note, identity.verifier_key_at(checkpoint.size))
        told = (*signature_lines(note), *lines)
    except LedgerError:
        return None
    if checkpoint.origin != identity.origin:
        return None
    return HeldHead(
        log_id=identity.log_id,
        size=checkpoint.size,
        root=checkpoint.root,
        holder=holder,
        cosigned=cosignatures(checkpoint.text, told, witnesses),
        seen_us=seen_us,
    )


def cosignatures(
    text: str, lines: Iterable[bytes], witnesses: Mapping[bytes, Voucher], *, own: bool = False
) -> tuple[Cosigned, ...]:
    """The lines in which a known witness vouches for the head `text`, verified.

    witnesses: by public witness key. Names in the lines are not believed. A key that was replaced
    vouches for what it states to have signed before. own: lines that the log's site got from the
    witness itself; only there a disowned key's earlier ones count, because whoever stole it can
    date back."""
    found: dict[bytes, Cosigned] = {}
    for line in lines:
        try:
            name, key_id, _ = stated_in(line)
        except LedgerError:
            continue  # the log's own signature, or no signature at all
        for public_key, whose in witnesses.items():
            is_its = key_id_of(name, KeyType.COSIGNATURE_V1, public_key) == key_id
            if not is_its or (whose.is_disowned and not own):
                continue
            key = VerifierKey(name, KeyType.COSIGNATURE_V1, public_key)
            known = KnownWitness(key, whose.until_us, whose.is_disowned)
            for signature in cosignatures_of(text, [line], key):
                if known.vouched(signature.time_s):
                    found[whose.site] = Cosigned(whose.site, signature.time_s or 0)
    return tuple(found[site] for site in sorted(found))


def note_digest(note: bytes) -> bytes:
    """How receipts name the head that came with an update (`from_head`)."""
    return hashlib.sha256(note).digest()


def roots_at(leaves: Sequence[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """The roots over the first `size` leaves, for each size that these leaves reach."""
    wanted = sorted({size for size in sizes if 0 <= size <= len(leaves)})
    frontier, roots = Frontier(), dict[int, bytes]()
    for size in wanted:
        for leaf in leaves[frontier.size : size]:
            frontier.append(leaf)
        roots[size] = frontier.root()
    return roots


def clock_set_at(timeline: Timeline) -> int:
    """The newest entry that says the clock was set by more than the tolerance, −1 without one.

    Times before it are explained; people see it among the incidents."""
    set_: Sequence[Logged[ClockAnomaly]] = timeline.of(ClockAnomaly)
    return max((x.seq for x in set_ if abs(x.record.delta_us) > TOLERANCE_US), default=-1)
