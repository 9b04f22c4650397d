"""Which part of a running study each event about it belongs to."""

from typing import assert_never

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.rounds import StudyRun


def lept(run: StudyRun, by_s: float) -> None:
    """The clock was set by hours: what the study measures and waits for goes on as before."""
    run.waits.lept(by_s)
    run.watch.now.lept(by_s)


def react(run: StudyRun, now_s: float, event: ev.StudyEvent) -> list[fx.Effect]:
    """What a study does about the end of something it had asked for."""
    match event:
        case ev.Obtained(round=round_, sender=sender):
            return run.hearing.obtained(now_s, round_, sender)
        case ev.TrainingOpened():
            return run.opened(event)
        case ev.Trained():
            return run.trained(now_s, event)
        case ev.TrainingFailed():
            return run.training_failed(now_s, event)
        case ev.ObtainFailed():
            return run.obtain_failed(now_s, event)
        case ev.ModelReady(model=model):
            return run.model_ready(model)
        case ev.Averaged():
            return run.averaged(now_s, event)
        case ev.AveragingFailed():
            return run.averaging_failed(event)
        case ev.Scored():
            return run.scored(event)
        case ev.NotScored():
            return run.choosing.not_scored(event)
        case ev.ModelReleased():
            return run.model_released()
        case _:
            assert_never(event)
