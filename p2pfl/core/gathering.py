"""What a study hears from its neighbours, and when it has heard enough.

Knows nothing of training, the ledger or time: a deadline is something it is told of."""

from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core import effects as fx
from p2pfl.core.inbox import Heard, Holding, Inbox
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round, StudyId
from p2pfl.core.participants import Neighbourhood, neighbourhood
from p2pfl.core.refusals import NotANeighbour, WrongSize

BEHIND_ROUNDS = 2
"""A neighbour this far ahead has gone on without us: catching up is the only way back."""


def blob_size_bytes(parameters: int) -> int:
    """Size of the safetensors file of a model vector with that many float32 values.

    >>> blob_size_bytes(17)
    140
    """
    shape = f'[{parameters}],"data_offsets":[0,{4 * parameters}]'
    header = f'{{"vector":{{"dtype":"F32","shape":{shape}}}}}'
    padded = -(-len(header) // 8) * 8
    return 8 + padded + 4 * parameters


class Gathering:
    """The neighbours of one study and the updates heard from them."""

    def __init__(self, me: SiteId, manifest: Manifest, bucket: int) -> None:
        self.me = me
        self.buckets: dict[SiteId, int] = {me: bucket}
        self.connected: frozenset[SiteId] = frozenset()
        self.is_overdue = False
        self._manifest = manifest
        self._study = StudyId(manifest.study_id)
        self._inbox = Inbox(manifest.study.rounds_total)
        self._missed: set[SiteId] = set()
        self._hood = neighbourhood(manifest, me, self.buckets)

    @property
    def hood(self) -> Neighbourhood:
        """Neighbours and shares among the sites that approve at present."""
        return self._hood

    @property
    def enough(self) -> int:
        """Neighbours that have to be heard for a round to count."""
        return min(self._manifest.study.neighbours_min, len(self._manifest.study.sites) - 1)

    def sites_changed(self, buckets: dict[SiteId, int]) -> None:
        """Another site approved, revoked or left; `buckets` holds the others that approve."""
        for gone in set(self.buckets) - set(buckets) - {self.me}:
            self._inbox.forget(gone)
        self.buckets = {**buckets, self.me: self.buckets[self.me]}
        self._hood = neighbourhood(self._manifest, self.me, self.buckets)

    # -- announcements ---------------------------------------------------------------------------

    def announce(self, current: Round, message: UpdateAnnounced, heard: Heard) -> list[fx.Effect]:
        """Take an announcement in, and ask for its payload if it is near enough.

        Raises an UpdateRefused."""
        if heard.sender not in self._hood.neighbours:
            raise NotANeighbour("the sender is not averaged with here")
        expected = blob_size_bytes(self._manifest.study.parameters)
        if heard.size_bytes != expected:
            raise WrongSize(f"{heard.size_bytes} bytes, expected {expected}")
        self._inbox.announce(current, message, heard)
        self._missed.discard(heard.sender)
        near = heard.round in (current, current + 1) or bool(self.ahead(current))
        return [self._obtain(heard)] if near else []

    def enter(self, current: Round) -> list[fx.Effect]:
        """A round began: forget older ones, ask for what was announced for it before."""
        self.is_overdue = False
        self._inbox.enter(current)
        held = self._inbox.at(current).values()
        return [self._obtain(h) for h in held if h.holding is Holding.ANNOUNCED]

    def obtained(self, round_: Round, sender: SiteId) -> None:
        """A neighbour's update is stored and sound."""
        self._inbox.mark(round_, sender, Holding.READY)

    def failed(self, round_: Round, sender: SiteId) -> None:
        """A neighbour's update could not be fetched; it can be tried again."""
        self._inbox.mark(round_, sender, Holding.FAILED)

    def rejected(self, round_: Round, sender: SiteId) -> Heard | None:
        """A neighbour's update is not what was announced. None if it is of no interest now."""
        return self._inbox.mark(round_, sender, Holding.REJECTED)

    def obtain_again(self, current: Round) -> list[fx.Effect]:
        """Ask once more for what failed, at neighbours that can be reached."""
        held = [*self._inbox.at(current).values(), *self._inbox.newest().values()]
        failed = {h.sender: h for h in held if h.holding is Holding.FAILED}
        return [self._obtain(h) for s, h in sorted(failed.items()) if s in self.connected]

    def _obtain(self, heard: Heard) -> fx.Effect:
        self._inbox.mark(heard.round, heard.sender, Holding.OBTAINING)
        return fx.Obtain(
            self._study,
            heard.round,
            heard.sender,
            heard.model,
            heard.size_bytes,
            self._manifest.study.parameters,
            heard.inline,
        )

    # -- enough? ---------------------------------------------------------------------------------

    def ready(self, round_: Round) -> dict[SiteId, Heard]:
        """Sound updates of present neighbours for a round."""
        held = self._inbox.at(round_)
        return {
            s: h
            for s, h in held.items()
            if h.holding is Holding.READY and s in self._hood.neighbours
        }

    def is_settled(self, round_: Round) -> bool:
        """Whether nothing more is worth waiting for.

        A neighbour that is unreachable *and* missed the last deadline is not waited for."""
        held = self._inbox.at(round_)
        settled = {s for s, h in held.items() if h.holding in (Holding.READY, Holding.REJECTED)}
        expected = {
            s for s in self._hood.neighbours if s in self.connected or s not in self._missed
        }
        return self.is_overdue or (expected <= settled and bool(settled))

    def deadline(self, round_: Round) -> None:
        """The round's time is up."""
        self.is_overdue = True
        self._missed |= set(self._hood.neighbours) - set(self.ready(round_))

    # -- left behind -----------------------------------------------------------------------------

    def ahead(self, current: Round) -> tuple[Heard, ...]:
        """Newest updates of neighbours that went on without us, if they are enough of them."""
        newest = self._inbox.newest().values()
        ahead = tuple(
            h
            for h in newest
            if h.round >= current + BEHIND_ROUNDS
            and h.sender in self._hood.neighbours
            and h.holding is not Holding.REJECTED
        )
        return ahead if len(ahead) >= self.enough else ()

    def obtain_ahead(self, current: Round) -> list[fx.Effect]:
        """Ask for the payloads that catching up needs."""
        return [self._obtain(h) for h in self.ahead(current) if h.holding is Holding.ANNOUNCED]

    def catch_up(self, current: Round) -> tuple[Heard, ...]:
        """The inputs of a catch-up once all of them are here, else nothing."""
        ahead = self.ahead(current)
        ready = tuple(h for h in ahead if h.holding is Holding.READY)
        is_complete = len(ready) == len(ahead) or (self.is_overdue and len(ready) >= self.enough)
        return ready if ahead and is_complete else ()


def target_round(inputs: tuple[Heard, ...]) -> Round:
    """The round a site that catches up arrives at: the oldest of its inputs.

    Every input is at least that new, so the site is never ahead of what it averaged."""
    return min(heard.round for heard in inputs)


def update_key(study: StudyId) -> str:
    """The key under which the newest own update of a study is offered."""
    return f"update/{study.hex()}"
