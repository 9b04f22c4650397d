"""The keys that replaced others: learned from the logs' own entries, and shown on every contact.

Log keys, and those with which a log's site cosigns other logs: the book is told whose cosignatures
count as soon as that changes.

A head under a new key says nothing to whoever has not seen the entry that put it in force, so that
entry goes ahead of the heads, about any log and by whoever knows it: it proves itself."""

from collections.abc import Iterable

from gossip.identifiers import SiteId
from gossip.roster import Roster
from gossip.witness_messages import KeysShown
from ledger.log import LedgerError, LogId, LogIdentity, identity_from, parse_entry
from ledger.log.errors import StoreError
from ledger.log.own_kinds import is_log_rotation
from p2pfl.core import events as ev
from p2pfl.core.witnessing_epochs import Epochs
from p2pfl.core.witnessing_terms import BadKeys, Learned, Tell, WitnessBook


class KeysKnown:
    """Of which logs the keys were replaced. Bounded by the book."""

    def __init__(self, book: WitnessBook) -> None:
        self._book = book
        self._lineages = dict[LogId, tuple[bytes, ...]]()
        self._identities = dict[bytes, LogIdentity]()
        self._roster: Roster | None = None
        self._liars_max = 0
        self.epochs = Epochs()
        """Under which keys the members cosign."""

    def set_members(self, roster: Roster, liars_max: int) -> None:
        """Whose keys they are, and how many of those sites may lie at once."""
        self._roster, self._liars_max = roster, liars_max
        self._tell_book()

    def _tell_book(self) -> None:
        cards = () if self._roster is None else self._roster.members
        self.epochs = Epochs(cards, self._identities)
        self._book.set_witnesses(self.epochs.in_force, self._liars_max, self.epochs.earlier)

    def refresh(self, log_ids: Iterable[LogId]) -> list[Learned]:
        """What the book knows of these logs' keys, as far as that is new."""
        learned = []
        for log_id in log_ids:
            lineage = tuple(self._book.lineage(log_id))
            if len(lineage) > 1 and lineage != self._lineages.get(log_id):
                self._lineages[log_id] = lineage
                identity = identity_from(lineage)
                assert identity is not None, "a lineage begins with a genesis entry"
                self._identities[log_id] = identity
                in_force = self._book.keys_in_force(log_id)
                keys = tuple((size, key.public_key) for size, key in in_force)
                learned.append(Learned(ev.LogKeys(log_id, keys)))
        if learned:
            self._tell_book()
        return learned

    def take(self, log_id: LogId, entries: tuple[bytes, ...]) -> list[Learned]:
        """Entries of a member's log that changed its keys. Raises BadKeys."""
        if entries == self._lineages.get(log_id):
            return []
        try:
            self._book.admit_lineage(log_id, entries)
        except StoreError:
            raise  # our disk's fault, not a member's
        except LedgerError as error:
            raise BadKeys(str(error)) from error
        return self.refresh([log_id])

    def follow(self, log_id: LogId, lineage: tuple[bytes, ...]) -> list[Learned]:
        """The own log's keys; another history of them that is held will be told by its heads."""
        try:
            return self.take(log_id, lineage) if lineage else []
        except BadKeys:
            return []

    def tell(self, site: SiteId, but: LogId | None) -> list[Tell]:
        """What is known, for a site. but: a log of which nothing may be shown yet."""
        return [
            Tell(site, KeysShown(log_id, lineage))
            for log_id, lineage in sorted(self._lineages.items())
            if log_id != but
        ]

    def rotations(self, log_id: LogId) -> tuple[bytes, ...]:
        """The genesis entry and the rotations alone, as a proof of a fork carries them."""
        lineage = self._lineages.get(log_id, ())
        rotations = (
            raw for raw in lineage[1:] if is_log_rotation((e := parse_entry(raw)).kind, e.body)
        )
        return (*lineage[:1], *rotations)
