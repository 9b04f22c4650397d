"""Signed heads of logs: other sites' are checked against the roster, the own one is told."""

from collections.abc import Callable

from gossip.identifiers import SiteId
from gossip.messages import HeadAdvertised
from gossip.roster import Card, Roster
from ledger.log import Checkpoint, KeyType, LedgerError, VerifierKey, note_verify, origin_of
from ledger.log.errors import NoteUnsigned
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.pace import head_pace_s
from p2pfl.core.refusals import BadHead, ForkedHead, HeadKeyUnknown

HEAD_VALID_S = 1_200.0


HeadCheck = Callable[[Card, str, bytes, int, tuple[tuple[int, bytes], ...]], Checkpoint]
"""(member, consortium, note, sequence number it has to cover, its keys) → the checkpoint it signed.
Raises BadHead. See `check_head`."""


class PeerHeads:
    """The newest head of every other log. Bounded by the roster."""

    def __init__(self, check: HeadCheck) -> None:
        self._check = check
        self._known: dict[bytes, tuple[int, bytes]] = {}
        self.keys: dict[bytes, tuple[tuple[int, bytes], ...]] = {}
        """Log → (smallest size of heads, public key) of those that replaced their key."""

    def learn(self, event: ev.LogKeys) -> list[fx.Effect]:
        """A log's keys, as its own entries prove them."""
        self.keys[event.log_id] = event.in_force
        return []

    def take(self, roster: Roster, sender: SiteId, note: bytes, entry_seq: int) -> list[fx.Effect]:
        """Check a member's head that has to cover an entry, and keep it if it is new.

        Raises BadHead, ForkedHead."""
        card = roster.member(sender)
        in_force = self.keys.get(card.log_id, ((0, card.log_pk),))
        checkpoint = self._check(card, roster.consortium, note, entry_seq, in_force)
        size, root = self._known.get(card.log_id, (-1, b""))
        is_fork = checkpoint.size == size and checkpoint.root != root
        if checkpoint.size <= size and not is_fork:
            return []
        kept = fx.HeadHeard(None, card.log_id, note, checkpoint.size, checkpoint.root)
        if is_fork:
            raise ForkedHead(kept)
        self._known[card.log_id] = (checkpoint.size, checkpoint.root)
        return [kept]


class OwnHead:
    """The own log's newest head, told to everyone at the pace of so many members."""

    def __init__(self) -> None:
        self.note = b""
        self._offered_s = float("-inf")
        self._is_due = False

    def due(self, now_s: float, sites: int) -> list[fx.Effect]:
        """The timer says so."""
        self._is_due = False
        return self.offer(now_s, sites)

    def offer(self, now_s: float, sites: int) -> list[fx.Effect]:
        """Tell it now, or as soon as enough time has passed since the last time.

        sites: members of the consortium."""
        if not self.note or self._is_due:
            return []
        due_s = self._offered_s + head_pace_s(sites)
        if self._offered_s <= now_s < due_s:  # a clock that was set back delays nothing
            self._is_due = True
            return [fx.SetTimer(None, ev.HeadDue(), due_s)]
        self._offered_s = now_s
        return [fx.Offer(None, "head", HeadAdvertised(note=self.note), None, now_s + HEAD_VALID_S)]


def check_head(
    card: Card,
    consortium: str,
    note: bytes,
    entry_seq: int,
    in_force: tuple[tuple[int, bytes], ...],
) -> Checkpoint:
    """The checkpoint a member signed; it has to cover the entry with this sequence number.

    note: a C2SP signed note over the member's own log. in_force: (smallest size, public key) of
    its heads, ascending. Raises BadHead; HeadKeyUnknown, whose key may just have been replaced."""
    origin = origin_of(consortium, card.log_id)
    keys = [VerifierKey(origin, KeyType.ED25519, public_key) for _, public_key in in_force]
    try:
        verified = note_verify(note, *keys)
        checkpoint = Checkpoint.parse(verified.text)
    except NoteUnsigned as error:
        if not note.startswith(f"{origin}\n".encode()):
            raise BadHead("the head speaks of another log", expected=origin) from error
        raise HeadKeyUnknown(f"the head of {card.name}'s log: {error}") from error
    except LedgerError as error:
        raise BadHead(f"the head of {card.name}'s log: {error}") from error
    if checkpoint.origin != origin:
        raise BadHead("the head speaks of another log", expected=origin, actual=checkpoint.origin)
    first, due = [pair for pair in in_force if pair[0] <= checkpoint.size][-1]
    if due not in {signature.key.public_key for signature in verified.signatures}:
        raise BadHead(f"another key signs the heads of {card.name}'s log from size {first} on")
    if checkpoint.size <= entry_seq:
        raise BadHead(
            "the head does not cover the entry", expected=f"> {entry_seq}", actual=checkpoint.size
        )
    return checkpoint
