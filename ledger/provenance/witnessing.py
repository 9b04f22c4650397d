"""What other sites hold of this site's log, and this site of theirs, as a report shows it.

Filled by whoever can read the store of witnessed heads; knows nothing of that store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cosigned:
    """One witness's signature under the own head: whose, and the time it states (unix s)."""

    witness: str
    time_s: int


@dataclass(frozen=True, slots=True)
class PeerLog:
    """The newest head of another site's log that this site holds. Times in µs, 0: never."""

    name: str
    size: int
    seen_us: int
    cosigned_us: int


@dataclass(frozen=True, slots=True)
class Witnessing:
    """The newest own head that was cosigned (size 0: none was), and the heads held of others."""

    size: int
    cosigned: tuple[Cosigned, ...]
    peers: tuple[PeerLog, ...]
    forks: int
