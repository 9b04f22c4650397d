"""What sites say about each other's logs: witnessing, mirroring, and proofs of forks.

All but `ForkTold` go straight from one site to another and are never passed on; none of them is
repeated by reconciliation, because each is asked or told again by itself. What the bytes mean is
for `ledger.log` to judge: here is only their shape, and how large they may be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from gossip.errors import Garbled
from gossip.identifiers import ID_BYTES
from gossip.limits import (
    ENTRIES_BYTES_MAX,
    ENTRIES_MAX,
    ENTRY_BYTES_MAX,
    FORK_PART_BYTES_MAX,
    FORK_PARTS_MAX,
    HELD_NOTE_BYTES_MAX,
    HELD_NOTES_BYTES_MAX,
    HELD_NOTES_MAX,
    INT_MAX,
    LEAVES_MAX,
    LINEAGE_BYTES_MAX,
    LINEAGE_ENTRIES_MAX,
    ORIGIN_BYTES_MAX,
    WITNESS_BODY_BYTES_MAX,
    WITNESS_REQUEST_BYTES_MAX,
)
from gossip.wire import Packable, Reader

HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CosignRequested:
    """Please cosign my log's newest head.

    request: the body of a C2SP tlog-witness request (old size, consistency proof, signed note).
    leaves_from, leaves: leaf hashes of my entries from this number on, 32 bytes each.
    """

    request: bytes
    leaves_from: int
    leaves: bytes


@dataclass(frozen=True, slots=True)
class CosignAnswered:
    """The answer to `CosignRequested` about the head with this origin, size and root.

    status, body: as in C2SP tlog-witness: 200 and a cosignature line, 409 and the size held, …
    """

    origin: str
    size: int
    root: bytes
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class HeadsHeld:
    """The newest signed note that the sender holds of each log, cosignatures after it.

    The first is of the receiver's own log, or empty: then the sender has never seen one.
    """

    notes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LeavesWanted:
    """Send me the leaf hashes [start, stop) that you hold of this log."""

    log_id: bytes
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class LeavesSent:
    """Leaf hashes of a log from `start` on, 32 bytes each."""

    log_id: bytes
    start: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class EntriesWanted:
    """Send me the entries [start, stop) of this log, as far as I may have them."""

    log_id: bytes
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SentEntry:
    """One entry: plain (form 0) for whom may read it, else sealed to its owner (form 1)."""

    seq: int
    form: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EntriesSent:
    """Entries of a log, numbers ascending."""

    log_id: bytes
    start: int
    items: tuple[SentEntry, ...]


@dataclass(frozen=True, slots=True)
class KeysShown:
    """A log's raw genesis entry and those that changed its keys; they prove themselves."""

    log_id: bytes
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ForkTold:
    """A self-contained proof that a log has two histories, or a part of a large one; for everyone.

    digest: SHA-256 of the whole proof's file. part: 0 … parts − 1; most proofs have one part.
    """

    digest: bytes
    part: int
    parts: int
    data: bytes


def told_in_parts(digest: bytes, proof: bytes) -> tuple[ForkTold, ...]:
    """A proof's file as messages. Raises ValueError above FORK_PARTS_MAX parts."""
    step = FORK_PART_BYTES_MAX
    pieces = [proof[at : at + step] for at in range(0, len(proof), step)]
    if not 0 < len(pieces) <= FORK_PARTS_MAX:
        raise ValueError(f"{len(proof)} bytes, allowed 1…{FORK_PARTS_MAX * step}")
    return tuple(ForkTold(digest, n, len(pieces), data) for n, data in enumerate(pieces))


PLAIN: Final = 0
SEALED: Final = 1

WitnessMessage: TypeAlias = (
    CosignRequested
    | CosignAnswered
    | HeadsHeld
    | LeavesWanted
    | LeavesSent
    | EntriesWanted
    | EntriesSent
    | KeysShown
)
"""Those that go straight to one site."""

COSIGN_REQUESTED: Final = 8
COSIGN_ANSWERED: Final = 9
HEADS_HELD: Final = 10
LEAVES_WANTED: Final = 11
LEAVES_SENT: Final = 12
ENTRIES_WANTED: Final = 13
ENTRIES_SENT: Final = 14
FORK_TOLD: Final = 15
KEYS_SHOWN: Final = 16


def fields_of(message: WitnessMessage | ForkTold) -> Packable:
    """Kind and fields, as they are packed."""
    match message:
        case CosignRequested():
            return (COSIGN_REQUESTED, message.request, message.leaves_from, message.leaves)
        case CosignAnswered(origin=origin, size=size, root=root):
            return (COSIGN_ANSWERED, origin, size, root, message.status, message.body)
        case HeadsHeld():
            return (HEADS_HELD, message.notes)
        case LeavesWanted():
            return (LEAVES_WANTED, message.log_id, message.start, message.stop)
        case LeavesSent():
            return (LEAVES_SENT, message.log_id, message.start, message.hashes)
        case EntriesWanted():
            return (ENTRIES_WANTED, message.log_id, message.start, message.stop)
        case EntriesSent():
            items = tuple((item.seq, item.form, item.data) for item in message.items)
            return (ENTRIES_SENT, message.log_id, message.start, items)
        case KeysShown(log_id=log_id, entries=entries):
            return (KEYS_SHOWN, log_id, entries)
        case ForkTold():
            return (FORK_TOLD, message.digest, message.part, message.parts, message.data)
        case _:
            assert_never(message)


