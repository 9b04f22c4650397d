"""A site leaves while its update is averaged elsewhere: what came of it is used nowhere."""

from dataclasses import replace

import pytest
from core_worlds import SMALL, started

from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core.names import StudyId
from p2pfl.core.node import NodeCore
from p2pfl.core.phases import Phase


@pytest.mark.parametrize("is_away", [False, True])
def test_what_was_averaged_of_a_site_that_left_meanwhile_is_not_used(is_away: bool) -> None:
    story = started(terms=replace(SMALL, sites=4, rounds=8))
    site, study = story.sites[0], story.study
    runs = site.core.runs
    if is_away:
        assert story.runs_until(lambda: study in runs and runs[study].round == 1)
        story.world.crash(site)
        assert story.runs_until(lambda: 5 in story.past(story.sites[1]).averaged)
        story.boot(site)
    assert story.runs_until(lambda: _averages(site.core, study, catches_up=is_away))
    run = site.core.runs[study]
    assert run._mixing is not None
    round_, left = run._mixing.effect.round, run._mixing.used[0].sender
    others = {s: b for s, b in run.gathering.buckets.items() if s not in (left, site.core.me)}
    for effect in run.sites_changed(others, frozenset()):
        assert not isinstance(effect, fx.Append)
    story.wait(60.0)
    assert story.past(site).averaged[round_]
    done = [made for made in story.records(site, kinds.AggDone) if made.round == round_]
    assert [left in [used.site for used in made.inputs] for made in done] == [False]
    assert not [
        heard
        for heard in story.records(site, kinds.UpdateReceived)
        if heard.sender == left and heard.round >= round_ and heard.verdict == "accepted"
    ]


def _averages(core: NodeCore, study: StudyId, *, catches_up: bool) -> bool:
    run = core.runs.get(study)
    if run is None or run.phase is not Phase.AVERAGING or run._mixing is None:
        return False
    return bool(run._mixing.skipped) == catches_up
