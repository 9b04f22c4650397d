"""Which heads a site is told: that of its own log first, then as many others' as fit, in turn.

With many sites and many cosignatures not all of them fit into one message. Each message goes on
where the one before ended, and sites begin at different places, so that a contact with several of
them, or a few with one, tells of every log."""

from gossip.identifiers import SiteId
from gossip.limits import HELD_NOTE_BYTES_MAX, HELD_NOTES_BYTES_MAX, HELD_NOTES_MAX
from ledger.log import LogId
from p2pfl.core.witnessing_terms import Held, WitnessBook


class HeadsTold:
    """The newest head held of each log, with its cosignatures."""

    def __init__(
        self, me: SiteId, book: WitnessBook, bytes_max: int = HELD_NOTES_BYTES_MAX
    ) -> None:
        self._book = book
        self._bytes_max = bytes_max
        self._next = int.from_bytes(me[:2])

    def notes(self, own: LogId, but: LogId) -> tuple[bytes, ...]:
        """For the site whose log is `own`; but: a log that needs no telling."""
        held = self._book.head_of(own)
        first = b"" if held is None else _with_cosignatures(held)
        notes, room = [first], self._bytes_max - len(first)
        others = [head for head in self._book.heads() if head.log_id not in (own, but)]
        start = self._next % len(others) if others else 0
        for head in (*others[start:], *others[:start]):
            note = _with_cosignatures(head)
            if len(note) > room or len(notes) == HELD_NOTES_MAX:
                break
            notes.append(note)
            room -= len(note)
        self._next = start + len(notes) - 1
        return tuple(notes)


def _with_cosignatures(held: Held) -> bytes:
    """The note and as many cosignatures under it as fit."""
    note = held.note
    for line in held.cosignatures:
        if len(note) + len(line) > HELD_NOTE_BYTES_MAX:
            break
        note += line
    return note
