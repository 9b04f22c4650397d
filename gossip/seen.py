"""Which sealed messages came already, bounded so that no site can make us forget another's."""

from collections import deque

from gossip.identifiers import Digest, SiteId

SeenGroup = tuple[SiteId, int]
"""An author and a kind of message: a flood of one kind does not push out another."""


class SeenDigests:
    """A set of digests; each group keeps its newest ones only."""

    __slots__ = ("_all", "_order")

    def __init__(self) -> None:
        self._all: set[Digest] = set()
        self._order: dict[SeenGroup, deque[Digest]] = {}

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._all

    def __len__(self) -> int:
        return len(self._all)

    def add(self, group: SeenGroup, digest: Digest, group_max: int) -> None:
        """Remember a digest, forgetting the group's oldest above `group_max`."""
        if digest in self._all:
            return
        order = self._order.setdefault(group, deque())
        order.append(digest)
        self._all.add(digest)
        while len(order) > group_max:
            self._all.discard(order.popleft())

    def forget_site(self, site: SiteId) -> None:
        """A site that left the roster takes its groups with it."""
        for group in [group for group in self._order if group[0] == site]:
            self._all.difference_update(self._order.pop(group))
