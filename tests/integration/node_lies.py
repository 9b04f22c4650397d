"""Proofs of lies, made with the keys of a test's own sites and put into its first home."""

from contextlib import closing

from node_homes import Consortium

from ledger.log import Checkpoint, Log, LogId, LogReader, Signer, cosign, encode_fork, note_sign
from ledger.log.forks import fork_of_cosignatures, fork_of_heads
from ledger.log.own_kinds import fork_draft
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from p2pfl.core.witnessing_terms import log_key, witness_key


def witness_lied(made: Consortium, *, liar: int, owner: int) -> None:
    """The first home holds a proof that a member cosigned two histories of another one's log."""
    roster = made.roster
    of_log = log_key(roster.consortium, roster.member(made.site(owner)))
    witness = witness_key(roster.member(made.site(liar)))
    heads = [Checkpoint(of_log.name, 3, bytes([n]) * 32).text for n in (1, 2)]
    notes = (
        note_sign(text, of_log.name, Signer(made.keys(owner).log))
        + cosign(text, witness.name, Signer(made.keys(liar).witness), 1_800_000_000)
        for text in heads
    )
    proof = fork_of_cosignatures(witness, *notes)
    assert proof is not None
    _put(made, encode_fork(proof))


def proof_against_itself(made: Consortium) -> None:
    """As if another site had told it: two heads of one size under its own key."""
    with closing(LogReader.open(made.home(0).path)) as reader:
        identity, size = reader.identity, reader.checkpoint.size
    key = Signer(made.keys(0).log)
    texts = [Checkpoint(identity.origin, size, bytes([n]) * 32).text for n in (1, 2)]
    notes = (note_sign(text, identity.origin, key) for text in texts)
    proof = fork_of_heads(identity.verifier_key, *notes)
    assert proof is not None
    _put(made, encode_fork(proof))


def own_log_forked(made: Consortium) -> None:
    """The first home's own log is frozen, as its node leaves it after such a proof."""
    with closing(Log.open(made.home(0).path, log=Signer(made.keys(0).log))) as log:
        newest_us = max(entry.time_us for entry in log.entries())
        log.append([fork_draft(bytes(log.log_id), "K1", bytes(32), "node")], newest_us)


def _put(made: Consortium, proof: bytes) -> None:
    roster = made.roster
    with closing(WitnessDatabase.open(made.home(0).path / WITNESS_NAME)) as book:
        book.set_logs({LogId(c.log_id): log_key(roster.consortium, c) for c in roster.members})
        book.set_witnesses(witness_key(card) for card in roster.members)
        assert book.put_fork(proof)
