"""When an update leaves that code nobody of us wrote had a hand in: at the end of a fixed length.

How long training takes may depend on patients, and whoever waits for the update could read that.
So from the moment a round's training is asked for, its update is held back until the round has
lasted one of a few lengths: 1 s, 2 s, 4 s, …, and never less than in an earlier round. What remains
to be told by time is when the length grew, which can happen a few times in a whole study. One of
the lengths is most of what others wait for a site: it is not doubled past that without need.

Pure: whoever asks does the waiting.
"""

from __future__ import annotations

from typing import Final

from p2pfl.core.manifest import Manifest
from p2pfl.core.names import StudyId

SHORTEST_S: Final = 1.0
WAITED_FOR: Final = 0.75
"""Share of the study's round deadline that is one of the lengths."""


def is_paced(manifest: Manifest) -> bool:
    """Whether a study's updates leave at fixed times: privacy that holds against its own code."""
    foreign = manifest.foreign
    return foreign is not None and foreign.is_enforced and manifest.privacy.is_private


def length_s(took_s: float, deadline_s: float) -> float:
    """The shortest length of a round that took so long. deadline_s: how long others wait at most.

    >>> [length_s(took_s, 120.0) for took_s in (0.0, 1.0, 1.5, 70.0, 100.0)]
    [1.0, 1.0, 2.0, 90.0, 180.0]
    """
    length, waited_for_s = SHORTEST_S, WAITED_FOR * deadline_s
    while length < took_s:
        length = waited_for_s if length < waited_for_s < 2.0 * length else 2.0 * length
    return length


class ReleasePace:
    """The length of each study's rounds so far; begun anew when the node is."""

    def __init__(self) -> None:
        self._lengths: dict[StudyId, float] = {}

    def wait_s(self, manifest: Manifest, took_s: float) -> float:
        """How long an update has to wait that is ready so many seconds after it was asked for."""
        if not is_paced(manifest):
            return 0.0
        study = StudyId(manifest.study_id)
        needed = length_s(took_s, manifest.study.round_deadline_s)
        length = max(self._lengths.get(study, SHORTEST_S), needed)
        self._lengths[study] = length
        return length - took_s
