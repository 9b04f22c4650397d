"""What a study averages next: a round's updates, or what neighbours made while this site was away.

Decides from what was gathered; what is averaged goes on record elsewhere (`mixing`)."""

from gossip.identifiers import SiteId
from p2pfl.core import effects as fx
from p2pfl.core.base_model import BaseModel
from p2pfl.core.gathering import Gathering, target_round
from p2pfl.core.manifest import Manifest
from p2pfl.core.mixing import Mixing, catch_up_mixing, round_mixing
from p2pfl.core.names import ModelHash, Round
from p2pfl.core.phases import Phase
from p2pfl.core.waits import Waits
from p2pfl.core.watch import Telling


class Mixer:
    """One study's next averaging, or what it waits for."""

    def __init__(
        self, me: SiteId, manifest: Manifest, gathering: Gathering, waits: Waits, tell: Telling
    ) -> None:
        self._me = me
        self._manifest = manifest
        self._gathering = gathering
        self._waits = waits
        self._tell = tell

    def of_round(self, round_: Round, base: ModelHash, own: ModelHash) -> Mixing | list[fx.Effect]:
        """A round whose neighbours were heard. base: what it began from; own: its own update."""
        ready = self._gathering.ready(round_)
        if len(ready) < self._gathering.enough:
            return self._waits.too_few(round_, len(ready))
        hood = self._gathering.hood
        return round_mixing(self._manifest, hood, self._me, round_, base, own, ready)

    def of_catch_up(
        self, now_s: float, round_: Round, base: BaseModel, phase: Phase
    ) -> Mixing | list[fx.Effect]:
        """The robust average of neighbours that went on without this site. round_: its own one."""
        inputs = self._gathering.catch_up(round_)
        if not inputs or not base.is_here:
            sentence = "fell behind: waits for the models of neighbours that went on"
            waiting = self._tell.waits("catch-up", sentence)
            has_timer = phase is Phase.GATHERING or not waiting
            return waiting if has_timer else [*waiting, self._waits.once_more(round_, now_s)]
        target = target_round(inputs)
        hood = self._gathering.hood
        return catch_up_mixing(self._manifest, hood, round_, target, base.hash, inputs)
