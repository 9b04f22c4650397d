"""Local work that a study boxes in time: how many steps sites say they made, and what people hear.

Knows no clock: the training process ends its steps, and says how many there were. The weights of
an average do not look at them, else who is slow would count less than its patients do."""

from collections.abc import Callable

from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round
from p2pfl.core.refusals import WrongSteps
from p2pfl.core.watch import Telling


class Boxed:
    """One study's local work at this site and at its neighbours."""

    def __init__(self, manifest: Manifest, tell: Telling) -> None:
        self._limit_s = manifest.study.work_limit_s
        self._tell = tell
        self._planned: tuple[Round, int] = (Round(0), 0)
        self._said: dict[SiteId, tuple[int, int]] = {}
        """Of each neighbour the newest round that it announced, and its steps."""

    def check(self, sender: SiteId, message: UpdateAnnounced) -> None:
        """Whether an announcement says of its steps what the study asks for. Raises WrongSteps."""
        is_asked = self._limit_s > 0.0 and message.train_seq >= 0
        if is_asked != (message.steps > 0):
            expected = "how many steps were made" if is_asked else "nothing of steps"
            raise WrongSteps(f"round {message.round}", expected=expected, actual=message.steps)
        if is_asked and message.round >= self._said.get(sender, (0, 0))[0]:
            self._said[sender] = (message.round, message.steps)

    def trained(self, event: ev.Trained) -> list[fx.Effect]:
        """The own work of a round is done."""
        made, self._planned = event.spending.steps, (event.round, event.planned)
        if not self._limit_s or made >= event.planned:
            return []
        sentence = (
            f"round {event.round + 1}: the time for local work ({self._limit_s:g} s) was over "
            f"after {made} of {event.planned} steps"
        )
        fields = {"round": str(event.round), "steps": str(made), "planned": str(event.planned)}
        return [self._tell.happened("work_boxed", sentence, **fields)]

    def averaged(
        self, round_: Round, used: tuple[Heard, ...], name_of: Callable[[SiteId], str]
    ) -> list[fx.Effect]:
        """Tell which of the neighbours that were averaged made fewer steps than were planned."""
        at, planned = self._planned
        if not planned or at != round_:
            return []
        said = {h.sender: self._said.get(h.sender, (-1, 0)) for h in used if h.round == round_}
        fewer = {s: made for s, (of, made) in said.items() if of == round_ and made < planned}
        if not fewer:
            return []
        named = ", ".join(sorted(f"{name_of(site)} {made}" for site, made in fewer.items()))
        sentence = f"round {round_ + 1}: fewer than {planned} steps were made by {named}"
        return [self._tell.happened("partial_work", sentence, round=str(round_))]