def _read_request(reader: Reader) -> CosignRequested:
    return CosignRequested(
        request=reader.blob(1, WITNESS_REQUEST_BYTES_MAX),
        leaves_from=reader.integer(0, INT_MAX),
        leaves=_read_hashes(reader),
    )


def _read_answer(reader: Reader) -> CosignAnswered:
    return CosignAnswered(
        origin=reader.text(1, ORIGIN_BYTES_MAX),
        size=reader.integer(0, INT_MAX),
        root=reader.blob(HASH_BYTES, HASH_BYTES),
        status=reader.integer(100, 599),
        body=reader.blob(0, WITNESS_BODY_BYTES_MAX),
    )


def _read_held(reader: Reader) -> HeadsHeld:
    count = reader.array(1, HELD_NOTES_MAX)
    notes = tuple(reader.blob(0, HELD_NOTE_BYTES_MAX) for _ in range(count))
    if sum(map(len, notes)) > HELD_NOTES_BYTES_MAX:
        raise Garbled("notes together", expected=f"at most {HELD_NOTES_BYTES_MAX}")
    return HeadsHeld(notes)


def _read_leaves_wanted(reader: Reader) -> LeavesWanted:
    return LeavesWanted(*_read_range(reader))


def _read_entries_wanted(reader: Reader) -> EntriesWanted:
    return EntriesWanted(*_read_range(reader))


def _read_range(reader: Reader) -> tuple[bytes, int, int]:
    log_id = reader.blob(ID_BYTES, ID_BYTES)
    start = reader.integer(0, INT_MAX)
    return log_id, start, reader.integer(start, INT_MAX)


def _read_leaves_sent(reader: Reader) -> LeavesSent:
    return LeavesSent(
        log_id=reader.blob(ID_BYTES, ID_BYTES),
        start=reader.integer(0, INT_MAX),
        hashes=_read_hashes(reader),
    )


def _read_entries_sent(reader: Reader) -> EntriesSent:
    log_id = reader.blob(ID_BYTES, ID_BYTES)
    start = reader.integer(0, INT_MAX)
    count = reader.array(0, ENTRIES_MAX)
    items = tuple(_read_item(reader) for _ in range(count))
    if count > 1 and sum(len(item.data) for item in items) > ENTRIES_BYTES_MAX:
        raise Garbled("entries together", expected=f"at most {ENTRIES_BYTES_MAX}")
    if [item.seq for item in items] != list(range(start, start + count)):
        raise Garbled("entries are not numbered from the start on")
    return EntriesSent(log_id, start, items)


def _read_item(reader: Reader) -> SentEntry:
    reader.array(3, 3)
    seq, form = reader.integer(0, INT_MAX), reader.integer(PLAIN, SEALED)
    return SentEntry(seq, form, reader.blob(1, ENTRY_BYTES_MAX))


def _read_fork(reader: Reader) -> ForkTold:
    digest = reader.blob(ID_BYTES, ID_BYTES)
    part, parts = reader.integer(0, FORK_PARTS_MAX - 1), reader.integer(1, FORK_PARTS_MAX)
    if part >= parts:
        raise Garbled("part of a proof", expected=f"0 … {parts - 1}", actual=part)
    return ForkTold(digest, part, parts, reader.blob(1, FORK_PART_BYTES_MAX))


def _read_keys(reader: Reader) -> KeysShown:
    log_id = reader.blob(ID_BYTES, ID_BYTES)
    count = reader.array(1, LINEAGE_ENTRIES_MAX)
    entries = tuple(reader.blob(1, LINEAGE_BYTES_MAX) for _ in range(count))
    if sum(map(len, entries)) > LINEAGE_BYTES_MAX:
        raise Garbled("entries together", expected=f"at most {LINEAGE_BYTES_MAX}")
    return KeysShown(log_id, entries)


def _read_hashes(reader: Reader) -> bytes:
    hashes = reader.blob(0, LEAVES_MAX * HASH_BYTES)
    if len(hashes) % HASH_BYTES:
        raise Garbled("leaf hashes", expected="a multiple of 32 bytes", actual=len(hashes))
    return hashes


READERS: Final[dict[int, tuple[int, Callable[[Reader], WitnessMessage | ForkTold]]]] = {
    COSIGN_REQUESTED: (4, _read_request),
    COSIGN_ANSWERED: (6, _read_answer),
    HEADS_HELD: (2, _read_held),
    LEAVES_WANTED: (4, _read_leaves_wanted),
    LEAVES_SENT: (4, _read_leaves_sent),
    ENTRIES_WANTED: (4, _read_entries_wanted),
    ENTRIES_SENT: (4, _read_entries_sent),
    FORK_TOLD: (5, _read_fork),
    KEYS_SHOWN: (3, _read_keys),
}
"""Kind → (array length with the kind itself, reader of the fields)."""
