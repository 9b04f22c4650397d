"""Best-model selection: each site by its own hold-out, on record, whatever restarts do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from core_worlds import FOUR, RESTART_S, Story, check, crash_at, started
from ops_manifests import STUDY, rendered

from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.choosing import Choosing
from p2pfl.core.errors import Inconsistent
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import NO_PRIVACY, parse_manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.watch import Telling
from simulations.site import Outgoing, SimulatedSite

TERMS = replace(FOUR, rounds=8, consensus_rounds=2, deadline_s=60.0, privacy=None, keep="best")
KEPT, NEW = ModelHash(b"k" * 32), ModelHash(b"n" * 32)
LAST = TERMS.rounds + TERMS.consensus_rounds - 1


def scoring(*scores: Callable[[int], float], seed: int = 1) -> Story:
    """Each site's score of each round; the last one given is everybody else's, too."""
    story = started(seed, TERMS)
    for site in story.sites:
        site.score_of = scores[-1]
    for site, score in zip(story.sites, scores, strict=False):
        site.score_of = score
    return story


def peak(at: int) -> Callable[[int], float]:
    return lambda round_: -abs(round_ - at)


def released(story: Story, site: SimulatedSite) -> kinds.ModelReleased:
    (record,) = story.records(site, kinds.ModelReleased)
    return record


def test_each_site_releases_the_average_that_was_best_on_its_own_hold_out() -> None:
    story = scoring(peak(3), peak(LAST), peak(0))
    assert story.completes()
    check(story)
    for site, best in zip(story.sites, (3, LAST, 0, 0), strict=True):
        record = released(story, site)
        assert (record.round, record.hash) == (best, story.past(site).averaged[Round(best)])
        assert [kept.round for kept in story.records(site, kinds.ModelKept)] == [*range(best + 1)]
        assert float(record.distance) < 1e9
        assert site.released[story.study] == record.hash


def test_equal_scores_keep_the_earlier_model() -> None:
    story = scoring(lambda _: 0.5)
    assert story.completes()
    assert {released(story, site).round for site in story.sites} == {0}


def test_without_the_option_the_last_model_is_released_and_nothing_is_said_of_a_choice() -> None:
    story = started(terms=replace(TERMS, keep="last"))
    story.sites[0].score_of = peak(2)
    assert story.completes()
    assert released(story, story.sites[0]).round == LAST
    assert not story.records(story.sites[0], kinds.ModelKept)


@pytest.mark.parametrize("at", [2, 5, LAST])
def test_a_restart_tries_the_kept_model_again_and_goes_on_from_there(at: int) -> None:
    story = scoring(peak(3))
    site = story.sites[0]
    assert story.runs_until(lambda: at in story.past(site).averaged)
    story.world.crash(site)
    story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)
    assert released(story, site).round == 3


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_at_any_effect_still_ends_with_a_kept_model(seed: int) -> None:
    story = scoring(peak(LAST - 1), seed=seed)
    crash_at(story, set(range(5 + seed, 400, 37)))
    assert story.completes()
    check(story)
    for site in story.sites:
        kept = story.records(site, kinds.ModelKept)[-1]
        assert (released(story, site).round, released(story, site).hash) == (kept.round, kept.hash)


class Blind(SimulatedSite):
    """Its training process never says what a model scored."""

    def perform_job(self, effect: fx.Effect) -> list[Outgoing]:
        if isinstance(effect, fx.Score):
            return [Outgoing(ev.NotScored(effect.study, effect.round), 0.0)]
        return super().perform_job(effect)


def test_a_site_that_cannot_score_ends_with_its_last_model() -> None:
    story = started(terms=TERMS)
    story.sites[0].__class__ = Blind
    assert story.completes()
    check(story)
    assert released(story, story.sites[0]).round == LAST
    assert released(story, story.sites[1]).round == 0


def test_who_cannot_score_after_a_restart_stays_with_what_was_kept() -> None:
    story = scoring(float)
    site = story.sites[0]
    assert story.runs_until(lambda: (kept := story.past(site).kept) is not None and kept.round == 4)
    story.world.crash(site)
    site.__class__ = Blind
    story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)
    assert released(story, site).round == 4


def test_a_score_that_overtakes_that_of_the_kept_model_waits_for_it() -> None:
    study = StudyId(started(terms=TERMS).manifest.study_id)
    past = StudyHistory(kept=kinds.ModelKept(study, 2, KEPT, "0.1", 0))
    own, nothing = kinds.InputRef(7, KEPT), bytes(32)
    past.newest_average = kinds.AggDone(study, 5, own, (), "mean", {}, (), nothing, NEW)
    tell = Telling(study)
    choosing = Choosing(started(terms=TERMS).manifest, past, fx.Mandate(study, 1), tell)
    assert len(choosing.opened()) == 2
    assert choosing.opened() == choosing.opened()[:1], "what is on its way is not asked again"
    assert choosing.scored(ev.Scored(study, Round(5), 0.9, 0.0)) == []
    assert choosing.waits(True)
    (append, _told) = choosing.scored(ev.Scored(study, Round(2), 0.5, 0.0))
    assert isinstance(append, fx.Append)
    assert append.drafts[0].body["round"] == 5
    assert choosing.waits(True), "until it is on record"
    past.kept = kinds.ModelKept(study, 5, NEW, "0", 0)
    assert not choosing.waits(True)


def test_the_end_is_waited_for_until_the_last_score_is_in() -> None:
    story = scoring(float)
    assert story.completes()
    assert {released(story, site).round for site in story.sites} == {LAST}


# -- the manifest ------------------------------------------------------------------------------


def test_a_private_study_cannot_choose_by_patients() -> None:
    best = replace(STUDY, keep="best")
    with pytest.raises(Inconsistent, match="no ε pays"):
        parse_manifest(rendered(study=best))
    raw = rendered(study=best, privacy=NO_PRIVACY)
    assert parse_manifest(raw).study.keep == "best"
    assert b"keep" not in rendered(study=STUDY)
    with pytest.raises(Inconsistent, match="counts once"):
        parse_manifest(raw.replace(b'"tabular-logistic"', b'"statistics"'))
    assert StudyId(parse_manifest(raw).study_id)
