"""Proofs of forks as a site holds them: checked against the roster, kept, told to everyone."""

from hashlib import sha256

from gossip.identifiers import SiteId
from gossip.roster import Card, Roster
from gossip.witness_messages import ForkTold, told_in_parts
from ledger.log import LedgerError, LogId, VerifierKey
from ledger.log.errors import StoreError
from ledger.log.forks import ForkProof, ForkVerdict, check_fork, encode_fork, fork_digest
from ledger.log.mirror_errors import WitnessKeyEnded
from p2pfl.core import events as ev
from p2pfl.core.witnessing_keys import KeysKnown
from p2pfl.core.witnessing_terms import (
    BadForkProof,
    ForkKept,
    Learned,
    TellEveryone,
    WitnessBook,
    WitnessOutput,
    log_key,
    witness_name,
)

PARTIAL_PER_SITE_MAX = 2
"""Large proofs of one teller whose parts have not all come yet."""


class ForkProofs:
    """One proof about each log, and about each witness, is enough; more would only be a flood."""

    def __init__(self, book: WitnessBook, own: LogId, roster: Roster, keys: KeysKnown) -> None:
        self.roster = roster
        self.own_is_forked = False
        self._book = book
        self._own = own
        self._keys = keys
        self._proven = set[str]()
        """Origins of logs, and names of witnesses, about which a proof is held."""
        self._looked_at = 0
        """Proofs of the book, oldest first, that have been told."""
        self._from_others = set[bytes]()
        """Digests of proofs that members told: they have told everyone."""
        self._partial = dict[SiteId, dict[bytes, dict[int, bytes]]]()

    def arisen(self) -> list[WitnessOutput]:
        """What the book holds and nobody was told of yet: at a start, all of it.

        The book makes proofs wherever two histories meet in it, those against witnesses too."""
        if len(self._book.fork_digests()) == self._looked_at:
            return []
        outputs: list[WitnessOutput] = []
        proofs = self._book.forks()
        for number, data in enumerate(proofs[self._looked_at :], self._looked_at + 1):
            outputs += self._announced(number, data)
        self._looked_at = len(proofs)
        return outputs

    def _announced(self, number: int, data: bytes) -> list[WitnessOutput]:
        digest, verdict = fork_digest(data), check_fork(data)
        form = verdict.kind.value
        file = fork_file(number, form, digest)
        outputs: list[WitnessOutput] = [ForkKept(file, data)]
        about = _about(verdict)
        if about in self._proven or not self._is_of_members(verdict):
            return outputs
        self._proven.add(about)
        if digest not in self._from_others:
            outputs += [TellEveryone(part) for part in told_in_parts(digest, data)]
        if verdict.log_id == self._own and verdict.witness is None:
            self.own_is_forked = True
        witness = b"" if verdict.witness is None else self._site_of(verdict.witness)
        found = ev.ForkFound(verdict.log_id, form, digest, f"forks/{file}", witness)
        return [*outputs, Learned(found)]

    def found(self, proof: ForkProof) -> list[WitnessOutput]:
        """Two histories met here: keep the proof, and tell everyone.

        Raises BadForkProof where the log's owner had said before that the key was stolen."""
        try:
            self._book.put_fork(encode_fork(proof))
        except StoreError:
            raise  # our disk's fault, not a member's
        except LedgerError as error:
            raise BadForkProof(str(error)) from error
        return self.arisen()

    def told(self, sender: SiteId, message: ForkTold) -> list[WitnessOutput]:
        """Check a proof with nothing but the roster's keys, and keep the first about each log.

        Raises BadForkProof."""
        data = self._whole(sender, message)
        if data is None:
            return []
        if sha256(data).digest() != message.digest:
            raise BadForkProof("its digest is another one", expected=message.digest)
        try:
            verdict = check_fork(data)
        except LedgerError as error:
            raise BadForkProof(str(error)) from error
        if not self._is_of_members(verdict):
            raise BadForkProof("it stands on keys that the roster does not name")
        if _about(verdict) in self._proven:
            return []
        try:
            self._book.put_fork(data)
        except StoreError:
            raise  # our disk's fault, not a member's
        except WitnessKeyEnded:
            return []  # true before its owner's statement, and told by who does not know of that
        except LedgerError as error:
            raise BadForkProof(str(error)) from error
        self._from_others.add(message.digest)  # only what is kept: whoever tells many is bounded
        return self.arisen()

    def _whole(self, sender: SiteId, message: ForkTold) -> bytes | None:
        """The proof once all its parts have come. Each teller has room for a few."""
        if message.parts == 1:
            return message.data
        mine = self._partial.setdefault(sender, {})
        if message.digest not in mine and len(mine) >= PARTIAL_PER_SITE_MAX:
            del mine[next(iter(mine))]
        parts = mine.setdefault(message.digest, {})
        parts[message.part] = message.data
        if len(parts) < message.parts:
            return None
        del mine[message.digest]
        return b"".join(parts[number] for number in sorted(parts))

    def false_witnesses(self) -> frozenset[SiteId]:
        """Members that are proven to have cosigned two histories."""
        names = {key.name for key in self._book.accused_witnesses()}
        return frozenset(c.site for c in self.roster.members if witness_name(c.site) in names)

    def keys_of(self, log_id: LogId) -> tuple[VerifierKey, ...]:
        """What the heads of a member's log are verified with: the roster's key, and its others."""
        held = (key for _, key in self._book.keys_in_force(log_id))
        roster_key = log_key(self.roster.consortium, self._card_of(log_id))
        return tuple(dict.fromkeys([roster_key, *held]))

    def _card_of(self, log_id: LogId) -> Card:
        return next(card for card in self.roster.members if card.log_id == log_id)

    def _site_of(self, witness: VerifierKey) -> bytes:
        return self._keys.epochs.site_of(witness) or b""

    def _is_of_members(self, verdict: ForkVerdict) -> bool:
        """Anybody can make a fork under keys of his own: only members' keys count.

        That the file itself binds its keys to a log (`bound`) does not make it a member's log."""
        cards = self.roster.members
        if verdict.witness is not None:
            return bool(self._site_of(verdict.witness))
        if verdict.log_id not in {card.log_id for card in cards}:
            return False
        return verdict.bound or set(verdict.keys) <= set(self.keys_of(verdict.log_id))


def fork_file(number: int, form: str, digest: bytes) -> str:
    """The name of a proof's file in the home's folder `forks`; in the order of their finding.

    >>> fork_file(7, "K1", bytes(32))
    '0007-K1-0000000000000000.fork'
    """
    return f"{number:04d}-{form}-{digest.hex()[:16]}.fork"


def _about(verdict: ForkVerdict) -> str:
    return verdict.origin if verdict.witness is None else verdict.witness.name
