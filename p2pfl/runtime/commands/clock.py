"""Does this machine's clock contradict what its own ledger says? And how a person settles it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.provenance import kinds
from ledger.provenance.moments import moment_of
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.errors import EXIT_CONFIG, EXIT_REFUSED, OperatorError

BEHIND_US_MAX: Final = 5 * 60 * 1_000_000
"""Time services step by seconds; more than this is a clock that somebody has to set."""


def check_clock(now_us: int, newest_us: int) -> None:
    """Refuse to go on before the newest entry of the own ledger. Both in µs UTC.

    Raises OperatorError. A clock that runs ahead cannot be told from the ledger alone.
    """
    if now_us + BEHIND_US_MAX >= newest_us:
        return
    raise OperatorError(
        f"This machine's clock says {moment_of(now_us)}, but the newest entry of its ledger was "
        f"written at {moment_of(newest_us)}.",
        fix="Set the clock (`timedatectl set-ntp true`). If it is right now and ran ahead when "
        "that entry was written, `p2pfl ledger accept-clock` puts this on record.",
        exit_code=EXIT_CONFIG,
    )


@dataclass(frozen=True, slots=True)
class ClockAccept:
    """State that the clock is right now, though the ledger holds a later entry."""

    confirmed: bool
    """Whether the person said so after having seen the times."""


@dataclass(frozen=True, slots=True)
class ClockAccepted:
    """The jump is on record; the ledger goes on from the present time."""

    seq: int
    seconds_back: int


def accept_clock(site: Site, request: ClockAccept) -> ClockAccepted:
    """Record clock.anomaly with the present time. Raises OperatorError if nothing is wrong."""
    newest_us = 0
    for entry in site.ledger.entries():
        newest_us = entry.time_us
    now_us = site.now_us()
    if now_us + BEHIND_US_MAX >= newest_us:
        raise OperatorError(
            f"The clock ({moment_of(now_us)}) does not contradict the ledger.",
            fix="There is nothing to accept.",
            exit_code=EXIT_REFUSED,
        )
    if not request.confirmed:
        raise OperatorError(
            f"The ledger would go back from {moment_of(newest_us)} to {moment_of(now_us)}.",
            fix="If this machine's clock is right now, say so with --yes; else set it.",
            exit_code=EXIT_REFUSED,
        )
    recorded = site.record(kinds.ClockAnomaly(now_us - newest_us).draft("operator"))
    return ClockAccepted(recorded[-1].seq, (newest_us - now_us) // 1_000_000)
