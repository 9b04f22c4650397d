"""The mirrors kept of other sites' logs: leaf hashes and entries, asked for, kept and given back.

An entry is taken from its own site alone, and only where a signed head covers it; it is given back
to its own site alone, which may have lost it. Leaf hashes go to every member."""

from gossip.identifiers import SiteId
from gossip.limits import ENTRIES_BYTES_MAX
from gossip.roster import Roster
from gossip.witness_messages import (
    PLAIN,
    SEALED,
    EntriesSent,
    EntriesWanted,
    LeavesSent,
    LeavesWanted,
    SentEntry,
)
from ledger.log import LedgerError, LogId, parse_entry
from ledger.log.errors import StoreError
from ledger.log.forks import ForkProof
from ledger.log.mirror_errors import MirrorFull, MirrorMismatch
from ledger.log.own_kinds import is_log_rotation, is_witness_rotation
from ledger.log.witness_store import EntryForm, MirroredEntry
from p2pfl.core.pace import head_pace_s
from p2pfl.core.witnessing_terms import TERMS, BadLeaves, Peer, Tell, WitnessBook, patience

HASH_BYTES = 32


class Mirrors:
    """What is held of others' logs beyond their heads. Bounded by the book."""

    def __init__(self, book: WitnessBook, roster: Roster) -> None:
        self.roster = roster
        self._book = book
        self._missing: dict[LogId, int] = {}
        """Log → the first entry that is not held; found in the book once, then counted."""
        self._full = set[LogId]()
        """Logs whose entries have filled their share of the disk."""

    # -- asking ----------------------------------------------------------------------------------

    def fetch(self, now_s: float, site: SiteId, peer: Peer) -> list[Tell]:
        """Ask a connected member for what is missing of its own log's mirror.

        Leaves come with most heads, and a few entries can wait for the next ones."""
        waited_s = now_s - peer.fetched_s
        if 0.0 <= waited_s < TERMS.fetch_s * patience(peer.fetched):
            return []
        log_id = self._log_of(site)
        held = self._book.head_of(log_id)
        if held is None or not self._book.has_room:
            return []  # goes on by itself once the disk has room again
        have = self._book.mirrored_size(log_id)
        missing = max(
            held.size - have, self._book.confirmed_size(log_id) - self._first_missing(log_id)
        )
        few_s = TERMS.fetch_s * head_pace_s(len(self.roster.members))
        if missing < TERMS.entries and 0.0 <= waited_s < few_s:
            return []
        entries = self._fetch_entries(now_s, site, peer, log_id)
        if have >= held.size:
            return entries
        peer.fetched_s = now_s
        peer.fetched += not entries
        stop = min(held.size, have + TERMS.leaves)
        return [Tell(site, LeavesWanted(log_id, have, stop)), *entries]

    def _fetch_entries(self, now_s: float, site: SiteId, peer: Peer, log_id: LogId) -> list[Tell]:
        start, end = self._first_missing(log_id), self._book.confirmed_size(log_id)
        if start >= end or log_id in self._full:
            return []
        peer.fetched_s = now_s
        peer.fetched += 1
        return [Tell(site, EntriesWanted(log_id, start, min(end, start + TERMS.entries)))]

    def _first_missing(self, log_id: LogId) -> int:
        if log_id not in self._missing:
            self._missing[log_id] = self._book.first_missing_entry(log_id)
        return self._missing[log_id]

    # -- keeping ---------------------------------------------------------------------------------

    def keep_leaves(
        self, sender: SiteId, log_id: LogId, start: int, hashes: bytes
    ) -> ForkProof | None:
        """Leaf hashes continue the mirror of the sender's log; no further than a signed head.

        Raises BadLeaves."""
        if self._log_of(sender) != log_id:
            return None
        held, have = self._book.head_of(log_id), self._book.mirrored_size(log_id)
        if held is None or start > have or not self._book.has_room:
            return None
        leaves = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
        new = leaves[have - start : held.size - start]
        if not new:
            return None
        try:
            return self._book.mirror(log_id, have, new)
        except MirrorFull:
            return None  # our limit, not its fault
        except StoreError:
            raise  # our disk's fault, not a member's
        except LedgerError as error:
            raise BadLeaves(str(error)) from error

    def keep_entries(
        self, now_s: float, sender: SiteId, peer: Peer, message: EntriesSent
    ) -> tuple[list[Tell], ForkProof | None]:
        """Keep entries that continue those held of the sender's own log; then ask for the next.

        Raises BadLeaves."""
        log_id = LogId(message.log_id)
        if self._log_of(sender) != log_id or self._book.head_of(log_id) is None:
            return [], None
        have, end = self._first_missing(log_id), self._book.confirmed_size(log_id)
        new = [_mirrored(item) for item in message.items if have <= item.seq < end]
        if not new or new[0].seq != have or not self._book.has_room:
            return [], None
        try:
            self._book.keep_entries(log_id, new)
            for entry in new:
                self._follow_key(log_id, entry)
        except MirrorFull:
            self._full.add(log_id)
            return [], None
        except MirrorMismatch as error:
            if error.fork is not None:
                return [], error.fork
            raise BadLeaves(str(error)) from error
        except StoreError:
            raise  # our disk's fault, not a member's
        except LedgerError as error:
            raise BadLeaves(str(error)) from error
        self._missing[log_id] = have + len(new)
        return self._fetch_entries(now_s, sender, peer, log_id), None

    def _follow_key(self, log_id: LogId, entry: MirroredEntry) -> None:
        """A key that was replaced, by the log's own entry: its next heads, or its site's next
        cosignatures, are under another."""
        if entry.form is EntryForm.SEALED:
            return
        told = parse_entry(entry.data)
        if is_log_rotation(told.kind, told.body) or is_witness_rotation(told.kind, told.body):
            self._book.admit_rotation(log_id, entry.data)

    # -- giving back -----------------------------------------------------------------------------

    def serve(
        self, now_s: float, sender: SiteId, peer: Peer, message: LeavesWanted | EntriesWanted
    ) -> list[Tell]:
        """What a member asks for of another log than ours, as far as a signed head confirms it."""
        log_id = LogId(message.log_id)
        is_known = any(card.log_id == log_id for card in self.roster.members)
        if not is_known or self._book.head_of(log_id) is None or not peer.serving.take(now_s):
            return []
        stop = min(message.stop, self._book.confirmed_size(log_id))
        if isinstance(message, LeavesWanted):
            leaves = self._book.leaves(
                log_id, message.start, min(stop, message.start + TERMS.leaves)
            )
            return [Tell(sender, LeavesSent(log_id, message.start, b"".join(leaves)))]
        if self._log_of(sender) != log_id:
            return []
        items = self._given_back(log_id, message.start, min(stop, message.start + TERMS.entries))
        return [Tell(sender, EntriesSent(log_id, message.start, tuple(items)))]

    def _given_back(self, log_id: LogId, start: int, stop: int) -> list[SentEntry]:
        """Entries from `start` on, without a gap, as many as a message holds."""
        items, size_bytes = list[SentEntry](), 0
        for entry in self._book.entries(log_id, start, stop):
            size_bytes += len(entry.data)
            is_too_much = items and size_bytes > ENTRIES_BYTES_MAX
            if is_too_much or entry.seq != start + len(items):
                break
            form = PLAIN if entry.form is EntryForm.PLAIN else SEALED
            items.append(SentEntry(entry.seq, form, entry.data))
        return items

    def _log_of(self, site: SiteId) -> LogId:
        return LogId(self.roster.member(site).log_id)


def _mirrored(item: SentEntry) -> MirroredEntry:
    form = EntryForm.PLAIN if item.form == PLAIN else EntryForm.SEALED
    return MirroredEntry(item.seq, form, item.data)
