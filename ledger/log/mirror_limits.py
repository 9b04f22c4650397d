"""How much a site keeps about the others' logs.

Responsible for: the limits, in one place, with units.
Must not know: who enforces them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WitnessLimits:
    """How much is kept, so that no site can fill another's disk."""

    logs_max: int = 1_024
    waiting_heads_per_log_max: int = 64
    leaves_per_call_max: int = 65_536
    leaves_per_log_max: int = 50_000_000
    entry_bytes_per_log_max: int = 8 * 1024**3
    free_bytes_min: int = 2 * 1024**3
    """Mirrors grow no further while the disk has less left: the own log needs it."""
    evidence_per_log_max: int = 16
    forks_per_log_max: int = 16
    own_heads_max: int = 4_096
