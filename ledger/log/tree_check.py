"""Recomputing the tree block by block, beside the stored nodes, in O(log n) memory.

Responsible for: inner nodes and roots over a stream of leaf hashes.
Must not know: entries, heads, or what a mismatch means.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from ledger.log.tree import Frontier

BLOCK_LEVEL = 10
BLOCK_LEAVES = 1 << BLOCK_LEVEL

StoredNodes = Callable[[int, int, int], list[bytes]]
"""(level, start, stop) → the stored nodes of that level with index in [start, stop)."""


class BlockTree:
    """A growing tree. Give it blocks of leaves; ask it for roots inside the last block."""

    __slots__ = ("_before", "_frontier", "_levels", "_stored")

    def __init__(self, frontier: Frontier, stored: StoredNodes) -> None:
        """frontier: of a multiple of BLOCK_LEAVES leaves."""
        self._frontier = frontier
        self._before = frontier
        self._stored = stored
        self._levels: list[list[bytes]] = []

    @property
    def size(self) -> int:
        """The number of leaves so far."""
        return self._frontier.size

    def add_block(self, leaves: Sequence[bytes]) -> list[int]:
        """Add up to BLOCK_LEAVES leaves (fewer only in the last block).

        Returns the levels at which a stored inner node differs from these leaves.
        """
        start = self._frontier.size
        self._before = self._frontier
        self._levels = [list(leaves)]
        wrong = []
        while len(below := self._levels[-1]) > 1:
            level = len(self._levels)
            pairs = zip(below[::2], below[1::2], strict=False)
            nodes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            first = start >> level
            if nodes != self._stored(level, first, first + len(nodes)):
                wrong.append(level)
            self._levels.append(nodes)
        self._frontier = self._grown(start + len(leaves), wrong)
        return wrong

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` leaves; `size` lies in the last block, or ends it."""
        return self._grown(size, []).root()

    def _grown(self, size: int, wrong: list[int]) -> Frontier:
        """The frontier before the block, grown to `size` leaves; differing levels go to `wrong`."""
        grown = self._before.copy()
        while grown.size < size:
            level = (size - grown.size).bit_length() - 1
            index = (grown.size - self._before.size) >> level
            completed = grown.append_subtree(level, self._levels[level][index])
            wrong += [
                above
                for above, index, node in completed
                if self._stored(above, index, index + 1) != [node]
            ]
        return grown
