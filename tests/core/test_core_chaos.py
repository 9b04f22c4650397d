"""Plans of the chaos run in the deterministic world: whatever happens, every study ends soundly."""

from dataclasses import replace

import pytest
from core_worlds import PRIVATE, Story, check, started

from ledger.provenance import kinds
from simulations.chaos.plan import draw_plan
from simulations.chaos.virtual import KINDS, VirtualChaos
from simulations.scenario import ScenarioTerms
from simulations.world import NetworkTerms

SIX = ScenarioTerms(
    sites=6, rounds=20, consensus_rounds=2, sites_min=6, deadline_s=20.0, privacy=PRIVATE
)
TEN = replace(SIX, sites=10, sites_min=10, rounds=40)
BAD_LINES = NetworkTerms(loss=0.1, delay_max_s=0.3)
TRAIN_S = 2.0
END_S = 900.0
"""After the last fault; the longest wait for a neighbour is 20 s."""


def survives(seed: int, terms: ScenarioTerms, lasts_s: float) -> Story:
    story = started(seed, terms)
    for number, site in enumerate(story.sites):
        site.train_s = TRAIN_S * (1 + number / len(story.sites))
    planned = draw_plan(seed=seed, lasts_s=lasts_s, places=terms.sites, kinds=KINDS, warm_up_s=2.0)
    chaos = VirtualChaos(story.world, planned)
    assert story.runs_until(lambda: chaos.is_over, 3 * lasts_s), seed
    assert story.runs_until(story.is_complete, END_S), (seed, stuck(story))
    check(story)
    for site in story.sites:
        check_rounds(story, site.name)
    return story


def stuck(story: Story) -> dict[str, tuple[int, str]]:
    """Newest round of everybody who is not done, and what it says it waits for."""
    return {
        site.name: (max(story.past(site).averaged, default=-1), str(site.notices[-1]))
        for site in story.sites
        if not story.is_complete(site)
    }


def check_rounds(story: Story, name: str) -> None:
    """Each round once: averaged or skipped, trained at most once, released at most once."""
    (site,) = [site for site in story.sites if site.name == name]
    past = story.past(site)
    assert sorted(past.averaged.keys() | past.skipped) == list(
        range(story.manifest.study.rounds_total)
    )
    trained = [record.round for record in story.records(site, kinds.TrainDone)]
    released = [record.round for record in story.records(site, kinds.UpdatePublished)]
    assert len(set(trained)) == len(trained), (story.seed, name)
    assert len(set(released)) == len(released), (story.seed, name)
    assert len(story.records(site, kinds.StudyClosed)) == 1, (story.seed, name)


@pytest.mark.parametrize("seed", range(3))
def test_six_sites_survive_everything_at_once(seed: int) -> None:
    survives(seed, replace(SIX, rounds=12), 40.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200, 400))
def test_six_sites_survive_hundreds_of_plans(seed: int) -> None:
    survives(seed, SIX, 60.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 130))
def test_ten_sites_survive_three_minutes_of_everything(seed: int) -> None:
    survives(seed, TEN, 180.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(500, 550))
def test_bad_lines_make_no_difference(seed: int) -> None:
    survives(seed, replace(SIX, network=BAD_LINES), 90.0)


def test_a_plan_happens_the_same_way_again() -> None:
    few = replace(SIX, sites=4, sites_min=4, rounds=6)
    assert survives(7, few, 25.0).world.digest() == survives(7, few, 25.0).world.digest()


def test_every_update_on_disk_is_on_record() -> None:
    """Also one that came when its round was over: what no entry names would never be removed."""
    story = started(6, replace(SIX, rounds=8))
    for number, site in enumerate(story.sites):
        site.train_s = TRAIN_S * (1 + number / 6)
    planned = draw_plan(seed=6, lasts_s=40.0, places=6, kinds=("pause", "partition"), warm_up_s=2.0)
    VirtualChaos(story.world, planned)
    assert story.completes()
    check(story)
    for site in story.sites:
        named = {record.hash for record in story.records(site, kinds.UpdateReceived)}
        named |= {record.hash for record in story.records(site, kinds.UpdatePublished)}
        named |= {record.out_hash for record in story.records(site, kinds.AggDone)}
        assert set(site.blobs) - named <= {story.manifest.study.initial_model}, site.name
