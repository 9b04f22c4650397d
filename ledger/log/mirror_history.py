"""One mirrored log's history: what is heard of it against what is held of it.

Responsible for: finding contradictions, confirming leaves by signed heads, and proving forks.
Must not know: entries, or who asks.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import assert_never

from ledger.log.entries import split_raw
from ledger.log.errors import ProofRefused
from ledger.log.fork_proofs import (
    CosignaturesThatDisagree,
    EntriesOfOneNumber,
    ForkProof,
    HeadsOfOneSize,
    HeadsThatDisagree,
)
from ledger.log.identity import LogId
from ledger.log.mirror_errors import (
    HeadImpossible,
    KeyDisowned,
    KeySuperseded,
    LogHasForked,
    MirrorBeyondHead,
    MirrorFull,
    MirrorGap,
    MirrorMismatch,
)
from ledger.log.mirror_forks import HeardHead, MirrorForks, proof_of_heads, proofs_of_cosignatures
from ledger.log.mirror_heads import HeldHead, MirrorHeads
from ledger.log.mirror_keys import MirrorKeys
from ledger.log.mirror_limits import WitnessLimits
from ledger.log.mirror_tables import MirrorTables
from ledger.log.mirror_tree import MirrorTree
from ledger.log.notes import (
    Checkpoint,
    NoteSignature,
    VerifierKey,
    note_verify,
    signature_lines,
)
from ledger.log.tree import EMPTY_ROOT, HASH_BYTES, roots_of_path
from ledger.log.witness_keys import KnownWitnesses

_US_PER_S = 1_000_000


class MirrorHistory:
    """Compares and keeps, for every log of the tables."""

    __slots__ = ("_forks", "_keys", "_limits", "_tables", "bad_max", "witnesses")

    def __init__(
        self, tables: MirrorTables, keys: MirrorKeys, forks: MirrorForks, limits: WitnessLimits
    ) -> None:
        self._tables = tables
        self._keys = keys
        self._forks = forks
        self._limits = limits
        self.witnesses = KnownWitnesses()
        self.bad_max = 0
        """How many of them may lie at once."""

    def heads(self, log_id: LogId) -> MirrorHeads:
        """The heads held of a log. Raises LogUnknown."""
        number, origin = self._keys.number(log_id), self._keys.origin(log_id)
        return MirrorHeads(self._tables, number, log_id, origin)

    def tree(self, log_id: LogId) -> MirrorTree:
        """The mirrored tree of a log. Raises LogUnknown."""
        return MirrorTree(self._tables, self._keys.number(log_id))

    def verified(self, log_id: LogId, note: bytes) -> HeardHead:
        """The head in a note. Raises LogUnknown, NoteError, HeadImpossible."""
        number = self._keys.number(log_id)
        keys = self._keys.keys(number)
        verified = note_verify(note, *keys)
        head = Checkpoint.parse(verified.text)
        if head.origin != self._keys.origin(log_id):
            raise HeadImpossible(expected=self._keys.origin(log_id), actual=head.origin)
        if head.size == 0 and head.root != EMPTY_ROOT:
            raise HeadImpossible(expected=EMPTY_ROOT, actual=head.root)
        in_force = self._keys.key_at(number, head.size)
        signatures = {signature.key: signature.line for signature in verified.signatures}
        key = in_force if in_force in signatures else verified.signatures[0].key
        lines = self.witnesses.heard(head.text, signature_lines(note))
        return HeardHead(head, key, signatures[key], lines)

    def take(self, log_id: LogId, heard: HeardHead, now_us: int) -> ForkProof | None:
        """Compare a head with what is held, then keep it; a new proof if they contradict.

        Call it inside a transaction. Raises: LogUnknown, KeySuperseded, KeyDisowned.
        """
        number = self._keys.number(log_id)
        heads, tree = self.heads(log_id), self.tree(log_id)
        size = heard.checkpoint.size
        rival = self._contradicted(heads, tree, heard.checkpoint)
        if rival:
            self._check_owned(number, heard.key, heard.cosignatures)
            self._check_held(number, rival)
            return self._prove(number, tree, rival, heard)
        if heard.key != self._keys.key_at(number, size):
            raise KeySuperseded(f"size {size}", actual=str(heard.key))
        heads.keep(heard.checkpoint, heard.key, heard.note, now_us)
        heads.keep_cosignatures(size, (found.line for found in heard.cosignatures))
        proof = self._settle(number, heads, tree)
        heads.prune(tree.sizes()[1], self._limits.waiting_heads_per_log_max)
        return proof

    def check_believed(self, number: int, proof: ForkProof) -> None:
        """Raises KeyDisowned if a side of `proof` may be the work of whoever stole the log's key,
        ForkOfStranger or WitnessKeyEnded if no witness has to answer for a K4."""
        match proof:
            case CosignaturesThatDisagree():
                self.witnesses.check_accusation(proof)
            case EntriesOfOneNumber(keys, first, second):
                signers = {split_raw(first)[1], split_raw(second)[1]}
                for key in [key for key in keys if key.key_id in signers]:
                    self._check_owned(number, key, ())
            case HeadsOfOneSize(keys, first, second) | HeadsThatDisagree(keys, first, second):
                for note in (first, second):
                    verified = note_verify(note, *keys)
                    lines = self.witnesses.heard(verified.text, signature_lines(note))
                    self._check_owned(number, verified.signatures[0].key, lines)
            case _:
                assert_never(proof)

    def _check_owned(
        self, number: int, key: VerifierKey, cosignatures: Iterable[NoteSignature]
    ) -> None:
        """A cosignature bounds the time of what the log's key signed; nothing else does.

        Witnesses that lie can date theirs back, so one more is needed than may lie. Those that
        are proven to lie do not count, and neither does the log's own site, whose witness key
        may have been stolen with the other one. Raises KeyDisowned."""
        since_us = self._keys.disowned(number).get(key.public_key)
        if since_us is None:
            return
        owner = self._keys.identity(number)
        assert owner is not None, "a key was disowned by entries that are held"
        own = {known.public_key for known in owner.witnesses}
        accused = {key.name for key in self._forks.accused()}
        # By name: a witness that replaced its key is still one.
        early = {
            line.key.name
            for line in cosignatures
            if (line.time_s or 0) * _US_PER_S < since_us
            and line.key.public_key not in own
            and line.key.name not in accused
        }
        if len(early) <= self.bad_max:
            raise KeyDisowned(f"since {since_us} µs", actual=str(key))

    def _check_held(self, number: int, held: HeldHead) -> None:
        """As `_check_owned`, for a head that was kept before its key was disowned."""
        lines = self.witnesses.held(held.checkpoint.text, held.cosignatures)
        self._check_owned(number, held.key, lines)

    def _contradicted(
        self, heads: MirrorHeads, tree: MirrorTree, head: Checkpoint
    ) -> HeldHead | None:
        """A held head that cannot be true together with `head`."""
        held = heads.at(head.size)
        if held:
            return held if held.root != head.root else None
        confirmed = tree.sizes()[1]
        if 0 < head.size < confirmed and tree.root_held(head.size) != head.root:
            return heads.at(confirmed)
        return None

    def _prove(
        self, number: int, tree: MirrorTree, held: HeldHead, heard: HeardHead
    ) -> ForkProof | None:
        """Make and keep the proofs that follow from two heads; the log's own if it is new."""
        small, large = sorted((held.size, heard.checkpoint.size))
        path = tree.path_of_roots(small, large) if small < large else ()
        self._accuse_witnesses(number, held, heard, path)
        proof = proof_of_heads(held, heard, path, self._keys.lineage(number))
        return proof if self._keep(number, proof, heard.note) else None

    def _accuse_witnesses(
        self, number: int, held: HeldHead, heard: HeardHead, path: tuple[bytes, ...]
    ) -> None:
        for proof in proofs_of_cosignatures(held, heard, path, self.witnesses.accusable):
            self._forks.keep(number, proof, self._limits.forks_per_log_max)

    def _keep(self, number: int, proof: ForkProof, otherwise: bytes) -> bool:
        """Keep a proof; what cannot be proven (keys without their entries) stays as evidence."""
        if self._forks.has(proof):
            return False
        if self._forks.keep(number, proof, self._limits.forks_per_log_max):
            return True
        self._forks.keep_evidence(number, otherwise, self._limits.evidence_per_log_max)
        return False

    def _settle(self, number: int, heads: MirrorHeads, tree: MirrorTree) -> ForkProof | None:
        """Compare the heads that the mirror has reached with its leaves; the first new proof."""
        leaves, confirmed = tree.sizes()
        reached = heads.between(confirmed, leaves)
        agree = [head for head in reached if tree.root_held(head.size) == head.root]
        if not agree:
            return None
        largest = agree[-1]
        tree.confirm(largest.size)
        proofs = []
        for head in reached:
            if head.size < largest.size and head not in agree:
                heard = HeardHead(head.checkpoint, head.key, head.line, ())
                with suppress(KeyDisowned):
                    self._check_held(number, head)
                    self._check_held(number, largest)
                    proofs.append(self._prove(number, tree, largest, heard))
                heads.drop(head.size)
        return next((proof for proof in proofs if proof), None)

    def mark_cosigned(self, log_id: LogId, heard: HeardHead, line: bytes, now_s: int) -> None:
        """Remember that this site cosigned a head that `take` found no fault with."""
        heads, size = self.heads(log_id), heard.checkpoint.size
        # A head that the mirror has passed already is not kept for its own sake.
        heads.keep(heard.checkpoint, heard.key, heard.note, now_s * _US_PER_S)
        heads.mark_cosigned(size, now_s)
        heads.keep_cosignatures(size, [line])

    def prove_by_path(
        self,
        log_id: LogId,
        old: Checkpoint,
        heard: HeardHead,
        path: tuple[bytes, ...],
        otherwise: bytes,
    ) -> None:
        """Prove a fork with the consistency proof that came with a head; else keep `otherwise`.

        A proof from a size that is a power of two leaves out what would show the other root.
        """
        number, held = self._keys.number(log_id), self.heads(log_id).at(old.size)
        if held and _shows_another_root(old, heard.checkpoint, path):
            self._check_owned(number, heard.key, heard.cosignatures)
            self._check_held(number, held)
            self._accuse_witnesses(number, held, heard, path)
            proof = proof_of_heads(held, heard, path, self._keys.lineage(number))
            self._keep(number, proof, otherwise)
        else:
            self._forks.keep_evidence(number, otherwise, self._limits.evidence_per_log_max)

    def mirror(self, log_id: LogId, start: int, leaves: Sequence[bytes]) -> ForkProof | None:
        """See WitnessDatabase.mirror."""
        number = self._keys.number(log_id)
        heads, tree = self.heads(log_id), self.tree(log_id)
        self._check_leaves(number, heads, tree, start, leaves)
        with self._tables.transaction():
            held = tree.grow(leaves)
            proof = self._settle(number, heads, tree)
            heads.prune(tree.sizes()[1], self._limits.waiting_heads_per_log_max)
            newest = heads.newest()
            lost = newest is not None and newest.size == held > tree.sizes()[1]
            if lost:
                tree.take_back()
        if lost:
            raise MirrorMismatch(f"leaves up to {held}", fork=proof)
        return proof

    def _check_leaves(
        self,
        number: int,
        heads: MirrorHeads,
        tree: MirrorTree,
        start: int,
        leaves: Sequence[bytes],
    ) -> None:
        if self._forks.of(number) is not None:
            raise LogHasForked
        held, newest = tree.sizes()[0], heads.newest()
        if start != held:
            raise MirrorGap(expected=held, actual=start)
        if len(leaves) > self._limits.leaves_per_call_max or any(
            len(leaf) != HASH_BYTES for leaf in leaves
        ):
            raise MirrorBeyondHead(expected=f"{self._limits.leaves_per_call_max} hashes at most")
        if start + len(leaves) > (newest.size if newest else 0):
            raise MirrorBeyondHead(expected=newest and newest.size, actual=start + len(leaves))
        if start + len(leaves) > self._limits.leaves_per_log_max:
            raise MirrorFull("leaves", expected=f"at most {self._limits.leaves_per_log_max}")


def _shows_another_root(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> bool:
    """True if `path` is of the new head's tree, whose root at the old size is not `old`'s."""
    try:
        seen_old, seen_new = roots_of_path(old.size, new.size, path)
    except ProofRefused:
        return False
    return seen_new == new.root and seen_old != old.root
