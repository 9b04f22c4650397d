"""Training that takes more than its site allows: told, tried once more, then over."""

from core_worlds import started

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.phases import Phase


def test_training_that_passes_a_limit_of_the_site_twice_ends_the_study_for_that_reason() -> None:
    story = started()
    site, study = story.sites[0], story.study
    run = site.core.runs
    passed = ev.TrainingFailed(study, "memory-limit", "training held 9.0 GiB of memory")
    assert story.runs_until(lambda: study in run)
    story.world.submit(site, passed, 0.0)
    # A round that succeeds in between would forgive a crash, but not this.
    assert story.runs_until(lambda: run[study].round == 1)
    effects = site.core.handle(story.world.now_s, passed)
    assert run[study].phase is Phase.LEAVING
    (said,) = (draft.body for e in effects if isinstance(e, fx.Append) for draft in e.drafts)
    assert said["reason"] == "memory-limit"
