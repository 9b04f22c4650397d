"""Proofs of forks as a site holds them: checked against the roster, kept, told to everyone."""

from gossip.roster import Roster
from gossip.witness_messages import ForkTold
from ledger.log import LedgerError, LogId, VerifierKey
from ledger.log.forks import ForkProof, ForkVerdict, check_fork, encode_fork, fork_digest
from p2pfl.core import events as ev
from p2pfl.core.witnessing_terms import (
    BadForkProof,
    Learned,
    TellEveryone,
    WitnessBook,
    WitnessOutput,
    log_key,
    witness_key,
)


class ForkProofs:
    """One proof about each log, and about each witness, is enough; more would only be a flood."""

    def __init__(self, book: WitnessBook, own: LogId, roster: Roster) -> None:
        self.roster = roster
        self.own_is_forked = False
        self._book = book
        self._own = own
        self._proven = set[str]()
        """Origins of logs, and names of witnesses, about which a proof is held."""

    def held(self, data: bytes) -> list[WitnessOutput]:
        """A proof that was kept before this start: everyone is told once more."""
        try:
            told = self.told(data)
        except BadForkProof:
            return []  # about a member that has left
        return [TellEveryone(ForkTold(data)), *told] if told else []

    def found(self, proof: ForkProof) -> list[WitnessOutput]:
        """Two histories met here: keep the proof, and tell everyone."""
        data = encode_fork(proof)
        told = self.told(data)
        return [TellEveryone(ForkTold(data)), *told] if told else []

    def told(self, data: bytes) -> list[WitnessOutput]:
        """Check a proof with nothing but the roster's keys, and keep the first about each log.

        Raises BadForkProof."""
        try:
            verdict = check_fork(data)
        except LedgerError as error:
            raise BadForkProof(str(error)) from error
        self._check_keys(verdict)
        about = verdict.origin if verdict.witness is None else verdict.witness.name
        if about in self._proven:
            return []
        self._proven.add(about)
        self._book.put_fork(data)
        if verdict.log_id == self._own and verdict.witness is None:
            self.own_is_forked = True
        return [Learned(ev.ForkFound(verdict.log_id, verdict.kind.value, fork_digest(data)))]

    def key_of(self, log_id: LogId) -> VerifierKey:
        """What the heads of a member's log are verified with."""
        card = next(card for card in self.roster.members if card.log_id == log_id)
        return log_key(self.roster.consortium, card)

    def _check_keys(self, verdict: ForkVerdict) -> None:
        """Anybody can make a fork under keys of his own: only members' keys count.

        That the file itself binds its keys to a log (`bound`) does not make it a member's log."""
        cards = self.roster.members
        known = {witness_key(card) for card in cards}
        if verdict.witness is None:
            known = {log_key(self.roster.consortium, card) for card in cards}
            if verdict.bound and verdict.log_id in {card.log_id for card in cards}:
                return
        if not set(verdict.keys) <= known:
            raise BadForkProof("it stands on keys that the roster does not name")
