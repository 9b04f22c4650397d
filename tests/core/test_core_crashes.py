"""Power cuts: at every effect of a small study, and at two random ones of many others."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from core_worlds import (
    ENOUGH_S,
    PRIVATE,
    RESTART_S,
    SMALL,
    Story,
    approval,
    begin,
    check,
    crash_at,
    started,
)

from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from simulations.scenario import ScenarioTerms
from simulations.site import SimulatedSite
from simulations.world import NetworkTerms

FOUR = ScenarioTerms(
    sites=4, rounds=3, consensus_rounds=1, sites_min=3, deadline_s=2.0, privacy=PRIVATE
)


def over_the_wire(seed: int = 1) -> Story:
    """Only the proposer knows the study; people approve as soon as they are told of it."""
    story = begin(seed, SMALL)
    story.approve(story.sites[0])
    story.boot(*story.sites)
    return story


def approve_when_told(story: Story) -> None:
    """People approve what lies before them, also after their node has restarted."""
    for site in story.sites[1:]:
        if site.is_up and story.study in site.core.proposals:
            past = site.core.history.study(story.study)
            if past.approval is None and not story.past(site).approval:
                draft = approval(site, story.manifest, story.seed, PRIVATE)
                story.world.command(site, draft)


def ends_over_the_wire(story: Story) -> bool:
    def ended() -> bool:
        approve_when_told(story)
        return story.is_complete()

    return story.runs_until(ended, ENOUGH_S)


def boundaries(story: Story, ended: bool) -> range:
    assert ended
    return range(1, story.world.effects + 1)


PREPARED = boundaries(story := started(), story.completes())
WIRED = boundaries(wired := over_the_wire(), ends_over_the_wire(wired))


@pytest.mark.parametrize("count", PREPARED)
def test_a_crash_before_any_effect_changes_nothing_that_counts(count: int) -> None:
    story = started()
    crash_at(story, {count})
    assert story.completes()
    check(story)
    assert all(story.past(site).published.keys() == {0, 1, 2} for site in story.sites)


@pytest.mark.parametrize("count", WIRED[::3])
def test_a_crash_between_proposal_and_approval_loses_neither(count: int) -> None:
    story = over_the_wire()
    crash_at(story, {count})
    assert ends_over_the_wire(story)
    check(story)
    for site in story.sites[1:]:
        assert story.past(site).proposer == story.sites[0].id


@pytest.mark.parametrize("seed", range(40))
def test_two_crashes_at_random_effects_end_well(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    story = started(seed, FOUR)
    crash_at(story, {int(at) for at in random.integers(1, 350, size=2)})
    assert story.completes()
    check(story)


@pytest.mark.parametrize("seed", range(12))
def test_five_crashes_on_bad_lines_end_well(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    network = NetworkTerms(loss=0.15)
    story = started(seed, replace(FOUR, neighbours_min=3, network=network))
    restart_s = float(random.uniform(0.1, 8.0))
    crash_at(story, {int(at) for at in random.integers(1, 500, size=5)}, restart_s)
    assert story.runs_until(story.is_complete, 10 * ENOUGH_S)
    check(story)


def test_everybody_at_once() -> None:
    story = started(terms=FOUR)
    assert story.runs_until(lambda: 1 in story.past(story.sites[0]).averaged)
    for site in story.sites:
        story.world.crash(site)
        story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)


# -- single instants ---------------------------------------------------------------------------


def crash_before(story: Story, kind: type[fx.Effect]) -> SimulatedSite:
    """The last site loses power when it is about to perform its first effect of a kind."""
    victim = story.sites[-1]
    cut: list[int] = []

    def before(site: SimulatedSite, count: int) -> bool:
        if site is victim and not cut and isinstance(site.next_effect, kind):
            cut.append(count)
            story.world.restart(site, RESTART_S)
            return True
        return False

    story.world.before_effect = before
    return victim


def test_a_model_released_on_record_reaches_its_researcher_after_a_crash() -> None:
    story = started()
    victim = crash_before(story, fx.ReleaseModel)
    assert story.runs_until(lambda: story.past(victim).released is not None)
    assert story.study not in victim.released
    assert story.completes()
    check(story)
    released = story.records(victim, kinds.ModelReleased)
    assert len(released) == 1


def test_the_distance_on_record_survives_a_crash_before_the_release() -> None:
    plain = started()
    assert plain.completes()
    story = started()
    victim = story.sites[-1]
    total = story.manifest.study.rounds_total
    assert story.runs_until(lambda: total - 1 in story.past(victim).averaged)
    story.world.crash(victim)
    story.world.restart(victim, RESTART_S)
    assert story.completes()
    expected, actual = (s.records(s.sites[-1], kinds.ModelReleased)[0] for s in (plain, story))
    assert float(expected.distance) > 0
    assert actual == expected


def test_an_update_recorded_before_a_crash_is_announced_after_it() -> None:
    story = started()
    victim = story.sites[-1]
    assert story.runs_until(lambda: 0 in story.past(victim).published)
    model = story.past(victim).published[0].model
    story.world.crash(victim)
    story.world.restart(victim, RESTART_S)
    assert story.completes()
    check(story)
    others = [r for s in story.sites[:-1] for r in story.records(s, kinds.UpdateReceived)]
    assert model in {record.hash for record in others}


def test_an_update_whose_file_is_lost_costs_a_round_and_nothing_else() -> None:
    story = started(terms=FOUR)
    victim = story.sites[-1]
    assert story.runs_until(lambda: 1 in story.past(victim).published)
    story.world.crash(victim)
    del victim.disk.blobs[story.past(victim).published[1].model]
    story.boot(victim)
    assert story.completes()
    check(story)
    assert story.past(victim).skipped == {1}
    assert "update_lost" in story.happened(victim)


def test_an_average_whose_file_is_lost_is_replaced_by_an_earlier_one() -> None:
    story = started(terms=FOUR)
    victim = story.sites[-1]
    assert story.runs_until(lambda: 1 in story.past(victim).averaged)
    story.world.crash(victim)
    del victim.disk.blobs[story.past(victim).averaged[1]]
    story.boot(victim)
    assert story.completes()
    check(story)


def test_all_models_lost_means_fetching_the_initial_one_again() -> None:
    story = started(terms=FOUR)
    victim = story.sites[-1]
    assert story.runs_until(lambda: 1 in story.past(victim).averaged)
    story.world.crash(victim)
    victim.disk.blobs.clear()
    story.boot(victim)
    assert story.completes()
    check(story)


def test_who_finished_and_restarted_still_serves_those_who_did_not() -> None:
    story = started(terms=replace(FOUR, neighbours_min=3))
    *others, slow = story.sites
    assert story.runs_until(lambda: 2 in story.past(slow).published)
    story.world.crash(slow)
    story.wait(5.0)
    assert not story.is_complete(*others)
    story.boot(slow)
    # Whoever is done first loses power at once, and comes back without any memory.
    assert story.runs_until(lambda: any(story.is_complete(site) for site in others))
    for site in others:
        if story.is_complete(site):
            story.world.crash(site)
            story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)


def test_misbehaviour_is_not_put_on_record_again_by_every_restart() -> None:
    story = started()
    site, peer = story.sites[0], story.sites[1].id
    for _ in range(3):
        story.world.submit(site, ev.PeerRefused(peer, "BadSignature"), 0.0)
        story.wait(0.1)
        story.world.crash(site)
        story.boot(site)
    assert [r.count for r in story.records(site, kinds.PeerMisbehaved)] == [1]


def test_the_digest_of_a_crashing_world_repeats() -> None:
    def digest() -> str:
        story = started(3, FOUR)
        crash_at(story, {40, 90})
        assert story.completes()
        return hashlib.sha256(story.world.digest().encode()).hexdigest()

    assert digest() == digest()
