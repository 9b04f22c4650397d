"""What sites say to each other about the roster: what they hold, what they lack, and the things.

All three go straight from one site to another, are answered from what is held, and are repeated by
whoever needs the answer. The things themselves prove who made them, so anybody may pass them on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final, TypeAlias, assert_never

from gossip.errors import Garbled, TooLarge
from gossip.identifiers import ID_BYTES, Digest
from gossip.limits import (
    INT_MAX,
    LINK_BYTES_MAX,
    ROSTER_IDS_MAX,
    ROSTER_ITEMS_BYTES_MAX,
    ROSTER_ITEMS_MAX,
    ROSTER_WANTED_MAX,
)
from gossip.wire import Packable, Reader

ROSTER_HELD: Final = 17
ROSTER_WANTED: Final = 18
ROSTER_ITEMS: Final = 19


class ItemKind(Enum):
    """What a thing is; the values are the wire's."""

    CHANGE = 1
    """Named by the digest of the roster that it leads to."""
    STATEMENT = 2
    LINK = 3
    CARD = 4
    """The others by the SHA-256 of their bytes."""


@dataclass(frozen=True, slots=True)
class RosterItem:
    """A thing as its bytes: `gossip.roster_change`, `roster_votes`, `roster_chain`, `card`."""

    kind: ItemKind
    raw: bytes


@dataclass(frozen=True, slots=True)
class RosterHeld:
    """Here this version of the roster is in force, and these things about its successor are held.

    ids: ascending; some of them in turn, if they are too many for one message."""

    version: int
    digest: Digest
    ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class RosterWanted:
    """Send me these things about the successor of this version; none named: what follows it."""

    version: int
    ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class RosterItems:
    """Things about the roster, together at most `ROSTER_ITEMS_BYTES_MAX` bytes."""

    items: tuple[RosterItem, ...]


RosterMessage: TypeAlias = RosterHeld | RosterWanted | RosterItems


def roster_fields(message: RosterMessage) -> Packable:
    """The message as an array."""
    match message:
        case RosterHeld():
            return (ROSTER_HELD, message.version, message.digest, message.ids)
        case RosterWanted():
            return (ROSTER_WANTED, message.version, message.ids)
        case RosterItems():
            return (ROSTER_ITEMS, [(item.kind.value, item.raw) for item in message.items])
        case _:
            assert_never(message)


def _read_held(reader: Reader) -> RosterHeld:
    return RosterHeld(
        version=reader.integer(1, INT_MAX),
        digest=Digest(reader.blob(ID_BYTES, ID_BYTES)),
        ids=_read_ids(reader, ROSTER_IDS_MAX),
    )


def _read_wanted(reader: Reader) -> RosterWanted:
    return RosterWanted(reader.integer(1, INT_MAX), _read_ids(reader, ROSTER_WANTED_MAX))


def _read_items(reader: Reader) -> RosterItems:
    items, total = [], 0
    for _ in range(reader.array(1, ROSTER_ITEMS_MAX)):
        reader.array(2, 2)
        kind = ItemKind(reader.integer(1, len(ItemKind)))
        items.append(RosterItem(kind, reader.blob(1, LINK_BYTES_MAX)))
        total += len(items[-1].raw)
        if total > ROSTER_ITEMS_BYTES_MAX:
            raise TooLarge("items", expected=f"at most {ROSTER_ITEMS_BYTES_MAX}", actual=total)
    return RosterItems(tuple(items))


def _read_ids(reader: Reader, ids_max: int) -> tuple[Digest, ...]:
    count = reader.array(0, ids_max)
    ids = tuple(Digest(reader.blob(ID_BYTES, ID_BYTES)) for _ in range(count))
    if any(first >= second for first, second in pairwise(ids)):
        raise Garbled("ids are not strictly ascending")
    return ids


ROSTER_READERS: Final[dict[int, tuple[int, Callable[[Reader], RosterMessage]]]] = {
    ROSTER_HELD: (4, _read_held),
    ROSTER_WANTED: (3, _read_wanted),
    ROSTER_ITEMS: (2, _read_items),
}
"""Kind → (array length with the kind itself, reader of the fields)."""
