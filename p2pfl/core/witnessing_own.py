"""The own log as other sites hold it: shorter is fine, longer is a loss, another is a fork."""

from ledger.log import Checkpoint, LedgerError, VerifierKey, note_verify
from ledger.log.forks import fork_of_cosignatures, fork_of_heads, nodes_of
from ledger.log.notes import note_text, note_with, signature_lines
from ledger.log.witness_store import OwnHead
from p2pfl.core import events as ev
from p2pfl.core.witnessing_forks import ForkProofs
from p2pfl.core.witnessing_keys import KeysKnown
from p2pfl.core.witnessing_terms import (
    BadNote,
    Learned,
    OwnLogView,
    WitnessBook,
    WitnessOutput,
)


class OwnHistory:
    """Compares every head of the own log that anybody shows with the own log."""

    def __init__(
        self, book: WitnessBook, own: OwnLogView, proofs: ForkProofs, keys: KeysKnown
    ) -> None:
        self.is_behind = False
        """Whether a site holds a longer own log: this one is an old copy, or lost its end."""
        self._book = book
        self._own = own
        self._proofs = proofs
        self._keys = keys

    def heard(self, note: bytes, now_s: float) -> list[WitnessOutput]:
        """A head of the own log, as somebody else holds it."""
        keys = self._proofs.keys_of(self._own.log_id)
        try:
            verified = note_verify(note, *keys)
            head = Checkpoint.parse(verified.text)
        except LedgerError as error:
            raise BadNote(f"of this site's own log: {error}") from error
        size = self._own.checkpoint.size
        signers = {signature.key for signature in verified.signatures}
        if head.size > size:
            newest = self._book.keys_in_force(self._own.log_id)
            if newest and newest[-1][1] not in signers:
                raise BadNote("of this site's own log: under a key that was replaced")
            self._book.note_seen(self._own.log_id, note, int(now_s * 1e6))
            self.is_behind = True
            return [Learned(ev.OwnLogBehind(head.size))]
        if self._own.root_at(head.size) == head.root:
            return []
        return [*self._false_witnesses(note, head), *self._forked(note, signers)]

    def _false_witnesses(self, note: bytes, head: Checkpoint) -> list[WitnessOutput]:
        """Who cosigned this head of another history, and an own one of at least its size (K4)."""
        lines = self._keys.epochs.witnesses.heard(head.text, signature_lines(note))
        accused = {key.name for key in self._book.accused_witnesses()}
        outputs = list[WitnessOutput]()
        for told in lines:
            mine = None if told.key.name in accused else self._cosigned_by(told.key, head.size)
            if mine is None:
                continue
            leaves = (entry.leaf for entry in self._own.entries(0, mine.size))
            proof = fork_of_cosignatures(
                told.key,
                note_with(head.text, told.line),
                note_with(Checkpoint(head.origin, mine.size, mine.root).text, *mine.lines),
                nodes_of(leaves),
            )
            outputs += [] if proof is None else self._proofs.found(proof)
        return outputs

    def _cosigned_by(self, witness: VerifierKey, size: int) -> OwnHead | None:
        """The first own head of at least `size` that a witness cosigned, with its line alone."""
        known = self._keys.epochs.known(witness)
        for own in self._book.own_heads():
            is_own = size <= own.size <= self._own.checkpoint.size
            if not is_own or self._own.root_at(own.size) != own.root:
                continue
            mine = tuple(
                line
                for line in own.cosignatures
                if known is not None and known.has_signed(line.line) and known.vouched(line.time_s)
            )
            if mine:
                return OwnHead(own.size, own.root, mine)
        return None

    def _forked(self, note: bytes, signers: set[VerifierKey]) -> list[WitnessOutput]:
        """Another history of the own log, under the own key: the proof ends it."""
        if self._proofs.own_is_forked:
            return []
        mine = self._own.note
        keys = self._proofs.keys_of(self._own.log_id)
        signers |= {signature.key for signature in note_verify(mine, *keys).signatures}
        leaves = (entry.leaf for entry in self._own.entries(0, checkpoint_of(mine).size))
        lineage = self._keys.rotations(self._own.log_id) if len(signers) > 1 else ()
        proof = fork_of_heads(
            sorted(signers, key=str), mine, note, nodes_of(leaves), lineage=lineage
        )
        return [] if proof is None else self._proofs.found(proof)


def checkpoint_of(note: bytes) -> Checkpoint:
    """What a note states, not verified. Raises LedgerError."""
    return Checkpoint.parse(note_text(note))
