"""What sites say to each other: a closed union, each kind with its limits.

`decode_message` is the only way in for foreign bytes and raises nothing but PeerError.
A message is the msgpack array [kind, field…] in the order of the dataclass.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Final, TypeAlias

from gossip.errors import Garbled, InlineHashMismatch, InlineSizeMismatch, UnknownMessage
from gossip.identifiers import ID_BYTES, Digest
from gossip.limits import (
    BLOB_BYTES_MAX,
    INLINE_BYTES_MAX,
    INT_MAX,
    INVENTORY_IDS_MAX,
    MANIFEST_BYTES_MAX,
    NOTE_BYTES_MAX,
    PATIENTS_MAX,
    ROUND_MAX,
    STEERED_ARGUMENTS_MAX,
    STEERED_DECIMAL_BYTES_MAX,
    STEERED_NAME_BYTES_MAX,
    STEPS_MAX,
    WANTED_IDS_MAX,
)
from gossip.pause_messages import (
    STUDY_PAUSED,
    STUDY_PAUSED_FIELDS,
    StudyPaused,
    pause_fields,
    read_paused,
)
from gossip.roster_messages import (
    ROSTER_READERS,
    RosterHeld,
    RosterItems,
    RosterMessage,
    RosterWanted,
    roster_fields,
)
from gossip.wire import Packable, Reader, pack
from gossip.witness_messages import (
    READERS,
    ForkTold,
    WitnessMessage,
    fields_of,
)


class Decision(Enum):
    """What a data owner decided about a study; the values are the wire's.

    AWAY: approved, but the site takes no part until it says APPROVED again."""

    APPROVED = 1
    REFUSED = 2
    REVOKED = 3
    CLOSED = 4
    AWAY = 5


@dataclass(frozen=True, slots=True)
class UpdateAnnounced:
    """The sender publishes its model for a round; straight to its neighbours, never passed on.

    study, hash, entry_leaf: 32 bytes. hash, size: of the artefact's bytes.
    entry_seq, entry_leaf: the sender's `update.published` entry; head: its signed note over it.
    inline: the artefact's bytes, or empty: then fetched by digest.
    train_seq: the `train.done` entry, −1 in a consensus round. steps: what that entry says of its
    gradient steps; 0 where the study does not box local work in time.
    """

    study: bytes
    round: int
    hash: bytes
    size: int
    entry_seq: int
    entry_leaf: bytes
    head: bytes
    inline: bytes
    train_seq: int
    steps: int = 0


@dataclass(frozen=True, slots=True)
class StudyProposal:
    """A study for everyone to decide on. initial: the initial model's bytes, or empty."""

    manifest: bytes
    initial: bytes


@dataclass(frozen=True, slots=True)
class StudyDecision:
    """The sender's decision, as recorded in its log. patients_bucket: public, rounded down."""

    study: bytes
    decision: Decision
    patients_bucket: int
    entry_seq: int
    entry_leaf: bytes
    decided_us: int


@dataclass(frozen=True, slots=True)
class StudySteered:
    """The study's proposer changes training arguments, from a round on.

    changes: every argument that differs from the manifest from now on, (name, number as text),
    names ascending: a later message takes the place of all earlier ones.
    entry_seq, entry_leaf: the sender's `study.steered` entry; the larger number is the newer.
    """

    study: bytes
    changes: tuple[tuple[str, str], ...]
    from_round: int
    entry_seq: int
    entry_leaf: bytes


@dataclass(frozen=True, slots=True)
class HeadAdvertised:
    """The sender's log has this signed head (a C2SP signed note)."""

    note: bytes


@dataclass(frozen=True, slots=True)
class Inventory:
    """The sender holds these items for you: digests of sealed envelopes, ascending."""

    ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Send me these of your items, ascending."""

    ids: tuple[Digest, ...]


Message: TypeAlias = (
    UpdateAnnounced
    | StudyProposal
    | StudyDecision
    | StudySteered
    | StudyPaused
    | HeadAdvertised
    | Inventory
    | Wanted
    | WitnessMessage
    | ForkTold
    | RosterMessage
)

UPDATE_ANNOUNCED: Final = 1
STUDY_PROPOSAL: Final = 2
STUDY_DECISION: Final = 3
HEAD_ADVERTISED: Final = 4
INVENTORY: Final = 5
WANTED: Final = 6
STUDY_STEERED: Final = 7
BOXED_UPDATE_ANNOUNCED: Final = 20
"""An UpdateAnnounced that says how many steps were made: of a study that boxes work in time."""

STEERED_NAME: Final = re.compile(r"[a-z0-9_]+")
STEERED_DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")


def encode_message(message: Message) -> bytes:
    """The message's bytes; does not check limits (`envelope.seal` does)."""
    return pack(_fields(message))


def decode_message(data: bytes) -> Message:
    """Read one message. Raises Garbled, TooLarge, UnknownMessage, Inline…Mismatch."""
    reader = Reader(data)
    length = reader.array(1, 16)
    kind = reader.integer(0, INT_MAX)
    if kind not in _KINDS:
        raise UnknownMessage("message kind", expected=f"1…{max(_KINDS)}", actual=kind)
    expected, read = _KINDS[kind]
    if length != expected:
        raise Garbled("array length of this kind", expected=expected, actual=length)
    message = read(reader)
    reader.end()
    return message


