"""When a site stops training because its own hold-out gains nothing any more.

A local decision: the site goes on publishing and mixing what it averages, so that nobody waits for
it, and the study ends for all in the same round. The scores stay here; that it stopped is a fold
over the ledger, as everybody sees it there. A restart counts rounds without a gain anew."""

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.choosing import score_of
from p2pfl.core.drafts import NOT_PUBLISHED
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.watch import Telling


class Stopping:
    """One study's patience at this site."""

    def __init__(self, manifest: Manifest, past: StudyHistory, tell: Telling) -> None:
        self._terms = manifest.study
        self._past = past
        self._tell = tell
        self._best = float("-inf")
        self._rounds_since = 0

    @property
    def has_stopped(self) -> bool:
        """Whether this site trains no more in this study, by its own decision."""
        patience = self._terms.patience
        if not patience:
            return False
        untrained = any(
            own.train_seq == NOT_PUBLISHED and round_ < self._terms.rounds
            for round_, own in self._past.published.items()
        )
        return untrained or self._rounds_since >= patience

    def scored(self, event: ev.Scored) -> list[fx.Effect]:
        """The averaged model of a round was tried on the own hold-out."""
        was_over, score = self.has_stopped, score_of(event)
        is_better = score > self._best
        self._best = max(self._best, score)
        self._rounds_since = 0 if is_better else self._rounds_since + 1
        if was_over or not self.has_stopped:
            return []
        sentence = (
            f"after round {event.round + 1} the own hold-out has gained nothing for "
            f"{self._rounds_since} round(s): this site trains no more and goes on mixing"
        )
        return [self._tell.happened("training_stopped", sentence, round=str(event.round))]
