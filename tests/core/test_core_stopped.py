"""The proposer ends a study early: nothing more is trained, everybody releases what was reached."""

from dataclasses import replace

import pytest
from core_attackers import Attacker, digest
from core_worlds import RESTART_S, SMALL, Story, begin, check, started

from gossip.messages import StudyPaused
from gossip.pause_messages import Pause
from ledger.provenance import kinds
from p2pfl.core import pausing
from p2pfl.core.pausing import word_draft
from p2pfl.core.planned import rounds_planned
from p2pfl.core.proposers import check_sender
from p2pfl.core.refusals import NotTheProposer
from simulations.site import SimulatedSite
from simulations.world import NetworkTerms

TERMS = replace(SMALL, sites=4, rounds=40, consensus_rounds=2, sites_min=4, deadline_s=3.0)
SOON_S = 30.0
"""Far less than what forty rounds take."""


def running(seed: int = 1, loss: float = 0.0) -> Story:
    """A study whose first two rounds are done everywhere."""
    story = started(seed, replace(TERMS, network=NetworkTerms(loss=loss)))
    assert story.runs_until(lambda: all(1 in story.past(s).averaged for s in story.sites))
    return story


def next_round(story: Story) -> int:
    return max(story.past(story.sites[0]).averaged) + 2


def stop(story: Story, from_round: int) -> None:
    story.world.command(
        story.sites[0], word_draft(Pause.STOPPED, story.study, from_round, "converged")
    )


def closings(story: Story, *sites: SimulatedSite) -> list[tuple[str, int]]:
    found = [story.records(site, kinds.StudyClosed) for site in sites or story.sites]
    return [(one.reason, one.rounds) for records in found for one in records]


def last_trained(story: Story) -> list[int]:
    return [max(story.past(site).trained) for site in story.sites]


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (1, 0.3), (2, 0.3)])
def test_all_sites_end_in_the_same_round_with_a_released_model(seed: int, loss: float) -> None:
    story = running(seed, loss)
    first = next_round(story) + 3
    stop(story, first)
    assert story.completes()
    check(story)
    assert last_trained(story) == [first - 1] * 4
    assert closings(story) == [("complete", first + 2)] * 4
    for site in story.sites:
        [released] = story.records(site, kinds.ModelReleased)
        assert released.round == first + 1
        [stopped] = story.records(site, kinds.StudyStopped)
        assert (stopped.round, stopped.reason) == (first, "converged")
        assert loss or story.past(site).skipped == set()


def test_a_proposer_that_takes_no_part_ends_it_after_the_round_under_way() -> None:
    story = begin(terms=replace(TERMS, sites_min=3))
    others = story.sites[1:]
    story.approve(*others)
    story.boot(*story.sites)
    assert story.runs_until(lambda: all(1 in story.past(s).averaged for s in others))
    stop(story, 0)
    assert story.completes(*others)
    check(story)
    ends = [rounds for _, rounds in closings(story, *others)]
    assert max(ends) - min(ends) <= 1
    assert max(ends) < 10


def test_one_that_hears_of_it_later_ends_too_and_is_not_waited_for() -> None:
    story = running()
    late = story.sites[3]
    story.world.crash(late)
    stop(story, next_round(story))
    assert story.completes(*story.sites[:3])
    story.boot(late)
    assert story.runs_until(lambda: story.is_complete(late), SOON_S)
    check(story)


@pytest.mark.parametrize("at_s", [0.0, 0.2, 1.0])
def test_a_restart_after_the_stop_ends_it_all_the_same(at_s: float) -> None:
    story = running()
    stop(story, next_round(story))
    story.wait(at_s)
    for site in story.sites:
        story.world.crash(site)
        story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)
    assert {reason for reason, _ in closings(story)} == {"complete"}
    assert max(last_trained(story)) < 10


def test_a_paused_study_can_be_stopped_and_nothing_resumes_it() -> None:
    story = running()
    first = next_round(story)
    story.world.command(
        story.sites[0], word_draft(Pause.PAUSED, story.study, first, "scanner-replaced")
    )
    assert story.runs_until(lambda: all("paused" in story.waiting(s) for s in story.sites))
    stop(story, first)
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    assert story.runs_until(lambda: story.past(victim).is_stopped)
    again = StudyPaused(story.study, Pause.RESUMED, "", first, 10_000, digest("resume"))
    proposer.tells(victim, again)
    assert story.completes()
    check(story)
    assert story.records(victim, kinds.StudyResumed) == []
    assert max(last_trained(story)) <= first


def test_what_had_not_begun_is_withdrawn_and_its_budget_is_free_again() -> None:
    story = begin(terms=TERMS)
    story.approve(*story.sites[:3])
    story.boot(*story.sites)
    story.wait(1.0)
    stop(story, 1)
    ready = story.sites[:3]
    assert story.runs_until(lambda: len(closings(story, *ready)) == 3)
    assert set(closings(story, *ready)) == {("withdrawn", 0)}
    story.approve(story.sites[3])  # by somebody who had not heard of it
    story.wait(SOON_S)
    assert all(story.records(site, kinds.TrainDone) == [] for site in story.sites)
    check(story)


def test_nobody_but_the_proposer_stops_it() -> None:
    story = running()
    victim = story.sites[1]
    word = StudyPaused(story.study, Pause.STOPPED, "why", 0, 50, digest("stop"))
    Attacker(story, story.sites[2]).tells(victim, word)
    story.wait(SOON_S)
    assert [r.reason for r in story.records(victim, kinds.PeerMisbehaved)] == ["NotTheProposer"]
    assert not story.past(victim).is_stopped
    proposal = victim.core.proposals[story.study]
    with pytest.raises(NotTheProposer, match="steers, pauses, resumes or stops it"):
        check_sender(proposal, story.sites[2].core.me)


def test_a_stop_is_heeded_also_after_as_many_words_as_a_site_puts_on_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pausing, "WORDS_MAX", 0)
    story = running()
    stop(story, next_round(story))
    assert story.completes()
    assert max(last_trained(story)) < 10


def test_a_stop_in_the_rounds_without_training_changes_nothing() -> None:
    story = started(terms=replace(TERMS, rounds=4))
    assert story.runs_until(lambda: all(3 in story.past(s).averaged for s in story.sites))
    stop(story, 5)
    planned = rounds_planned(story.manifest, story.past(story.sites[0]))
    assert (planned.trained, planned.total) == (4, 6)
    assert story.completes()
    check(story)
    assert closings(story) == [("complete", 6)] * 4
