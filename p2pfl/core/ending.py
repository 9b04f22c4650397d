"""How a study ends at one site: the final model goes on record, then to people, then it is closed.

Or the site leaves before: its training process is killed, and its updates are offered no more.

Each step is durable before the next one starts: a crash at any instant repeats at most the step
that was under way, and a model that was released on record is never forgotten."""

from enum import Enum

from ledger.provenance import kinds
from p2pfl.core import announcing, drafts
from p2pfl.core import effects as fx
from p2pfl.core.choosing import Choosing
from p2pfl.core.history import COMPLETE, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.mixing import repeated
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.planned import Planned, rounds_planned
from p2pfl.core.watch import Telling

LEFT = "study_left"
AWAY = "study_away"
"""How people are told that this site takes part no more, or not until they say so."""


class Step(Enum):
    """What is asked for, each once."""

    MEASURE = "measure"
    RECORD = "record"
    RELEASE = "release"
    CLOSE = "close"


class Ending:
    """The last steps of one study."""

    def __init__(
        self,
        manifest: Manifest,
        past: StudyHistory,
        mandate: fx.Mandate,
        tell: Telling,
        choosing: Choosing,
    ) -> None:
        self._manifest = manifest
        self._past = past
        self._study = StudyId(manifest.study_id)
        self._mandate = mandate
        self._tell = tell
        self._choosing = choosing
        self._distance: float | None = None
        self._asked: set[Step] = set()

    def measured(self, distance: float) -> None:
        """How far the neighbours' models were from the own one in the newest averaging."""
        self._distance = distance

    def advance(self, model: ModelHash, is_settled: bool) -> list[fx.Effect]:
        """The next step. is_settled: the training process, which names the tensors, is open or
        will not be."""
        if self._past.released is None:
            if self._choosing.waits(is_settled):
                return self._tell.waits("score", "waits for the last model's score on the hold-out")
            return self._record(model)
        if not is_settled:
            return self._tell.waits("training", "waits for its training process to name the model")
        return self._once(Step.RELEASE, fx.ReleaseModel(self._study, self._past.released))

    def released(self) -> list[fx.Effect]:
        """The model lies where people find it: close the study."""
        draft = drafts.closed_draft(self._study, COMPLETE, self.planned.total)
        return self._once(Step.CLOSE, self._mandate.append(draft))

    def farewell(self) -> list[fx.Effect]:
        """The close is on record."""
        distance = drafts.DISTANCE_MAX if self._distance is None else self._distance
        so_far = f" after {self.planned.total} rounds, stopped early by its proposer"
        done = f"complete{so_far if self._past.is_stopped else ''}"
        sentence = f"study {self._manifest.study.name} is {done}, its model released"
        kept = self._choosing.chosen
        if kept is not None:
            sentence += f": that of round {kept.round + 1}, the best on the own hold-out"
        if distance < drafts.DISTANCE_MAX:
            sentence += f" (distance {distance:.1e})"
        fields = {"distance": drafts.decimal(distance), "study": self._study.hex()}
        return [
            fx.CloseTraining(self._study, now=False),
            self._tell.happened("study_complete", sentence, **fields),
        ]

    def leave(self, round_: Round, reason: str, sentence: str) -> list[fx.Effect]:
        """This node ends it before its end, and closes it on record. round_: the one it is in."""
        return [
            fx.CloseTraining(self._study, now=True),
            self._tell.happened(LEFT, sentence, reason=reason),
            self._mandate.append(drafts.closed_draft(self._study, reason, round_)),
        ]

    def stop(self, reason: str, told_as: str) -> list[fx.Effect]:
        """Somebody's decision ends it at once: nothing more is released."""
        shown = self._tell.happened(told_as, f"left the study: {reason}", reason=reason)
        return [*self.gone(was_leaving=False), shown]

    def gone(self, *, was_leaving: bool) -> list[fx.Effect]:
        """Its early end is on record, by this node (then `was_leaving`) or by a command."""
        kill = [] if was_leaving else [fx.CloseTraining(self._study, now=True)]
        return [*kill, *announcing.withdrawals(self._study)]

    @property
    def planned(self) -> Planned:
        """How many rounds the study has, as things stand here."""
        return rounds_planned(self._manifest, self._past)

    def _record(self, model: ModelHash) -> list[fx.Effect]:
        kept = self._choosing.chosen
        if kept is not None:  # released as it was kept; the last round's distance is another thing
            released = kinds.ModelReleased(
                kept.study, kept.round, kept.hash, kept.distance, kept.inputs
            )
            return self._once(Step.RECORD, self._mandate.append(released.draft(drafts.NODE_ACTOR)))
        done = self._past.newest_average
        is_known = done is not None and done.out_hash == model
        if self._distance is None and is_known and done is not None:
            # A restart forgot the distance: the averaging on record gives it again.
            return self._once(Step.MEASURE, repeated(done, self._manifest.study.parameters))
        distance = drafts.DISTANCE_MAX if self._distance is None else self._distance
        last = Round(self.planned.total - 1)
        inputs = 0 if done is None else len(done.inputs)
        draft = drafts.released_draft(self._study, last, model, distance, inputs)
        return self._once(Step.RECORD, self._mandate.append(draft))

    def _once(self, step: Step, effect: fx.Effect) -> list[fx.Effect]:
        if step in self._asked:
            return []
        self._asked.add(step)
        return [effect]
