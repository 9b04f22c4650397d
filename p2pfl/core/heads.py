"""Signed heads of other sites' logs, checked against the keys the roster gives them."""

from gossip.roster import Card
from ledger.log import Checkpoint, KeyType, LedgerError, VerifierKey, note_verify, origin_of
from p2pfl.core.refusals import BadHead


def check_head(card: Card, consortium: str, note: bytes, entry_seq: int) -> Checkpoint:
    """The checkpoint a member signed; it has to cover the entry with this sequence number.

    note: a C2SP signed note over the member's own log. Raises BadHead."""
    origin = origin_of(consortium, card.log_id)
    try:
        key = VerifierKey(origin, KeyType.ED25519, card.log_pk)
        checkpoint = Checkpoint.parse(note_verify(note, key).text)
    except LedgerError as error:
        raise BadHead(f"the head of {card.name}'s log: {error}") from error
    if checkpoint.origin != origin:
        raise BadHead("the head speaks of another log", expected=origin, actual=checkpoint.origin)
    if checkpoint.size <= entry_seq:
        raise BadHead(
            "the head does not cover the entry", expected=f"> {entry_seq}", actual=checkpoint.size
        )
    return checkpoint
