"""The RFC 6962 Merkle tree: hashes, roots, proofs and their verification.

Responsible for: the tree's arithmetic over complete subtrees.
Must not know: where hashes are stored, or what a leaf contains.

A *node* (level, index) is the hash of the complete subtree over leaves
[index·2^level, (index+1)·2^level); level 0 is a leaf hash.
Source: RFC 6962 section 2.1; verification as in RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from ledger.log.errors import HashLengthWrong, ProofLengthWrong, ProofSizesWrong, RootMismatch

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

NodeAt = Callable[[int, int], bytes]


Node = tuple[int, int, bytes]
"""The hash of one complete subtree: (level, index, hash)."""


def leaf_hash(data: bytes) -> bytes:
    """SHA256(0x00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The complete subtrees that a tree of `size` leaves ends with: O(log n), enough to grow it."""

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """hashes: one per set bit of `size`, largest subtree first."""
        self.size = size
        self._hashes = list(hashes)
        if len(self._hashes) != size.bit_count():
            raise ProofLengthWrong(expected=size.bit_count(), actual=len(self._hashes))

    def copy(self) -> "Frontier":
        """An independent frontier of the same tree."""
        return Frontier(self.size, self._hashes)

    def append(self, leaf: bytes) -> list[Node]:
        """Add one leaf hash; return the inner nodes it completes, lowest first."""
        return self.append_subtree(0, leaf)

    def append_subtree(self, level: int, subtree: bytes) -> list[Node]:
        """Add a complete subtree of 2^level leaves; `size` must be a multiple of 2^level."""
        if self.size % (1 << level):
            raise ProofSizesWrong(actual=f"a subtree of level {level} after {self.size} leaves")
        completed = []
        index = self.size >> level
        current = subtree
        while index & 1:
            current = node_hash(self._hashes.pop(), current)
            level, index = level + 1, index >> 1
            completed.append((level, index, current))
        self._hashes.append(current)
        self.size = (index + 1) << level
        return completed

    def root(self) -> bytes:
        """The root of the tree."""
        return _folded(self._hashes)


def _folded(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def frontier_at(size: int, node_at: NodeAt) -> Frontier:
    """The frontier of the first `size` leaves, from stored nodes."""
    return Frontier(size, _peaks(0, size, node_at))


def root_at(size: int, node_at: NodeAt) -> bytes:
    """The root over the first `size` leaves."""
    return _folded(list(_peaks(0, size, node_at)))


def _peaks(start: int, stop: int, node_at: NodeAt) -> Iterable[bytes]:
    """Complete subtrees that cover leaves [start, stop), left to right."""
    while start < stop:
        level = (stop - start).bit_length() - 1
        yield node_at(level, start >> level)
        start += 1 << level


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def prove_inclusion(index: int, size: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """The audit path of leaf `index` in the tree of `size` leaves, lowest first.

    Raises ProofSizesWrong unless 0 ≤ index < size. Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        raise ProofSizesWrong(actual=f"index {index}, size {size}")
    path = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(_folded(list(_peaks(middle, stop, node_at))))
            stop = middle
        else:
            path.append(_folded(list(_peaks(start, middle, node_at))))
            start = middle
    return tuple(reversed(path))


def prove_consistency(m: int, n: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """Proof that the tree of `n` leaves extends the tree of `m` leaves; empty when m = n.

    Raises ProofSizesWrong unless 0 < m ≤ n. Source: RFC 6962 section 2.1.2.
    """
    _check_sizes(m, n)
    path = []
    start, stop = 0, n
    # While m's last subtree is the whole left edge, its hash is root_m itself and is left out.
    whole = True
    while stop != m:
        middle = start + _split(stop - start)
        if m <= middle:
            path.append(_folded(list(_peaks(middle, stop, node_at))))
            stop = middle
        else:
            path.append(_folded(list(_peaks(start, middle, node_at))))
            start, whole = middle, False
    if not whole:
        path.append(_folded(list(_peaks(start, stop, node_at))))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf hash `leaf` is number `index` in the tree of `size` leaves under `root`.

    Raises: ProofSizesWrong, HashLengthWrong, ProofLengthWrong, RootMismatch.
    """
    if not 0 <= index < size:
        raise ProofSizesWrong(actual=f"index {index}, size {size}")
    _check_hashes(leaf, root, *proof)
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border:
        raise ProofLengthWrong(expected=inner + border, actual=len(proof))
    current = leaf
    for level, sibling in enumerate(proof):
        if level < inner and not index >> level & 1:
            current = node_hash(current, sibling)
        else:
            current = node_hash(sibling, current)
    if current != root:
        raise RootMismatch(expected=root, actual=current)


def verify_consistency(
    m: int, n: int, root_m: bytes, root_n: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `n` leaves under `root_n` extends the one of `m` under `root_m`.

    Raises: ProofSizesWrong, HashLengthWrong, ProofLengthWrong, RootMismatch.
    """
    _check_sizes(m, n)
    _check_hashes(root_m, root_n, *proof)
    if m == n:
        if proof:
            raise ProofLengthWrong(expected=0, actual=len(proof))
        if root_m != root_n:
            raise RootMismatch(expected=root_n, actual=root_m)
        return
    # The path starts at m's lowest complete subtree; of a power of two that is root_m itself.
    seen_m, seen_n = roots_of_path(m, n, proof if m & (m - 1) else (root_m, *proof))
    if seen_m != root_m:
        raise RootMismatch("at the older size", expected=root_m, actual=seen_m)
    if seen_n != root_n:
        raise RootMismatch("at the newer size", expected=root_n, actual=seen_n)


def path_of_roots(m: int, n: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """A consistency proof that names its first subtree even where RFC 6962 leaves it out.

    `roots_of_path` computes both roots from it, so that it shows what the root at m is instead of
    taking somebody's word for it. Raises ProofSizesWrong unless 0 < m < n.
    """
    _check_sizes(m, n - 1)
    path = prove_consistency(m, n, node_at)
    return path if m & (m - 1) else (node_at(m.bit_length() - 1, 0), *path)


def roots_of_path(m: int, n: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots at `m` and at `n` of the one tree that `path` was taken from.

    Raises: ProofSizesWrong unless 0 < m < n, HashLengthWrong, ProofLengthWrong.
    """
    _check_sizes(m, n - 1)
    _check_hashes(*path)
    level = (m & -m).bit_length() - 1
    index = (m - 1) >> level
    inner = (index ^ ((n - 1) >> level)).bit_length()
    border = (index >> inner).bit_count()
    if len(path) != 1 + inner + border:
        raise ProofLengthWrong(expected=1 + inner + border, actual=len(path))
    seen_m = seen_n = path[0]
    for step, sibling in enumerate(path[1:]):
        if step < inner and not index >> step & 1:
            seen_n = node_hash(seen_n, sibling)
        else:
            seen_m = node_hash(sibling, seen_m)
            seen_n = node_hash(sibling, seen_n)
    return seen_m, seen_n


def _check_sizes(m: int, n: int) -> None:
    if not 0 < m <= n:
        raise ProofSizesWrong(actual=f"m {m}, n {n}")


def _check_hashes(*hashes: bytes) -> None:
    for candidate in hashes:
        if len(candidate) != HASH_BYTES:
            raise HashLengthWrong(expected=HASH_BYTES, actual=len(candidate))
