"""The sealed messages that this site keeps until everybody they are for has them.

*Own* items were offered by this node under a key and live until withdrawn or expired.
*Relayed* items came from other sites, are for everyone, and are bounded per author and kind.
It knows digests and sizes, not meanings.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from gossip.identifiers import Digest, SiteId
from gossip.limits import DisseminationLimits

ItemKey: TypeAlias = str | bytes


@dataclass(frozen=True, slots=True)
class Everyone:
    """For all members."""


@dataclass(frozen=True, slots=True)
class Sites:
    """For these members only."""

    sites: frozenset[SiteId]


Scope: TypeAlias = Everyone | Sites


@dataclass(slots=True, eq=False)
class Item:
    """A sealed message. origin: its author, who need not be told of it."""

    raw: bytes
    digest: Digest
    scope: Scope
    origin: SiteId
    expires_s: float
    number: int
    """Ascending in the order in which items came."""
    key: ItemKey | None
    """Of own items."""
    kind: int
    """Of relayed items."""
    sent_s: dict[SiteId, float] = field(default_factory=dict)
    """When it was last sent to whom; pruned after `resend_s`."""

    def is_for(self, site: SiteId) -> bool:
        """Whether `site` may have it and could lack it."""
        if site == self.origin:
            return False
        return isinstance(self.scope, Everyone) or site in self.scope.sites

    def was_sent(self, site: SiteId, now_s: float, within_s: float) -> bool:
        """Whether it went to `site` less than `within_s` ago."""
        sent_s = self.sent_s.get(site)
        return sent_s is not None and 0.0 <= now_s - sent_s < within_s


class ItemStore:
    """All items, by digest; at most what the limits allow."""

    __slots__ = ("_by_digest", "_by_key", "_limits", "_number", "_own_bytes", "_relayed")

    def __init__(self, limits: DisseminationLimits) -> None:
        self._limits = limits
        self._by_digest: dict[Digest, Item] = {}
        self._by_key: dict[ItemKey, Item] = {}
        self._own_bytes = 0
        self._relayed: dict[SiteId, _Relayed] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_digest)

    @property
    def stored_bytes(self) -> int:
        """Of all messages together."""
        return self._own_bytes + sum(held.stored_bytes for held in self._relayed.values())

    def get(self, digest: Digest) -> Item | None:
        """The item with this digest."""
        return self._by_digest.get(digest)

    def add_own(
        self, key: ItemKey, raw: bytes, digest: Digest, scope: Scope, origin: SiteId, until_s: float
    ) -> tuple[Item, int]:
        """Keep an own item in place of what the key or the digest named before.

        The same item once more was sent when it was sent. Returns it and how many other own items
        had to go for it: those that expire soonest.
        """
        same = self._by_digest.get(digest)
        if same is not None:
            self._remove(same)
        self.withdraw(key)
        item = Item(raw, digest, scope, origin, until_s, self._next_number(), key, 0)
        if same is not None:
            item.sent_s = same.sent_s
        self._by_digest[digest] = item
        self._by_key[key] = item
        self._own_bytes += len(raw)
        evicted = 0
        while self._own_is_full():
            others = (other for other in self._by_key.values() if other is not item)
            self._remove(min(others, key=lambda other: (other.expires_s, other.number)))
            evicted += 1
        return item, evicted

    def add_relayed(
        self, raw: bytes, digest: Digest, origin: SiteId, kind: int, kind_max: int, until_s: float
    ) -> int:
        """Keep another site's item for everyone. Returns how many older ones had to go.

        Only its author's older items go, unless all authors together hold too much: then an item
        of the author who holds the most.
        """
        if digest in self._by_digest:
            return 0
        item = Item(raw, digest, Everyone(), origin, until_s, self._next_number(), None, kind)
        held = self._relayed.setdefault(origin, _Relayed())
        held.items.append(item)
        held.stored_bytes += len(raw)
        self._by_digest[digest] = item
        evicted = 0
        same_kind = [other for other in held.items if other.kind == kind]
        if len(same_kind) > kind_max:
            self._remove(same_kind[0])
            evicted += 1
        while held.stored_bytes > self._limits.relayed_bytes_per_origin_max:
            self._remove(held.items[0])
            evicted += 1
        while self._relayed_bytes() > self._limits.relayed_bytes_max:
            self._remove(self._largest().items[0])
            evicted += 1
        return evicted

    def withdraw(self, key: ItemKey) -> None:
        """Forget an own item, if there is one."""
        item = self._by_key.get(key)
        if item is not None:
            self._remove(item)

    def drop_relayed_of(self, origin: SiteId) -> None:
        """Forget what a site wrote that left or changed its key."""
        for item in list(self._relayed.get(origin, _Relayed()).items):
            self._remove(item)

    def tidy(self, now_s: float) -> int:
        """Forget expired items and old send times. Returns how many items expired."""
        expired = [item for item in self._by_digest.values() if item.expires_s <= now_s]
        for item in expired:
            self._remove(item)
        within_s = self._limits.resend_s
        for item in self._by_digest.values():
            if item.sent_s:
                recent = [site for site in item.sent_s if item.was_sent(site, now_s, within_s)]
                item.sent_s = {site: item.sent_s[site] for site in recent}
        return len(expired)

    def window_for(self, site: SiteId, after: int, count: int) -> list[Item]:
        """Up to `count` items for a site, from number `after` on and then from the first again.

        So an inventory that cannot name all of them names each in turn.
        """
        items = [item for item in self._by_digest.values() if item.is_for(site)]
        if len(items) <= count:
            return items
        # The dictionary keeps the order of insertion, which is the order of numbers.
        later = [item for item in items if item.number > after]
        return (later + items)[:count]

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _own_is_full(self) -> bool:
        return len(self._by_key) > 1 and (
            len(self._by_key) > self._limits.own_items_max
            or self._own_bytes > self._limits.own_bytes_max
        )

    def _relayed_bytes(self) -> int:
        return sum(held.stored_bytes for held in self._relayed.values())

    def _largest(self) -> "_Relayed":
        return max(self._relayed.values(), key=lambda held: held.stored_bytes)

    def _remove(self, item: Item) -> None:
        del self._by_digest[item.digest]
        if item.key is not None:
            del self._by_key[item.key]
            self._own_bytes -= len(item.raw)
            return
        held = self._relayed[item.origin]
        held.items.remove(item)
        held.stored_bytes -= len(item.raw)
        if not held.items:
            del self._relayed[item.origin]


@dataclass(slots=True)
class _Relayed:
    """What one author's relayed items take, oldest first."""

    items: list[Item] = field(default_factory=list)
    stored_bytes: int = 0
