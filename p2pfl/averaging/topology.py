"""Who averages with whom, and with which weights: public facts of a study, same at every site.

Pure integers and SHA-256: no floating point decides a graph or a weight, so every site computes
the same ones. Graphs are undirected and connected, without loops. Shares and weights are whole
micro-units (1,000,000 = 1). It must not know models or rounds.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from math import isqrt

from p2pfl.averaging.breakdown import Breakdown, Claim, breakdown, spectral_gap
from p2pfl.averaging.errors import GraphError, ShareCapTooLow, UnknownSite, UnknownTopology

Graph = Mapping[bytes, tuple[bytes, ...]]
"""Site → its neighbours, sorted. Symmetric."""
Edge = tuple[bytes, bytes]

TOPOLOGIES = ("complete", "ring", "torus", "exponential", "random-regular", "custom")
MICRO = 1_000_000

_DRAW_ATTEMPTS_MAX = 1000
_DRAW_DOMAIN = b"p2pfl/topology/random-regular/v1\0"

__all__ = [
    "MICRO",
    "TOPOLOGIES",
    "Breakdown",
    "Claim",
    "Edge",
    "Graph",
    "all_mixing_weights_u",
    "breakdown",
    "capped_shares_u",
    "mixing_weights_u",
    "neighbours",
    "spectral_gap",
    "uniform_shares_u",
]


def neighbours(
    kind: str,
    sites: Sequence[bytes],
    *,
    degree: int = 6,
    seed: int = 0,
    epoch: int = 0,
    edges: Collection[Edge] = (),
) -> dict[bytes, tuple[bytes, ...]]:
    """The study's graph: for each site its neighbours, sorted.

    sites: any order, no duplicates. degree, seed, epoch: used by random-regular alone, which is
    drawn anew for each epoch. edges: used by custom alone.
    Raises: UnknownTopology, UnknownSite, GraphError.

    >>> neighbours("ring", [b"c", b"a", b"d", b"b"])[b"a"]
    (b'b', b'd')
    """
    if kind not in TOPOLOGIES:
        raise UnknownTopology(kind, TOPOLOGIES)
    ordered = sorted(sites)
    n = len(ordered)
    if n == 0 or len(set(ordered)) != n:
        raise GraphError(f"sites: expected at least one and no duplicates, got {n}")
    match kind:
        case "complete":
            pairs = list(combinations(range(n), 2))
        case "ring":
            pairs = [(i, (i + 1) % n) for i in range(n)]
        case "torus":
            pairs = _torus(n)
        case "exponential":
            pairs = [(i, (i + (1 << k)) % n) for i in range(n) for k in range((n - 1).bit_length())]
        case "random-regular":
            pairs = _random_regular(n, degree, seed, epoch)
        case _:
            pairs = _custom(ordered, edges)
    linked = _links(n, pairs)
    if not _is_connected(linked):
        raise GraphError(f"{kind}: expected a connected graph, got one in several parts")
    return {site: tuple(ordered[j] for j in sorted(linked[i])) for i, site in enumerate(ordered)}


def uniform_shares_u(sites: Sequence[bytes]) -> dict[bytes, int]:
    """The same share for every site, in micro-units rounded down."""
    return {site: MICRO // len(sites) for site in sorted(sites)}


def capped_shares_u(buckets: Mapping[bytes, int], cap: float) -> dict[bytes, int]:
    """Shares in proportion to public patient buckets, none above `cap`, in micro-units.

    What a capped site may not have goes to the others in proportion to their buckets, which may
    bring more of them to the cap. Rounded down, at least 1.
    buckets: site → patients, each ≥ 1. cap: 1/n…1.
    Raises: ShareCapTooLow, GraphError.

    >>> capped_shares_u({b"a": 800, b"b": 100, b"c": 100}, 0.5)
    {b'a': 500000, b'b': 250000, b'c': 250000}
    """
    for site, patients in sorted(buckets.items()):
        if patients < 1:
            raise GraphError(f"patients of site {site.hex()[:12]}: expected ≥ 1, got {patients}")
    cap_u = round(cap * MICRO)
    # One micro-unit per site is forgiven: three sites may write a third as 0.333333.
    if not MICRO - len(buckets) <= len(buckets) * cap_u <= len(buckets) * MICRO:
        raise ShareCapTooLow(cap, len(buckets))
    shares: dict[bytes, int] = {}
    open_sites = dict(sorted(buckets.items()))
    while open_sites:
        left_u = MICRO - len(shares) * cap_u
        patients = sum(open_sites.values())
        over = [site for site, own in open_sites.items() if left_u * own > cap_u * patients]
        if not over:
            shares |= {s: max(1, left_u * own // patients) for s, own in open_sites.items()}
            break
        for site in over:
            shares[site] = cap_u
            del open_sites[site]
    return dict(sorted(shares.items()))


def mixing_weights_u(
    graph: Graph, shares_u: Mapping[bytes, int], own: bytes, alive: Collection[bytes]
) -> dict[bytes, int]:
    """Weights of the neighbours heard this round, in micro-units rounded down.

    w_ij = π_j / max(S_i, S_j), S_i the sum of shares over i and its neighbours in the whole graph,
    alive or not: both ends of an edge then agree on S although they heard different sites. This
    keeps π_i w_ij = π_j w_ji, so gossip converges to the average weighted by π; with equal shares
    it is the Metropolis–Hastings weight 1/(1 + max degree). What silent neighbours would have had
    stays with the own model, as does the rest to 1,000,000.

    alive: sites heard; those that are not neighbours are ignored.
    Raises: UnknownSite, GraphError (a share below 1).
    """
    if own not in graph:
        raise UnknownSite(own)
    around = _around(graph, shares_u, own)
    return {
        site: MICRO * shares_u[site] // max(around, _around(graph, shares_u, site))
        for site in graph[own]
        if site in alive
    }


def all_mixing_weights_u(
    graph: Graph, shares_u: Mapping[bytes, int]
) -> dict[bytes, dict[bytes, int]]:
    """`mixing_weights_u` of every site with all its neighbours alive: what breakdown() reads."""
    return {site: mixing_weights_u(graph, shares_u, site, graph[site]) for site in sorted(graph)}


def _around(graph: Graph, shares_u: Mapping[bytes, int], site: bytes) -> int:
    total = 0
    for member in (site, *graph[site]):
        share = shares_u.get(member, 0)
        if share < 1:
            raise GraphError(f"share of site {member.hex()[:12]}: expected ≥ 1, got {share}")
        total += share
    return total


def _links(n: int, pairs: Collection[tuple[int, int]]) -> list[set[int]]:
    linked: list[set[int]] = [set() for _ in range(n)]
    for i, j in pairs:
        if i != j:
            linked[i].add(j)
            linked[j].add(i)
    return linked


def _is_connected(linked: Sequence[set[int]]) -> bool:
    reached, waiting = {0}, [0]
    while waiting:
        new = linked[waiting.pop()] - reached
        reached |= new
        waiting += new
    return len(reached) == len(linked)


def _torus(n: int) -> list[tuple[int, int]]:
    rows = max((r for r in range(2, isqrt(n) + 1) if n % r == 0), default=0)
    if rows == 0:
        raise GraphError(f"torus: expected rows × columns, each at least 2, got {n} sites")
    columns = n // rows
    right = [(i, i - i % columns + (i + 1) % columns) for i in range(n)]
    down = [(i, (i + columns) % n) for i in range(n)]
    return right + down


def _custom(ordered: Sequence[bytes], edges: Collection[Edge]) -> list[tuple[int, int]]:
    place = {site: i for i, site in enumerate(ordered)}
    pairs = []
    for first, second in sorted(edges):
        for site in (first, second):
            if site not in place:
                raise UnknownSite(site)
        if first == second:
            raise GraphError(f"edges: site {first.hex()[:12]} is linked to itself")
        pairs.append((place[first], place[second]))
    return pairs


def _random_regular(n: int, degree: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """A connected random graph in which every site has `degree` neighbours.

    Source: Steger and Wormald 1999, generating random regular graphs quickly: open ends are paired
    at random, unsuitable pairs are thrown back; starts over when only unsuitable ones are left.
    """
    if not 2 <= degree < n or n * degree % 2:
        raise GraphError(
            f"random-regular: expected 2 ≤ degree < sites and an even product, "
            f"got degree {degree} and {n} sites"
        )
    for attempt in range(_DRAW_ATTEMPTS_MAX):
        pairs = _pair_ends(n, degree, _uniform_numbers(seed, epoch, attempt))
        if pairs and _is_connected(_links(n, pairs)):
            return sorted(pairs)
    raise GraphError(f"random-regular: no connected graph found with degree {degree}, {n} sites")


def _pair_ends(n: int, degree: int, numbers: Iterator[int]) -> set[tuple[int, int]]:
    """Edges of a degree-regular graph, or nothing when the draw got stuck."""
    edges: set[tuple[int, int]] = set()
    ends = [site for site in range(n) for _ in range(degree)]
    while ends:
        for i in range(len(ends) - 1, 0, -1):
            j = _below(i + 1, numbers)
            ends[i], ends[j] = ends[j], ends[i]
        left: list[int] = []
        for first, second in zip(ends[::2], ends[1::2], strict=True):
            edge = (min(first, second), max(first, second))
            if first == second or edge in edges:
                left += edge
            else:
                edges.add(edge)
        open_sites = sorted(set(left))
        if left and all(pair in edges for pair in combinations(open_sites, 2)):
            return set()
        ends = left
    return edges


def _uniform_numbers(seed: int, epoch: int, attempt: int) -> Iterator[int]:
    """Endless 64-bit numbers from SHA-256 in counter mode: public, the same in any language."""
    start = _DRAW_DOMAIN + f"{seed}/{epoch}/{attempt}/".encode("ascii")
    counter = 0
    while True:
        block = hashlib.sha256(start + str(counter).encode("ascii")).digest()
        for offset in range(0, 32, 8):
            yield int.from_bytes(block[offset : offset + 8], "big")
        counter += 1


def _below(bound: int, numbers: Iterator[int]) -> int:
    """Uniform in 0…bound−1; numbers that would favour small results are skipped."""
    limit = (1 << 64) - (1 << 64) % bound
    return next(number % bound for number in numbers if number < limit)
