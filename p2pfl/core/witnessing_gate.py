"""Whether this site may release anything: not before a peer's word on its own log, after a start.

A home that was restored from an old backup looks whole from inside. Whoever went on from it would
sign a second history. So what records or releases is held back, in order, until another site
has said which head of the own log it knows; if that is larger, or another, it is dropped, and the
site is read-only from then on."""

from dataclasses import dataclass, field
from typing import Final

from p2pfl.core import effects as fx
from p2pfl.core.events import OwnLog

_HARMLESS = fx.Show | fx.CloseTraining | fx.HeadHeard | fx.Freeze
Held = fx.Append | fx.Offer | fx.Withdraw | fx.Train | fx.ReleaseModel

UNTOLD: Final = fx.Waiting(
    "own-log-unconfirmed",
    "waits for the other sites' word about the own log; if none can be reached: `p2pfl node start "
    "--offline-ok`",
)


def untold(words: int, needed: int) -> fx.Waiting:
    """What is waited for, while some have spoken already."""
    return fx.Waiting(
        "own-log-unconfirmed",
        f"{words} of {needed} sites have said which head of the own log they know; waits some "
        "seconds for more, then goes on with these",
    )


@dataclass(slots=True)
class Gate:
    """Lets effects through, holds them back or drops them."""

    state: OwnLog = OwnLog.CONFIRMED
    reason: str = ""
    """Why the site is read-only: one sentence, with the command that helps."""
    _held: list[Held] = field(default_factory=list)

    def confirm(self) -> list[fx.Effect]:
        """A peer knows nothing that this log does not hold: what was held back may go."""
        if self.state is not OwnLog.UNCONFIRMED:
            return []
        self.state = OwnLog.CONFIRMED
        held, self._held = self._held, []
        return list(held)

    def close(self, reason: str) -> None:
        """Nothing is recorded or released any more."""
        self.state, self.reason = OwnLog.READ_ONLY, reason
        self._held = []

    def passed(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        """The effects that may be performed now.

        Bounded: no study gets beyond its first training or entry while that is held back, and
        what peers cause is bounded where it is made."""
        match self.state:
            case OwnLog.CONFIRMED:
                return effects
            case OwnLog.UNCONFIRMED:
                self._held += [effect for effect in effects if isinstance(effect, Held)]
                return [effect for effect in effects if not isinstance(effect, Held)]
            case OwnLog.READ_ONLY:
                return [e for e in effects if isinstance(e, _HARMLESS)]