def _fields(message: Message) -> Packable:
    match message:
        case UpdateAnnounced():
            return _update_fields(message)
        case StudyProposal():
            return (STUDY_PROPOSAL, message.manifest, message.initial)
        case StudyDecision():
            return (
                STUDY_DECISION,
                message.study,
                message.decision.value,
                message.patients_bucket,
                message.entry_seq,
                message.entry_leaf,
                message.decided_us,
            )
        case StudySteered():
            return (
                STUDY_STEERED,
                message.study,
                message.changes,
                message.from_round,
                message.entry_seq,
                message.entry_leaf,
            )
        case StudyPaused():
            return pause_fields(message)
        case HeadAdvertised():
            return (HEAD_ADVERTISED, message.note)
        case Inventory():
            return (INVENTORY, message.ids)
        case Wanted():
            return (WANTED, message.ids)
        case RosterHeld() | RosterWanted() | RosterItems():
            return roster_fields(message)
        case _:
            return fields_of(message)


def _update_fields(message: UpdateAnnounced) -> Packable:
    """One spelling for each message: the longer array only where it says more."""
    more = (message.steps,) if message.steps else ()
    return (
        BOXED_UPDATE_ANNOUNCED if message.steps else UPDATE_ANNOUNCED,
        message.study,
        message.round,
        message.hash,
        message.size,
        message.entry_seq,
        message.entry_leaf,
        message.head,
        message.inline,
        message.train_seq,
        *more,
    )


def _read_boxed_update(reader: Reader) -> UpdateAnnounced:
    return replace(_read_update(reader), steps=reader.integer(1, STEPS_MAX))


def _read_update(reader: Reader) -> UpdateAnnounced:
    message = UpdateAnnounced(
        study=_read_id(reader),
        round=reader.integer(0, ROUND_MAX),
        hash=_read_id(reader),
        size=reader.integer(1, BLOB_BYTES_MAX),
        entry_seq=reader.integer(0, INT_MAX),
        entry_leaf=_read_id(reader),
        head=reader.blob(1, NOTE_BYTES_MAX),
        inline=reader.blob(0, INLINE_BYTES_MAX),
        train_seq=reader.integer(-1, INT_MAX),
    )
    if message.inline:
        _check_inline(message)
    return message


def _check_inline(message: UpdateAnnounced) -> None:
    if len(message.inline) != message.size:
        raise InlineSizeMismatch("inline", expected=message.size, actual=len(message.inline))
    actual = hashlib.sha256(message.inline).digest()
    if actual != message.hash:
        raise InlineHashMismatch("inline", expected=message.hash.hex(), actual=actual.hex())


def _read_proposal(reader: Reader) -> StudyProposal:
    return StudyProposal(
        manifest=reader.blob(1, MANIFEST_BYTES_MAX),
        initial=reader.blob(0, INLINE_BYTES_MAX),
    )


def _read_decision(reader: Reader) -> StudyDecision:
    return StudyDecision(
        study=_read_id(reader),
        decision=Decision(reader.integer(1, len(Decision))),
        patients_bucket=reader.integer(0, PATIENTS_MAX),
        entry_seq=reader.integer(0, INT_MAX),
        entry_leaf=_read_id(reader),
        decided_us=reader.integer(0, INT_MAX),
    )


def _read_steered(reader: Reader) -> StudySteered:
    return StudySteered(
        study=_read_id(reader),
        changes=_read_changes(reader),
        from_round=reader.integer(0, ROUND_MAX),
        entry_seq=reader.integer(0, INT_MAX),
        entry_leaf=_read_id(reader),
    )


def _read_changes(reader: Reader) -> tuple[tuple[str, str], ...]:
    count = reader.array(1, STEERED_ARGUMENTS_MAX)
    changes = tuple(_read_change(reader) for _ in range(count))
    if any(first[0] >= second[0] for first, second in pairwise(changes)):
        raise Garbled("steered names are not strictly ascending")
    return changes


def _read_change(reader: Reader) -> tuple[str, str]:
    reader.array(2, 2)
    name = reader.text(1, STEERED_NAME_BYTES_MAX)
    decimal = reader.text(1, STEERED_DECIMAL_BYTES_MAX)
    if not STEERED_NAME.fullmatch(name) or not STEERED_DECIMAL.fullmatch(decimal):
        raise Garbled("not an argument's name and a number ≥ 0")
    return name, decimal


def _read_head(reader: Reader) -> HeadAdvertised:
    return HeadAdvertised(note=reader.blob(1, NOTE_BYTES_MAX))


def _read_inventory(reader: Reader) -> Inventory:
    return Inventory(ids=_read_ids(reader, INVENTORY_IDS_MAX))


def _read_wanted(reader: Reader) -> Wanted:
    return Wanted(ids=_read_ids(reader, WANTED_IDS_MAX))


def _read_id(reader: Reader) -> bytes:
    return reader.blob(ID_BYTES, ID_BYTES)


def _read_ids(reader: Reader, ids_max: int) -> tuple[Digest, ...]:
    count = reader.array(1, ids_max)
    ids = tuple(Digest(_read_id(reader)) for _ in range(count))
    # Strictly ascending: one spelling for a set, and nothing asked twice.
    if any(first >= second for first, second in pairwise(ids)):
        raise Garbled("ids are not strictly ascending")
    return ids


# Kind → (array length with the kind itself, reader of the fields).
_KINDS: Final[dict[int, tuple[int, Callable[[Reader], Message]]]] = {
    UPDATE_ANNOUNCED: (10, _read_update),
    BOXED_UPDATE_ANNOUNCED: (11, _read_boxed_update),
    STUDY_PROPOSAL: (3, _read_proposal),
    STUDY_DECISION: (7, _read_decision),
    HEAD_ADVERTISED: (2, _read_head),
    INVENTORY: (2, _read_inventory),
    WANTED: (2, _read_wanted),
    STUDY_STEERED: (6, _read_steered),
    STUDY_PAUSED: (STUDY_PAUSED_FIELDS, read_paused),
    **READERS,
    **ROSTER_READERS,
}
