"""What one round of local work ends with, whether a model was trained or patients were counted."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.learning.vector import Vector


@dataclass(frozen=True, slots=True)
class LocalWork:
    """What one round of local training ends with.

    vector: float32[d]; loss: mean over the own training patients after the work, in nats, or of
    images over the batches on the way (local only, computed from patients), 0 of a count; steps:
    gradient steps taken, 1 of a count; planned: how many there would have been, had the time
    for local work not been over before.
    """

    vector: Vector
    loss: float
    steps: int
    planned: int
