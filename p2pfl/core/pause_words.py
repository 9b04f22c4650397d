"""What a proposer may say of its study's course, and the newest word on record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gossip.pause_messages import Pause
from ledger.provenance import kinds
from p2pfl.core.names import Round

KIND_OF: Final[Mapping[Pause, type[kinds.CourseWord]]] = {
    Pause.PAUSED: kinds.StudyPaused,
    Pause.RESUMED: kinds.StudyResumed,
    Pause.STOPPED: kinds.StudyStopped,
}
PAUSE_OF: Final = {kind: state for state, kind in KIND_OF.items()}
PAUSING: Final = frozenset(kind.KIND for kind in PAUSE_OF)
"""Kinds by which a proposer pauses its study, lets it go on or ends it."""


@dataclass(frozen=True, slots=True)
class PauseWord:
    """What the proposer said last of a pause or the end, as it stands on record here.

    seq: its entry in the proposer's log. leaf: the own entry's, made at since_us."""

    state: Pause
    round: Round
    reason: str
    seq: int
    leaf: bytes
    since_us: int
