"""What a proposer may say of its study's course, and the newest word on record."""

from dataclasses import dataclass
from typing import Final

from gossip.pause_messages import Pause
from ledger.provenance import kinds
from p2pfl.core.names import Round

PAUSE_OF: Final = {
    kinds.StudyPaused: Pause.PAUSED,
    kinds.StudyResumed: Pause.RESUMED,
    kinds.StudyStopped: Pause.STOPPED,
}
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
