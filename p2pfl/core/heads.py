"""Signed heads of logs: other sites' are checked against the roster, the own one is told."""

from collections.abc import Callable

from gossip.identifiers import SiteId
from gossip.messages import HeadAdvertised
from gossip.roster import Card, Roster
from ledger.log import Checkpoint, KeyType, LedgerError, VerifierKey, note_verify, origin_of
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.refusals import BadHead, ForkedHead

HEAD_INTERVAL_S = 1.0
HEAD_VALID_S = 1_200.0


HeadCheck = Callable[[Card, str, bytes, int], Checkpoint]
"""(member, consortium, note, sequence number it has to cover) → the checkpoint the member signed.
Raises BadHead."""


class PeerHeads:
    """The newest head of every other log. Bounded by the roster."""

    def __init__(self, check: HeadCheck) -> None:
        self._check = check
        self._known: dict[bytes, tuple[int, bytes]] = {}

    def take(self, roster: Roster, sender: SiteId, note: bytes, entry_seq: int) -> list[fx.Effect]:
        """Check a member's head that has to cover an entry, and keep it if it is new.

        Raises BadHead, ForkedHead."""
        card = roster.member(sender)
        checkpoint = self._check(card, roster.consortium, note, entry_seq)
        kept = fx.HeadHeard(None, card.log_id, note, checkpoint.size, checkpoint.root)
        size, root = self._known.get(card.log_id, (-1, b""))
        if checkpoint.size == size and checkpoint.root != root:
            raise ForkedHead(kept)
        if checkpoint.size <= size:
            return []
        self._known[card.log_id] = (checkpoint.size, checkpoint.root)
        return [kept]


class OwnHead:
    """The own log's newest head, told to everyone at most once a second."""

    def __init__(self) -> None:
        self.note = b""
        self._offered_s = float("-inf")
        self._is_due = False

    def due(self, now_s: float) -> list[fx.Effect]:
        """The timer says so."""
        self._is_due = False
        return self.offer(now_s)

    def offer(self, now_s: float) -> list[fx.Effect]:
        """Tell it now, or as soon as a second has passed since the last time."""
        if not self.note or self._is_due:
            return []
        due_s = self._offered_s + HEAD_INTERVAL_S
        if self._offered_s <= now_s < due_s:  # a clock that was set back delays nothing
            self._is_due = True
            return [fx.SetTimer(None, ev.HeadDue(), due_s)]
        self._offered_s = now_s
        return [fx.Offer(None, "head", HeadAdvertised(note=self.note), None, now_s + HEAD_VALID_S)]


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
