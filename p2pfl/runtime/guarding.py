"""The hold-out guard: a mixing step that the site's own hold-out does not bear is cut or refused.

Shares no numbers with anyone; what leaves is the step that was taken, in the own ledger. A study
with differential privacy cannot have it: nobody would pay for these looks at patients.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

STEPS: Final = (1.0, 0.5, 0.25)
"""Tried in this order; if the hold-out bears none of them, the own model stays as it is."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A mixed model against the one the round began from, on the same held-out patients.

    Not against the own update: that has just been fitted to this site's patients, and where sites
    differ much it beats every honest average on them.

    change: mean rise of the loss. band: two standard errors of it, patient by patient: what chance
    alone may do.
    """

    change: float
    band: float

    @property
    def is_borne(self) -> bool:
        """Whether the rise is within chance; a loss that is not a number never is."""
        return self.change <= self.band


async def step_borne(compare: Callable[[float], Awaitable[Compared]]) -> float:
    """The largest of STEPS that the hold-out bears, or 0. compare: the model after such a step."""
    for step in STEPS:
        if (await compare(step)).is_borne:
            return step
    return 0.0
