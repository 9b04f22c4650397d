"""A site's log, and its book about others' logs, without a disk: everything real but the files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ledger.log import (
    Checkpoint,
    Draft,
    Entry,
    KnownWitness,
    LogId,
    LogIdentity,
    Signer,
    VerifierKey,
    note_sign,
    parse_entry,
)
from ledger.log.entries import NO_PREVIOUS, signed_entry
from ledger.log.forks import (
    ForkProof,
    check_fork,
    decode_fork,
    encode_fork,
    fork_digest,
    fork_of_heads,
    nodes_of,
)
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.mirror_errors import MirrorMismatch, RotationRefused
from ledger.log.notes import note_text, stated_in
from ledger.log.own_kinds import (
    KEY_COMPROMISED,
    KEY_ROTATED,
    rotated,
    rotation_draft,
    witness_changed,
)
from ledger.log.tree import Frontier, prove_consistency, root_at
from ledger.log.witness import Request
from ledger.log.witness_store import Cosignature, EntryForm, MirroredEntry, OwnHead
from p2pfl.core.effects import SeqLink


class MemoryLedger:
    """What survives a crash of a simulated node: every commit is durable at once."""

    def __init__(
        self,
        *,
        deployment: str,
        identity: Signer,
        log: Signer,
        witness_pk: bytes,
        nonce: bytes,
        now_us: int = 0,
    ) -> None:
        draft = genesis_draft(
            deployment=deployment,
            identity=identity,
            log_pk=log.public_key,
            witness_pk=witness_pk,
            nonce=nonce,
        )
        self.identity: LogIdentity = identity_from_body(draft.body)
        self.entries: list[Entry] = []
        self._log = log
        self._frontier = Frontier()
        self._nodes = dict[tuple[int, int], bytes]()
        self._note = b""
        self.append((draft,), (), now_us)

    @property
    def note(self) -> bytes:
        """The signed head over everything appended."""
        if not self._note:
            self._note = note_sign(self.checkpoint.text, self.identity.origin, self._log)
        return self._note

    @property
    def checkpoint(self) -> Checkpoint:
        """The head over everything appended."""
        return Checkpoint(self.identity.origin, self._frontier.size, self._frontier.root())

    def node_at(self, level: int, index: int) -> bytes:
        """A complete subtree's root."""
        return self._nodes[level, index]

    def rotate(self, new: Signer, statement: bytes, now_us: int = 0) -> Entry:
        """Replace the log key: the last entry under the old one, the next head under the new."""
        draft = rotation_draft(self.identity, new.public_key, statement, "node")
        (entry,) = self.append((draft,), (), now_us)
        self.identity, self._log = rotated(self.identity, entry.seq, entry.body), new
        self._note = b""
        return entry

    def append(
        self, drafts: Sequence[Draft], links: Sequence[SeqLink], now_us: int
    ) -> tuple[Entry, ...]:
        """One commit. Returns the new entries."""
        made, first = list(drafts), len(self.entries)
        for link in links:
            body = {**made[link.draft].body, link.field: first + link.names}
            made[link.draft] = replace(made[link.draft], body=body)
        for draft in made:
            prev = self.entries[-1].leaf if self.entries else NO_PREVIOUS
            entry = signed_entry(
                draft,
                identity=self.identity,
                seq=len(self.entries),
                prev=prev,
                time_us=now_us,
                log=self._log,
            )
            self._grow(entry)
            self.entries.append(entry)
            self.identity = witness_changed(self.identity, entry)
        return tuple(self.entries[first:])

    def cut(self, size: int) -> None:
        """The disk is an old copy: what came after the first `size` entries was never here."""
        del self.entries[size:]
        self._frontier = Frontier()
        for entry in self.entries:
            self._grow(entry)

    def _grow(self, entry: Entry) -> None:
        self._note = b""
        self._nodes[0, self._frontier.size] = entry.leaf
        for level, index, node in self._frontier.append(entry.leaf):
            self._nodes[level, index] = node


