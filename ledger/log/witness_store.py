"""What a site holds about the others' logs: heads, cosignatures, leaves, entries, proofs of forks.

Responsible for: comparing whatever is heard with whatever is held, atomically and durably, and
making a proof as soon as two histories meet.
Must not know: the network, the clock, or this site's own log.

One connection, one thread at a time. Everything per log is bounded (`WitnessLimits`). Leaves are
believed only up to the largest signed head whose root they give (`confirmed_size`).
Source: LEDGER.md, Witness rule and Fork proofs; c2sp.org/tlog-witness.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from ledger.log.entries import Digest
from ledger.log.fork_proofs import ForkProof, decode_fork
from ledger.log.forks import check_fork
from ledger.log.identity import LogId
from ledger.log.mirror_entries import EntryForm, MirroredEntry, MirrorEntries
from ledger.log.mirror_errors import ForkOfStranger, MirrorError, WitnessStoreDamaged
from ledger.log.mirror_forks import MirrorForks
from ledger.log.mirror_heads import HeldHead
from ledger.log.mirror_history import MirrorHistory
from ledger.log.mirror_keys import MirrorKeys
from ledger.log.mirror_limits import WitnessLimits
from ledger.log.mirror_own import Cosignature, OwnCosignatures, OwnHead
from ledger.log.mirror_tables import MirrorTables
from ledger.log.notes import Checkpoint, VerifierKey, note_text
from ledger.log.witness import Request
from ledger.log.witness_keys import KnownWitness, KnownWitnesses

__all__ = [
    "Cosignature",
    "EntryForm",
    "HeldHead",
    "MirroredEntry",
    "OwnHead",
    "WitnessDatabase",
    "WitnessLimits",
]

WITNESS_NAME = "witness.db"
_US_PER_S = 1_000_000


class WitnessDatabase:
    """The SQLite file `witness.db`. Implements WitnessStore: nothing is told before it is durable.

    Every method raises WriteFailed if the disk refuses, WitnessStoreDamaged if the file was
    altered; what a peer sent wrongly raises a MirrorError or NoteError and changes nothing.
    """

    def __init__(self, tables: MirrorTables, limits: WitnessLimits) -> None:
        """Use `open`."""
        self._tables = tables
        self._limits = limits
        self._keys = MirrorKeys(tables)
        self._forks = MirrorForks(tables)
        self._own = OwnCosignatures(tables, limits.own_heads_max)
        self._history = MirrorHistory(tables, self._keys, self._forks, limits)
        self._entries = MirrorEntries(tables, self._keys, self._forks, limits)

    @classmethod
    def open(cls, path: Path, limits: WitnessLimits | None = None) -> "WitnessDatabase":
        """Open or make the file, every held head verified.

        Raises: StoreError, FormatUnknown, WitnessStoreDamaged.
        """
        database = cls(MirrorTables.open(path), limits or WitnessLimits())
        try:
            for log_id, _ in database._keys.logs():
                database._history.heads(log_id).verify_all()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the file."""
        self._tables.close()

    @property
    def has_room(self) -> bool:
        """Whether mirrors may grow: so much of the disk has to stay free for the site itself."""
        return self._tables.free_bytes() >= self._limits.free_bytes_min

    def together(self) -> AbstractContextManager[None]:
        """Many changes as one durable commit: tell nobody of them before it ends."""
        return self._tables.transaction()

    # --- whom we witness ----------------------------------------------------------------------

    def set_logs(self, keys: Mapping[LogId, VerifierKey]) -> None:
        """Whom to witness from now on, from the roster; a log left out stays readable.

        Raises: MirrorFull.
        """
        self._keys.set_logs(keys, self._limits.logs_max)

    def set_witnesses(
        self,
        keys: Iterable[VerifierKey],
        bad_max: int = 0,
        earlier: Iterable[KnownWitness] = (),
    ) -> None:
        """Whose cosignatures are kept, from the roster; how many of those sites may lie at once.

        earlier: keys that they had before, and until when.
        """
        self._history.witnesses = KnownWitnesses([*map(KnownWitness, keys), *earlier])
        self._history.bad_max = bad_max

    def admit_lineage(self, log_id: LogId, entries: Sequence[bytes]) -> bool:
        """A log's keys, and those with which its site cosigns, from its genesis, `key.rotated` and
        `key.compromised` entries, raw.

        They prove themselves, so anybody may bring them. True if anything in them was new.
        Raises: LogUnknown, RotationRefused, MirrorFull.
        """
        return self._keys.admit_lineage(log_id, entries)

    def admit_rotation(self, log_id: LogId, raw: bytes) -> VerifierKey:
        """The log's key after an entry that changes keys, the genesis entry being held already.

        Raises: like `admit_lineage`.
        """
        self._keys.admit_lineage(log_id, [raw])
        return self.keys_in_force(log_id)[-1][1]

    def lineage(self, log_id: LogId) -> tuple[bytes, ...]:
        """What `admit_lineage` took, for others; empty if it never took any. Raises LogUnknown."""
        return self._keys.told_lineage(self._keys.number(log_id))

    def keys_in_force(self, log_id: LogId) -> tuple[tuple[int, VerifierKey], ...]:
        """(smallest size of heads, key) of a log, ascending. Raises LogUnknown."""
        return self._keys.in_force(self._keys.number(log_id))

    # --- heads --------------------------------------------------------------------------------

    def heads(self) -> tuple[HeldHead, ...]:
        """The newest head held of each log, by log id."""
        newest = (self._history.heads(log_id).newest() for log_id, _ in self._keys.logs())
        return tuple(head for head in newest if head)

    def head_of(self, log_id: LogId) -> HeldHead | None:
        """The newest head held of a log; None if there is none. Raises LogUnknown."""
        return self._history.heads(log_id).newest()

    def note_seen(self, log_id: LogId, note: bytes, now_us: int) -> ForkProof | None:
        """A head heard from anyone: kept if it is of use, with its valid cosignatures.

        Returns a new proof, kept as well, if it contradicts what is held; `forks` may then hold
        proofs about witnesses (K4), too.
        Raises: LogUnknown, NoteError, HeadImpossible, KeySuperseded, KeyDisowned.
        """
        heard = self._history.verified(log_id, note)
        with self._tables.transaction():
            return self._history.take(log_id, heard, now_us)

    # --- the mirror ---------------------------------------------------------------------------

    def mirrored_size(self, log_id: LogId) -> int:
        """How many leaf hashes are held: where the next ones must continue. Raises LogUnknown."""
        return self._history.tree(log_id).sizes()[0]

    def confirmed_size(self, log_id: LogId) -> int:
        """How many of them a signed head confirms: what may be believed, shown and proven."""
        return self._history.tree(log_id).sizes()[1]

    def mirror(self, log_id: LogId, start: int, leaves: Sequence[bytes]) -> ForkProof | None:
        """Append leaf hashes that continue at `mirrored_size`, up to the newest head held.

        Returns a new proof if two held heads turn out to contradict each other.
        Raises: LogUnknown, LogHasForked, MirrorGap, MirrorBeyondHead, MirrorFull;
        MirrorMismatch if they do not lead to the newest head: unconfirmed ones are dropped.
        """
        return self._history.mirror(log_id, start, leaves)

    def leaves(self, log_id: LogId, start: int, stop: int) -> tuple[bytes, ...]:
        """Confirmed leaf hashes numbered [start, stop), as far as there are any."""
        return self._history.tree(log_id).leaves(start, stop)

    def root_at(self, log_id: LogId, size: int) -> bytes:
        """The root over `size` mirrored leaves. Raises ProofSizesWrong beyond `confirmed_size`."""
        return self._history.tree(log_id).root_at(size)

    def prove_consistency(self, log_id: LogId, m: int, n: int) -> tuple[bytes, ...]:
        """As RFC 6962, from the mirror. Raises ProofSizesWrong beyond `confirmed_size`."""
        return self._history.tree(log_id).prove_consistency(m, n)

    # --- entries ------------------------------------------------------------------------------

    def keep_entries(self, log_id: LogId, entries: Sequence[MirroredEntry]) -> None:
        """Keep entries below `confirmed_size`. A plain one replaces a sealed one, nothing else.

        Raises: LogUnknown, MirrorFull, MirrorMismatch (with `fork` if the entry, signed by the
        log, contradicts one that is held).
        """
        self._entries.keep(self._keys.number(log_id), entries)

    def entries(
        self, log_id: LogId, start: int = 0, stop: int | None = None
    ) -> Iterator[MirroredEntry]:
        """The entries held of [start, stop), in order; some may be missing. Raises LogUnknown."""
        end = self.confirmed_size(log_id) if stop is None else stop
        return self._entries.held(self._keys.number(log_id), start, end)

    def first_missing_entry(self, log_id: LogId, start: int = 0) -> int:
        """The first entry from `start` on that is not held in any form. Raises LogUnknown."""
        return self._entries.first_missing(self._keys.number(log_id), start)

    # --- cosignatures that others gave for our own heads --------------------------------------

    def put_own_cosignature(self, size: int, root: bytes, line: bytes, ts_s: int) -> None:
        """Keep a verified cosignature of our own head. Raises NoteMalformed."""
        self._own.put(size, root, line, ts_s)

    def own_cosignatures(self) -> OwnHead | None:
        """The newest own head that was cosigned, with all its lines and who gave them."""
        return self._own.newest()

    def own_heads(self) -> Iterator[OwnHead]:
        """Every own head whose cosignatures are kept, oldest first; older ones are thinned out."""
        return self._own.all()

    # --- proofs -------------------------------------------------------------------------------

    def put_fork(self, proof: bytes) -> bool:
        """Check and keep a proof from anyone; True if it is new.

        Raises: ForkRefused (it proves nothing), ForkOfStranger, KeyDisowned, WitnessKeyEnded,
        LogUnknown.
        """
        verdict = check_fork(proof)
        number = self._keys.number(verdict.log_id)
        if verdict.witness is None and not set(verdict.keys) <= set(self._keys.keys(number)):
            raise ForkOfStranger(actual=", ".join(map(str, verdict.keys)))
        decoded = decode_fork(proof)
        self._history.check_believed(number, decoded)
        return self._forks.keep(number, decoded, self._limits.forks_per_log_max)

    def forks(self) -> tuple[bytes, ...]:
        """The files of all proofs held, oldest first."""
        return self._forks.all()

    def fork_digests(self) -> frozenset[Digest]:
        """The digests of all proofs held."""
        return self._forks.digests()

    def accused_witnesses(self) -> frozenset[VerifierKey]:
        """Witnesses proven to have cosigned two histories: their cosignatures count no more."""
        return self._forks.accused()

    def fork_of(self, origin: str) -> ForkProof | None:
        """The first proof held that this log told two histories (not K4)."""
        log_id = next((known for known, name in self._keys.logs() if name == origin), None)
        return self._forks.of(self._keys.number(log_id)) if log_id else None

    def evidence(self, log_id: LogId) -> tuple[bytes, ...]:
        """Requests and notes of a log that contradict what is held, but prove nothing yet."""
        return self._forks.evidence(self._keys.number(log_id))

    # --- WitnessStore -------------------------------------------------------------------------

    def log_key(self, origin: str, size: int) -> VerifierKey | None:
        """The key that signs this log's head of `size`; None for a log we do not witness."""
        log_id = self._keys.witnessed(origin)
        return self._keys.key_at(self._keys.number(log_id), size) if log_id else None

    def cosigned(self, origin: str) -> Checkpoint | None:
        """The last head cosigned for this log."""
        log_id = self._keys.witnessed(origin)
        held = self._history.heads(log_id).cosigned() if log_id else None
        return held.checkpoint if held else None

    def advance(
        self, old: Checkpoint | None, new: Checkpoint, note: bytes, line: bytes, now_s: int
    ) -> bool:
        """Durably replace `old` by `new`, and read it back before anyone is told."""
        assert not self._tables.is_in_transaction, "a cosignature is given after its commit"
        log_id = self._keys.witnessed(new.origin)
        if log_id is None or self.cosigned(new.origin) != old:
            return False
        with self._tables.transaction():
            heard = self._history.verified(log_id, note)
            proven = self._history.take(log_id, heard, now_s * _US_PER_S)
            if proven or self.fork_of(new.origin):
                return False
            self._history.mark_cosigned(log_id, heard, line, now_s)
        if not self._history.heads(log_id).is_stored(new):
            raise WitnessStoreDamaged("a cosigned head was not stored", expected=new.size)
        return True

    def keep_refused(
        self, old: Checkpoint | None, request: Request, data: bytes, now_s: int
    ) -> None:
        """A signed head that does not extend the one cosigned: prove the fork if that is one."""
        log_id = self._witnessed_in(request)
        if log_id is None:
            return
        with suppress(MirrorError), self._tables.transaction():
            heard = self._history.verified(log_id, request.note)
            proof = self._history.take(log_id, heard, now_s * _US_PER_S)
            if proof is None and old is not None:
                self._history.prove_by_path(log_id, old, heard, request.proof, data)

    def note_other(self, request: Request, now_s: int) -> None:
        """A signed head that came with another size than the one stored."""
        log_id = self._witnessed_in(request)
        if log_id is not None:
            with suppress(MirrorError):
                self.note_seen(log_id, request.note, now_s * _US_PER_S)

    def _witnessed_in(self, request: Request) -> LogId | None:
        return self._keys.witnessed(Checkpoint.parse(note_text(request.note)).origin)
