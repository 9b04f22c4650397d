"""What people see of a round: how long its phases took and what came of it."""

from dataclasses import dataclass

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import DatasetHistory
from p2pfl.core.manifest import Manifest


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

    def phases(self) -> fx.PhaseTimes:
        """The time between one phase's end and the next one's."""
        return fx.PhaseTimes(
            train=self.trained_s - self.started_s,
            record=self.published_s - self.trained_s,
            gather=self.gathered_s - self.published_s,
            average=self.averaged_s - self.gathered_s,
            close=self.closed_s - self.averaged_s,
        )


def round_line(
    manifest: Manifest,
    dataset: DatasetHistory,
    watch: Stopwatch,
    scored: ev.Scored,
    expected: int,
) -> fx.RoundDone:
    """One line of progress. `expected` counts the neighbours that take part."""
    return fx.RoundDone(
        round=scored.round,
        rounds=manifest.study.rounds_total,
        phase="training" if scored.round < manifest.study.rounds else "consensus",
        loss=watch.loss,
        auc=scored.auc,
        accuracy=scored.accuracy,
        heard=watch.heard,
        expected=expected,
        eps_total_u=dataset.spent_u,
        cap_u=dataset.terms.cap_u,
        phases_s=watch.phases(),
    )