class MemoryView:
    """A memory ledger as witnessing reads it (`p2pfl.core.witnessing_terms.OwnLogView`)."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    @property
    def log_id(self) -> LogId:
        """The log's name."""
        return self._ledger.identity.log_id

    @property
    def origin(self) -> str:
        """The log's name in checkpoints."""
        return self._ledger.identity.origin

    @property
    def note(self) -> bytes:
        """The newest head."""
        return self._ledger.note

    @property
    def checkpoint(self) -> Checkpoint:
        """That head, unsigned."""
        return self._ledger.checkpoint

    def lineage(self) -> tuple[bytes, ...]:
        """The genesis entry and those that changed the keys, if any did."""
        identity = self._ledger.identity
        if len(identity.keys) == len(identity.witnesses) == 1:
            return ()
        entries = self._ledger.entries
        changes = (KEY_ROTATED, KEY_COMPROMISED)
        return (entries[0].raw, *(entry.raw for entry in entries if entry.kind in changes))

    def prove_consistency(self, m: int, n: int) -> tuple[bytes, ...]:
        """That the head of `n` entries extends that of `m`."""
        return prove_consistency(m, n, self._ledger.node_at)

    def root_at(self, size: int) -> bytes:
        """The root over the first entries."""
        return root_at(size, self._ledger.node_at)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Entries [start, stop)."""
        return iter(self._ledger.entries[start:stop])

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """Leaf hashes [start, stop)."""
        return (entry.leaf for entry in self._ledger.entries[start:stop])


@dataclass(frozen=True, slots=True)
class MemoryHead:
    """The newest head held of one log."""

    log_id: LogId
    size: int
    note: bytes
    cosignatures: tuple[bytes, ...] = ()


class MemoryBook:
    """What a site holds about others' logs; survives a crash of its process as it is."""

    def __init__(self) -> None:
        self.has_room = True
        self.own_cosigned: dict[int, set[bytes]] = {}
        """Size of the own head → cosignature lines of it."""
        self._own_roots: dict[int, bytes] = {}
        self._keys: dict[LogId, VerifierKey] = {}
        self._heads: dict[LogId, MemoryHead] = {}
        self._cosigned: dict[str, Checkpoint] = {}
        self._leaves: dict[LogId, list[bytes]] = {}
        self._entries: dict[LogId, dict[int, MirroredEntry]] = {}
        self._forks: dict[str, ForkProof] = {}
        self._proofs: list[bytes] = []
        self._witnesses: tuple[VerifierKey, ...] = ()

    def set_logs(self, keys: Mapping[LogId, VerifierKey]) -> None:
        """Whom we witness."""
        self._keys = dict(keys)

    def set_witnesses(
        self,
        keys: Iterable[VerifierKey],
        bad_max: int = 0,
        earlier: Iterable[KnownWitness] = (),
    ) -> None:
        """Whose cosignatures are kept: here only the own ones."""
        self._witnesses = tuple(keys)

    def admit_lineage(self, log_id: LogId, entries: Sequence[bytes]) -> bool:
        """Keys of simulated logs are replaced in tests with a real book alone."""
        raise RotationRefused(str(len(entries)))

    def lineage(self, log_id: LogId) -> tuple[bytes, ...]:
        """No key was replaced."""
        return ()

    def keys_in_force(self, log_id: LogId) -> tuple[tuple[int, VerifierKey], ...]:
        """Each log has one."""
        return ((0, self._keys[log_id]),)

    def accused_witnesses(self) -> frozenset[VerifierKey]:
        """Who cosigned two histories."""
        verdicts = (check_fork(proof) for proof in self._proofs)
        return frozenset(verdict.witness for verdict in verdicts if verdict.witness)

    def fork_digests(self) -> tuple[bytes, ...]:
        """Of every proof."""
        return tuple(fork_digest(proof) for proof in self._proofs)

    def log_key(self, origin: str, size: int) -> VerifierKey | None:
        """See `WitnessStore`; keys of simulated logs are never replaced."""
        return next((key for key in self._keys.values() if key.name == origin), None)

    def cosigned(self, origin: str) -> Checkpoint | None:
        """See `WitnessStore`."""
        return self._cosigned.get(origin)

    def advance(
        self, old: Checkpoint | None, new: Checkpoint, note: bytes, line: bytes, now_s: int
    ) -> bool:
        """See `WitnessStore`."""
        log_id = self._log_of(new.origin)
        if self._cosigned.get(new.origin) != old or new.origin in self._forks:
            return False
        self._cosigned[new.origin] = new
        self._heads[log_id] = MemoryHead(log_id, new.size, note, (line,))
        return True

    def keep_refused(
        self, old: Checkpoint | None, request: Request, data: bytes, now_s: int
    ) -> None:
        """See `WitnessStore`."""
        self.note_other(request, now_s)

    def note_other(self, request: Request, now_s: int) -> None:
        """See `WitnessStore`."""
        log_id = self._log_of(Checkpoint.parse(note_text(request.note)).origin)
        self.note_seen(log_id, request.note, now_s * 1_000_000)

    def fork_of(self, origin: str) -> ForkProof | None:
        """See `WitnessStore`."""
        return self._forks.get(origin)

    def heads(self) -> tuple[MemoryHead, ...]:
        """The newest head of each log."""
        return tuple(self._heads.values())

    def head_of(self, log_id: LogId) -> MemoryHead | None:
        """The newest head of one log."""
        return self._heads.get(log_id)

    def together(self) -> AbstractContextManager[None]:
        """Memory needs no commit."""
        return nullcontext()

    def note_seen(self, log_id: LogId, note: bytes, now_us: int) -> ForkProof | None:
        """Keep the newest verified head; a proof if it contradicts what is held."""
        head, held = Checkpoint.parse(note_text(note)), self._heads.get(log_id)
        if held is None or head.size > held.size:
            self._heads[log_id] = MemoryHead(log_id, head.size, note)
        if held is None or head.origin in self._forks:
            return None
        leaves = self._leaves.get(log_id, [])
        newest = max(head.size, held.size)
        nodes = nodes_of(leaves[:newest]) if len(leaves) >= newest else None
        proof = fork_of_heads(self._keys[log_id], held.note, note, nodes)
        if proof is not None:
            self.put_fork(encode_fork(proof))
        return proof

    def mirrored_size(self, log_id: LogId) -> int:
        """How many leaf hashes are held."""
        return len(self._leaves.get(log_id, []))

    def mirror(self, log_id: LogId, start: int, leaves: Sequence[bytes]) -> ForkProof | None:
        """Continue the mirror."""
        held = self._leaves.setdefault(log_id, [])
        assert start == len(held), "the caller continues where the mirror ends"
        held += leaves
        return None

    def confirmed_size(self, log_id: LogId) -> int:
        """How many leaf hashes the newest head confirms: all of them, for logs that do not lie."""
        held = self._heads.get(log_id)
        return min(self.mirrored_size(log_id), 0 if held is None else held.size)

    def leaves(self, log_id: LogId, start: int, stop: int) -> tuple[bytes, ...]:
        """Confirmed leaf hashes."""
        return tuple(self._leaves.get(log_id, [])[start : min(stop, self.confirmed_size(log_id))])

    def keep_entries(self, log_id: LogId, entries: Sequence[MirroredEntry]) -> None:
        """Keep entries; a plain one has to fit its leaf hash."""
        for entry in entries:
            if entry.form is EntryForm.PLAIN:
                leaf = self._leaves[log_id][entry.seq]
                if parse_entry(entry.data).leaf != leaf:
                    raise MirrorMismatch(f"entry {entry.seq}", expected=leaf)
            self._entries.setdefault(log_id, {}).setdefault(entry.seq, entry)

    def entries(
        self, log_id: LogId, start: int = 0, stop: int | None = None
    ) -> Iterator[MirroredEntry]:
        """The entries held, by number."""
        held = self._entries.get(log_id, {})
        end = self.confirmed_size(log_id) if stop is None else stop
        return (held[seq] for seq in range(start, end) if seq in held)

    def forget_entries(self, log_id: LogId) -> None:
        """The disk lost what was held of one log's entries."""
        self._entries.pop(log_id, None)

    def first_missing_entry(self, log_id: LogId, start: int = 0) -> int:
        """The first entry that is not held."""
        held = self._entries.get(log_id, {})
        while start in held:
            start += 1
        return start

    def admit_rotation(self, log_id: LogId, raw: bytes) -> VerifierKey:
        """Keys of simulated logs are never replaced."""
        raise RotationRefused(actual=log_id)

    def put_own_cosignature(self, size: int, root: bytes, line: bytes, ts_s: int) -> None:
        """A witness cosigned an own head."""
        self.own_cosigned.setdefault(size, set()).add(line)
        self._own_roots[size] = root

    def own_heads(self) -> Iterator[OwnHead]:
        """Own heads and who cosigned them, smallest first."""
        for size, lines in sorted(self.own_cosigned.items()):
            stated = ((*stated_in(line), line) for line in sorted(lines))
            yield OwnHead(size, self._own_roots[size], tuple(Cosignature(*one) for one in stated))

    def put_fork(self, proof: bytes) -> bool:
        """Keep a proof."""
        is_new = proof not in self._proofs
        if is_new:
            self._proofs.append(proof)
            verdict = check_fork(proof)
            if verdict.witness is None:
                self._forks.setdefault(verdict.origin, decode_fork(proof))
        return is_new

    def forks(self) -> tuple[bytes, ...]:
        """Every proof."""
        return tuple(self._proofs)

    def _log_of(self, origin: str) -> LogId:
        return next(log_id for log_id, key in self._keys.items() if key.name == origin)
