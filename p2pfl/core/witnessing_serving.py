"""Leaves and entries of the own log, for the mirrors that other sites keep of it."""

from collections.abc import Iterable

from gossip.identifiers import SiteId
from gossip.witness_messages import (
    PLAIN,
    SEALED,
    EntriesSent,
    EntriesWanted,
    LeavesSent,
    LeavesWanted,
    SentEntry,
)
from p2pfl.core.witnessing_terms import TERMS, MayRead, OwnLogView, Peer, Seal, Tell


class OwnShelf:
    """What of the own log goes to whom: leaf hashes to everyone, entries as their kind allows."""

    def __init__(self, own: OwnLogView, seal: Seal, may_read: MayRead) -> None:
        self._own = own
        self._seal = seal
        self._may_read = may_read

    def leaves(self, start: int, stop: int) -> bytes:
        """Leaf hashes [start, stop), as many as a message holds."""
        last = min(stop, start + TERMS.leaves)
        return b"".join(self._own.leaves(start, last))

    def serve(
        self, now_s: float, sender: SiteId, peer: Peer, message: LeavesWanted | EntriesWanted
    ) -> list[Tell]:
        """What a member asks for, of the own log and at a bounded rate; else nothing."""
        if message.log_id != self._own.log_id or not peer.serving.take(now_s):
            return []
        log_id, start, stop = message.log_id, message.start, message.stop
        if isinstance(message, LeavesWanted):
            return [Tell(sender, LeavesSent(log_id, start, self.leaves(start, stop)))]
        items = tuple(self._shown_to(sender, start, stop))
        return [Tell(sender, EntriesSent(log_id, start, items))]

    def _shown_to(self, site: SiteId, start: int, stop: int) -> Iterable[SentEntry]:
        """Plain for whom the kind's readers name, else sealed to this site itself."""
        size_bytes = 0
        for entry in self._own.entries(start, min(stop, start + TERMS.entries)):
            is_plain = self._may_read(site, entry)
            data = entry.raw if is_plain else self._seal(entry.raw)
            size_bytes += len(data)
            if size_bytes > TERMS.entries_bytes and entry.seq > start:
                return
            yield SentEntry(entry.seq, PLAIN if is_plain else SEALED, data)
