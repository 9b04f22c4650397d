"""Which of its averages a site stays with: the last one, or the best on its own hold-out.

Scores stay here and are lost in a restart: then the model on record is tried again, and what comes
later is compared with it. That a model is kept goes on record at once, so that a study can end on
it whatever happens."""

from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.watch import Telling

DISTANCES_KEPT = 4
"""Rounds whose score may still be on its way."""


def score_of(event: ev.Scored) -> float:
    """One number to compare rounds by: the AUC where there is one."""
    return event.accuracy if event.auc is None else event.auc


class Choosing:
    """One study's choice at this site."""

    def __init__(
        self, manifest: Manifest, past: StudyHistory, mandate: fx.Mandate, tell: Telling
    ) -> None:
        self._is_on = manifest.study.keep == "best"
        self._study = StudyId(manifest.study_id)
        self._past = past
        self._mandate = mandate
        self._tell = tell
        self._best: float | None = None
        """What the kept model scored; unknown after a restart, until it is tried again."""
        self._pending: set[Round] = set()
        """Rounds whose score was asked for."""
        self._challengers: list[tuple[Round, float]] = []
        """Scored before it was known what there is to beat."""
        self._again: Round | None = None
        """The kept model's round, while it is tried once more."""
        self._judged = Round(-1)
        self._writing: Round | None = None
        self._distances: dict[Round, float] = {}
        self._made: dict[Round, tuple[ModelHash, int]] = {}

    @property
    def chosen(self) -> kinds.ModelKept | None:
        """The model that this site stays with, where the study lets it choose."""
        return self._past.kept if self._is_on else None

    def waits(self, is_settled: bool) -> bool:
        """Whether the model that the study ends on is not on record yet.

        is_settled: the training process, which knows the hold-out, is open or will not be."""
        if not self._is_on:
            return False
        kept = self._past.kept
        is_written = self._writing is None or (kept is not None and kept.round >= self._writing)
        return not is_settled or not is_written or bool(self._pending)

    def is_again(self, event: ev.Scored) -> bool:
        """Whether a score is that of a model that was tried before: no news about its round."""
        return event.round == self._again

    def averaged(self, event: ev.Averaged) -> None:
        """How far the inputs of a round were apart."""
        self._distances[event.round] = event.distance
        for old in sorted(self._distances)[:-DISTANCES_KEPT]:
            del self._distances[old]

    def ask(self, round_: Round, model: ModelHash) -> fx.Effect:
        """Have the average of a round, which is on record, tried on the own hold-out."""
        done = self._past.newest_average
        if self._is_on and done is not None and done.round == round_:
            self._pending.add(round_)
            self._made[round_] = (model, len(done.inputs))
        return fx.Score(self._study, round_, model)

    def opened(self) -> list[fx.Effect]:
        """A training process is ready: try again what a restart, or its end, left unknown."""
        kept, done = self._past.kept, self._past.newest_average
        if not self._is_on:
            return []
        asked = list[fx.Effect]()
        if kept is not None and self._best is None:
            self._again = Round(kept.round)
            self._pending.add(self._again)
            asked.append(fx.Score(self._study, self._again, ModelHash(kept.hash)))
        judged = max(self._judged, -1 if kept is None else kept.round)
        if done is not None and done.round > judged and done.round not in self._pending:
            asked.append(self.ask(Round(done.round), ModelHash(done.out_hash)))
        return asked

    def scored(self, event: ev.Scored) -> list[fx.Effect]:
        """A model was tried. Keeps it if it is better than all before."""
        if not self._is_on:
            return []
        self._pending.discard(event.round)
        kept = self._past.kept
        if self.is_again(event):
            self._best, self._again = score_of(event), None
        elif event.round in self._made:
            self._challengers.append((event.round, score_of(event)))
        if kept is not None and self._best is None:
            return []  # the kept one is being tried again
        challengers, self._challengers = sorted(self._challengers), []
        return [effect for one in challengers for effect in self._compare(*one)]

    def not_scored(self, event: ev.NotScored) -> list[fx.Effect]:
        """A model could not be tried: it is not chosen, and nobody waits for it."""
        self._pending.discard(event.round)
        self._made.pop(event.round, None)
        return []

    def _compare(self, round_: Round, score: float) -> list[fx.Effect]:
        (model, inputs), best, self._judged = self._made.pop(round_), self._best, round_
        if best is not None and score <= best:
            return []
        self._best, self._writing = score, round_
        distance = self._distances.get(round_, drafts.DISTANCE_MAX)
        draft = drafts.kept_draft(self._study, round_, model, distance, inputs)
        sentence = f"round {round_ + 1} is the best on the own hold-out so far: its model is kept"
        told = self._tell.happened("model_kept", sentence, round=str(round_))
        return [self._mandate.append(draft), told]
