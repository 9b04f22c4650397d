"""What a study's proposer says to everyone about its pause, and about its early end."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gossip.errors import Garbled
from gossip.identifiers import ID_BYTES
from gossip.limits import INT_MAX, PAUSE_REASON_BYTES_MAX, ROUND_MAX
from gossip.wire import Packable, Reader

STUDY_PAUSED: Final = 21
STUDY_PAUSED_FIELDS: Final = 7
PAUSE_REASON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+()=-]{0,95}")
"""What a ledger's entry takes as a code."""


class Pause(Enum):
    """Whether a study is paused, or ends early; the values are the wire's."""

    PAUSED = 1
    RESUMED = 2
    STOPPED = 3


@dataclass(frozen=True, slots=True)
class StudyPaused:
    """The study's proposer pauses it from a round on, lets it go on, or ends it with a round.

    reason: a code without spaces, or nothing. entry_seq, entry_leaf: the sender's `study.paused`,
    `study.resumed` or `study.stopped` entry; the larger number is the newer, and takes the older
    one's place. Nothing takes that of a stop.
    """

    study: bytes
    state: Pause
    reason: str
    from_round: int
    entry_seq: int
    entry_leaf: bytes


def pause_fields(message: StudyPaused) -> Packable:
    """The message's array."""
    return (
        STUDY_PAUSED,
        message.study,
        message.state.value,
        message.reason,
        message.from_round,
        message.entry_seq,
        message.entry_leaf,
    )


def read_paused(reader: Reader) -> StudyPaused:
    """The fields after the kind. Raises Garbled, TooLarge."""
    message = StudyPaused(
        study=reader.blob(ID_BYTES, ID_BYTES),
        state=Pause(reader.integer(1, len(Pause))),
        reason=reader.text(0, PAUSE_REASON_BYTES_MAX),
        from_round=reader.integer(0, ROUND_MAX),
        entry_seq=reader.integer(0, INT_MAX),
        entry_leaf=reader.blob(ID_BYTES, ID_BYTES),
    )
    if message.reason and not PAUSE_REASON.fullmatch(message.reason):
        raise Garbled("a pause's reason is not a code without spaces")
    return message
