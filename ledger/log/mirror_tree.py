"""One mirrored log's tree: leaf hashes and nodes, up to where a signed head confirms them.

Responsible for: growing the tree, roots and proofs in O(log n), and taking back leaves that turn
out to lead nowhere.
Must not know: heads, signatures, or whose log it is.
"""

from collections.abc import Sequence

from ledger.log.errors import ProofSizesWrong
from ledger.log.mirror_errors import WitnessStoreDamaged
from ledger.log.mirror_tables import MirrorTables
from ledger.log.tree import frontier_at, path_of_roots, prove_consistency, root_at

_LEVELS_MAX = 63


class MirrorTree:
    """The tree of the log that is number `log` in the tables."""

    __slots__ = ("_log", "_tables")

    def __init__(self, tables: MirrorTables, log: int) -> None:
        self._tables = tables
        self._log = log

    def sizes(self) -> tuple[int, int]:
        """(leaves held, leaves confirmed by a signed head)."""
        row = self._tables.one("SELECT leaves, confirmed FROM log WHERE id = ?", self._log)
        match row:
            case (int(leaves), int(confirmed)) if 0 <= confirmed <= leaves:
                return leaves, confirmed
            case _:
                raise WitnessStoreDamaged("sizes of a mirrored log")

    def grow(self, leaves: Sequence[bytes]) -> int:
        """Append leaf hashes; the new number of leaves."""
        start = self.sizes()[0]
        frontier = frontier_at(start, self.node_at)
        nodes = []
        for seq, leaf in enumerate(leaves, start):
            nodes.append((self._log, 0, seq, leaf))
            nodes += [(self._log, *node) for node in frontier.append(leaf)]
        self._tables.write_many("INSERT INTO node(log, lvl, idx, h) VALUES (?, ?, ?, ?)", nodes)
        self._tables.write("UPDATE log SET leaves = ? WHERE id = ?", frontier.size, self._log)
        return frontier.size

    def confirm(self, size: int) -> None:
        """A signed head of `size` has this tree's root."""
        self._tables.write("UPDATE log SET confirmed = ? WHERE id = ?", size, self._log)

    def take_back(self) -> None:
        """Drop the leaves that no head confirms."""
        confirmed = self.sizes()[1]
        for level in range(_LEVELS_MAX):
            statement = "DELETE FROM node WHERE log = ? AND lvl = ? AND idx >= ?"
            self._tables.write(statement, self._log, level, confirmed >> level)
        self._tables.write("UPDATE log SET leaves = ? WHERE id = ?", confirmed, self._log)

    def node_at(self, level: int, index: int) -> bytes:
        """The hash of one complete subtree. Raises WitnessStoreDamaged if there is none."""
        query = "SELECT h FROM node WHERE log = ? AND lvl = ? AND idx = ?"
        row = self._tables.one(query, self._log, level, index)
        if row is None or not isinstance(row[0], bytes):
            raise WitnessStoreDamaged(f"tree node ({level}, {index}) is missing")
        return row[0]

    def leaves(self, start: int, stop: int) -> tuple[bytes, ...]:
        """The confirmed leaf hashes numbered [start, stop), as far as there are any."""
        rows = self._tables.all(
            "SELECT h FROM node WHERE log = ? AND lvl = 0 AND idx >= ? AND idx < ? ORDER BY idx",
            self._log,
            start,
            min(stop, self.sizes()[1]),
        )
        return tuple(row[0] for row in rows)

    def root_held(self, size: int) -> bytes:
        """The root over the first `size` leaves, confirmed or not."""
        return root_at(size, self.node_at)

    def root_at(self, size: int) -> bytes:
        """The root over `size` leaves. Raises ProofSizesWrong beyond what is confirmed."""
        self._check(size)
        return root_at(size, self.node_at)

    def prove_consistency(self, m: int, n: int) -> tuple[bytes, ...]:
        """As RFC 6962. Raises ProofSizesWrong unless 0 < m ≤ n, and n is confirmed."""
        self._check(n)
        return prove_consistency(m, n, self.node_at)

    def path_of_roots(self, m: int, n: int) -> tuple[bytes, ...]:
        """The path that shows both roots. Raises ProofSizesWrong unless 0 < m < n."""
        return path_of_roots(m, n, self.node_at)

    def _check(self, size: int) -> None:
        confirmed = self.sizes()[1]
        if not 0 <= size <= confirmed:
            raise ProofSizesWrong(expected=f"size 0 … {confirmed}", actual=size)
