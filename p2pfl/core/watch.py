"""What people see of a study: what it waits for, what happened, and what came of a round."""

from dataclasses import dataclass

from p2pfl.averaging.hiding import noise_share, noise_share_words, update_deviation
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import DatasetHistory, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import StudyId
from p2pfl.core.planned import rounds_planned


class Telling:
    """Tells people about one study; what it waits for is said once, not after every event."""

    def __init__(self, study: StudyId) -> None:
        self._study = study
        self._waits_for = ""

    def waits(self, code: str, sentence: str) -> list[fx.Effect]:
        """The study cannot go on. Nothing if that was the last thing said."""
        if self._waits_for == sentence:
            return []
        self._waits_for = sentence
        return [fx.Show(self._study, fx.Waiting(code, sentence))]

    def goes_on(self) -> None:
        """What was waited for is there; should it be missed again, it is told again."""
        self._waits_for = ""

    def happened(self, name: str, sentence: str, **fields: str) -> fx.Effect:
        """A decision or an incident."""
        return fx.Show(self._study, fx.Happened(name, sentence, tuple(sorted(fields.items()))))


def noise_deviation(manifest: Manifest, patients: int) -> float:
    """Deviation per parameter of the noise in an update of a site with so many patients.

    0 without privacy, and where the plan's arguments do not say how far a step goes."""
    privacy, arguments = manifest.privacy, manifest.plan.arguments
    rate, momentum = arguments.get("learning_rate"), arguments.get("momentum", 0.9)
    if privacy.is_by_update:
        return privacy.update_deviation
    if not privacy.is_private or isinstance(rate, str | None) or isinstance(momentum, str):
        return 0.0
    gradient = privacy.noise_multiplier * privacy.clip_norm / (privacy.sampling_rate * patients)
    return update_deviation(gradient, rate, momentum, privacy.steps_per_round)


@dataclass(slots=True)
class Stopwatch:
    """When the phases of one round ended, in the seconds of the events, and what was heard."""

    started_s: float = 0.0
    trained_s: float = 0.0
    published_s: float = 0.0
    gathered_s: float = 0.0
    averaged_s: float = 0.0
    closed_s: float = 0.0
    loss: float = 0.0
    heard: int = 0

    def lept(self, by_s: float) -> None:
        """The clock was set by so much: what has happened happened by the new clock."""
        self.started_s += by_s
        self.trained_s += by_s
        self.published_s += by_s
        self.gathered_s += by_s
        self.averaged_s += by_s

    def phases(self) -> fx.PhaseTimes:
        """The time between one phase's end and the next one's."""
        return fx.PhaseTimes(
            train=max(0.0, self.trained_s - self.started_s),
            record=max(0.0, self.published_s - self.trained_s),
            gather=max(0.0, self.gathered_s - self.published_s),
            average=max(0.0, self.averaged_s - self.gathered_s),
            close=max(0.0, self.closed_s - self.averaged_s),
        )


class RoundWatch:
    """Measures the round under way; remembers the one before it until its score is known."""

    def __init__(self, manifest: Manifest, past: StudyHistory, bucket: int) -> None:
        """bucket: this site's patients, rounded as others know them."""
        self._past = past
        self.now = Stopwatch()
        self._manifest = manifest
        self._bucket = bucket
        self._told = False
        self._last: Stopwatch | None = None

    def start(self, now_s: float) -> None:
        """A round starts; what it leaves out takes no time."""
        self.now = Stopwatch(now_s, now_s, now_s)

    def averaged(self, now_s: float, tell: Telling, event: ev.Averaged) -> list[fx.Effect]:
        """The round is averaged. In a private study, once, how much of what was seen is noise."""
        self.now.averaged_s = now_s
        deviation = noise_deviation(self._manifest, self._bucket)
        if not deviation or self._told or event.round >= self._manifest.study.rounds:
            return []
        self._told = True
        share = noise_share(deviation, self._manifest.study.parameters, event.median_distance)
        return [tell.happened("noise_share", noise_share_words(share), share=f"{share:.2f}")]

    def close(self, now_s: float) -> None:
        """The round's average is on record."""
        self.now.closed_s, self._last = now_s, self.now

    def line(
        self, study: StudyId, dataset: DatasetHistory, scored: ev.Scored, expected: int
    ) -> list[fx.Effect]:
        """The progress of the newest complete round. `expected` counts its neighbours."""
        if self._last is None:
            return []
        planned = rounds_planned(self._manifest, self._past)
        done = fx.RoundDone(
            round=scored.round,
            rounds=planned.total,
            phase="training" if scored.round < planned.trained else "consensus",
            loss=self._last.loss,
            auc=scored.auc,
            accuracy=scored.accuracy,
            heard=self._last.heard,
            expected=expected,
            eps_total_u=dataset.spent_u,
            cap_u=dataset.terms.cap_u,
            phases_s=self._last.phases(),
            measures=scored.measures,
        )
        return [fx.Show(study, done)]
