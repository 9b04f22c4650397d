"""The proposer pauses a study: everybody stops at a round's boundary, and goes on when it says."""

from dataclasses import replace

import pytest
from core_attackers import Attacker, digest, drafts
from core_worlds import RESTART_S, SMALL, Story, begin, check, started

from gossip.messages import StudyPaused
from gossip.pause_messages import PAUSE_REASON, PAUSE_REASON_BYTES_MAX, Pause
from ledger.provenance import kinds
from ledger.provenance.fields import FieldError
from p2pfl.core import effects as fx
from p2pfl.core import pausing
from p2pfl.core.pausing import word_draft
from p2pfl.core.steering import own_draft
from simulations.site import SimulatedSite
from simulations.world import NetworkTerms

TERMS = replace(SMALL, sites=4, rounds=8, sites_min=4, deadline_s=3.0)
LONG_S = 60.0
"""Twenty deadlines."""


def running(seed: int = 1, loss: float = 0.0) -> Story:
    """A study whose first two rounds are done everywhere."""
    story = started(seed, replace(TERMS, network=NetworkTerms(loss=loss)))
    assert story.runs_until(lambda: all(1 in story.past(s).averaged for s in story.sites))
    return story


def pause(story: Story, from_round: int) -> None:
    story.world.command(
        story.sites[0], word_draft(Pause.PAUSED, story.study, from_round, "scanner-replaced")
    )


def resume(story: Story) -> None:
    word = story.past(story.sites[0]).pause
    assert word is not None
    story.world.command(
        story.sites[0], word_draft(Pause.RESUMED, story.study, word.round, "scanner-is-back")
    )


def trainings(story: Story) -> list[int]:
    return [len(story.records(site, kinds.TrainDone)) for site in story.sites]


def are_paused(story: Story, *sites: SimulatedSite) -> bool:
    return all("paused" in story.waiting(site) for site in sites or story.sites)


def message(
    story: Story, seq: int, state: Pause = Pause.PAUSED, from_round: int = 0
) -> StudyPaused:
    return StudyPaused(story.study, state, "why", from_round, seq, digest("pause", seq))


@pytest.mark.parametrize("seed", [1, 2])
def test_everybody_finishes_the_round_under_way_and_waits_under_loss(seed: int) -> None:
    story = running(seed, loss=0.3)
    first = max(story.past(story.sites[0]).averaged) + 2
    pause(story, first)
    assert story.runs_until(lambda: are_paused(story))
    story.wait(5.0)
    before = trainings(story)
    story.wait(LONG_S)
    assert trainings(story) == before, "no ε is spent"
    resume(story)
    assert story.completes()
    check(story)
    for site in story.sites:
        assert story.past(site).skipped == set()
        assert len(story.records(site, kinds.StudyPaused)) == 1
        assert len(story.records(site, kinds.StudyResumed)) == 1
        [record] = story.records(site, kinds.StudyPaused)
        assert (record.round >= first, record.reason) == (True, "scanner-replaced")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_who_had_begun_a_round_waits_for_the_others_without_a_deadline(seed: int) -> None:
    story = begin(seed, replace(TERMS, sites_min=3))
    others = story.sites[1:]  # the proposer trains nothing: it names no round to stop at
    story.approve(*others)
    story.boot(*story.sites)
    assert story.runs_until(lambda: all(1 in story.past(s).averaged for s in others))
    pause(story, 0)
    story.wait(LONG_S)
    before = trainings(story)
    resume(story)
    assert story.completes(*others)
    check(story)
    assert max(before) < TERMS.rounds
    for site in others:
        assert "neighbour_late" not in story.happened(site)
        assert story.past(site).skipped == set()
        received = story.records(site, kinds.UpdateReceived)
        assert all(record.verdict == "accepted" for record in received)


def test_a_restart_while_paused_is_still_paused_and_says_so() -> None:
    story = running()
    pause(story, max(story.past(story.sites[0]).averaged) + 2)
    assert story.runs_until(lambda: are_paused(story))
    story.wait(5.0)
    before = trainings(story)
    for site in story.sites:
        story.world.crash(site)
        site.notices.clear()
        story.world.restart(site, RESTART_S)
    story.wait(LONG_S)
    assert are_paused(story)
    assert trainings(story) == before
    for site in story.sites:
        assert len(story.records(site, kinds.StudyPaused)) == 1
    resume(story)
    assert story.completes()
    check(story)


def test_a_site_that_was_away_hears_of_the_pause_and_of_its_end() -> None:
    story = running()
    late = story.sites[3]
    story.world.crash(late)
    pause(story, max(story.past(story.sites[0]).averaged) + 2)
    story.wait(LONG_S)
    story.boot(late)
    assert story.runs_until(lambda: are_paused(story, late))
    story.world.crash(late)
    resume(story)
    story.wait(1.0)
    story.boot(late)
    assert story.completes()
    check(story)
    assert len(story.records(late, kinds.StudyResumed)) == 1


def test_a_study_that_is_paused_before_it_starts_trains_nothing() -> None:
    story = begin(terms=TERMS)
    story.approve(*story.sites)
    pause(story, 0)
    story.boot(story.sites[0])
    story.wait(1.0)
    story.boot(*story.sites[1:])
    story.wait(LONG_S)
    assert len(story.records(story.sites[0], kinds.TrainDone)) == 0
    resume(story)
    assert story.completes()
    check(story)


def test_people_read_who_paused_since_when_why_and_what_ends_it() -> None:
    story = started(terms=TERMS)
    pause(story, 1)
    assert story.runs_until(lambda: are_paused(story))
    proposer = story.sites[0].name
    for site in story.sites:
        told = [n.sentence for n in site.notices if isinstance(n, fx.Waiting)][-1]
        assert told.startswith(f"paused by {proposer} since 20")
        assert told.endswith(
            f" UTC: scanner-replaced; goes on when {proposer} says "
            f"`p2pfl study resume {story.study.hex()[:12]}`"
        )


def test_a_pause_does_not_move_the_expiry_that_was_approved() -> None:
    story = started(terms=replace(TERMS, duration_s=LONG_S))
    pause(story, 1)
    assert story.runs_until(lambda: are_paused(story))
    story.wait(story.manifest.study.expires_s - story.world.now_s + 1.0)
    for site in story.sites:
        assert story.past(site).closed_reason == "expired"
    check(story)


def reasons(effects: list[fx.Effect]) -> list[object]:
    return [body["reason"] for body in drafts(effects, kinds.PeerMisbehaved)]


def test_nobody_but_the_proposer_pauses_and_only_at_a_round_that_there_is() -> None:
    story = running()
    victim = story.sites[1]
    other, proposer = Attacker(story, story.sites[2]), Attacker(story, story.sites[0])
    assert reasons(other.says(victim, message(story, 50))) == ["NotTheProposer"]
    far = message(story, 50, from_round=9)
    assert reasons(proposer.says(victim, far)) == ["OutsideRange"]
    assert story.completes()
    assert not story.records(victim, kinds.StudyPaused)


def test_an_older_pause_that_comes_again_after_a_restart_pauses_nobody() -> None:
    story = running()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    proposer.tells(victim, message(story, 51, Pause.RESUMED))
    assert story.runs_until(lambda: bool(story.records(victim, kinds.StudyResumed)))
    story.world.crash(victim)
    story.boot(victim)
    proposer.tells(victim, message(story, 50))
    assert story.completes()
    check(story)
    assert not story.records(victim, kinds.StudyPaused)


def test_two_words_under_one_entry_are_refused() -> None:
    story = running()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    assert [type(e) for e in proposer.says(victim, message(story, 50))][:1] == [fx.Show]
    twice = proposer.says(victim, message(story, 50, Pause.RESUMED))
    assert reasons(twice) == ["Equivocation"]


def waiting_for_approvals() -> Story:
    """A study that one site runs, and that too few approve to start."""
    story = begin(terms=TERMS)
    story.approve(story.sites[1])
    story.boot(*story.sites)
    assert story.runs_until(lambda: "approvals" in story.waiting(story.sites[1]))
    story.wait(1.0)
    return story


def test_of_words_that_come_fast_only_the_newest_follows_the_entry_on_its_way() -> None:
    story = waiting_for_approvals()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    first = proposer.says(victim, message(story, 50))
    assert len(drafts(first, kinds.StudyPaused)) == 1
    for seq in range(51, 60):
        assert not drafts(proposer.says(victim, message(story, seq)), kinds.StudyPaused)


def test_a_proposer_cannot_fill_a_log_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "WORDS_MAX", 4)
    story = waiting_for_approvals()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    for seq in range(50, 58):
        proposer.tells(victim, message(story, seq, Pause.RESUMED if seq % 2 else Pause.PAUSED))
    assert story.past(victim).pause_words == 4
    assert reasons(proposer.says(victim, message(story, 58))) == []
    refused = [r.reason for r in story.records(victim, kinds.PeerMisbehaved)]
    assert refused == ["TooManyWords"]


def test_what_is_steered_while_paused_holds_from_the_first_round_after_it() -> None:
    story = running()
    pause(story, max(story.past(story.sites[0]).averaged) + 2)
    assert story.runs_until(lambda: are_paused(story))
    story.wait(5.0)
    first = max(story.past(story.sites[0]).averaged) + 1
    slower = own_draft(story.study, (("learning_rate", "0.25"),), first, "researcher")
    story.world.command(story.sites[0], slower)
    story.wait(1.0)
    resume(story)
    assert story.completes()
    check(story)
    for site in story.sites:
        assert story.past(site).steering_at(first - 1) == ()
        assert story.past(site).steering_at(first) == (("learning_rate", "0.25"),)


def test_who_revokes_while_paused_and_approves_again_is_still_paused() -> None:
    story = running()
    pause(story, max(story.past(story.sites[0]).averaged) + 2)
    assert story.runs_until(lambda: are_paused(story))
    story.wait(5.0)
    site = story.sites[2]
    story.world.command(site, kinds.StudyRevoked(story.study, "unsure").draft("operator"))
    assert story.runs_until(lambda: "study_left" in story.happened(site))
    assert (story.past(site).is_paused, story.past(site).is_held_up) == (True, False)
    site.notices.clear()
    story.world.crash(site)
    story.approve(site)
    story.boot(site)
    assert story.runs_until(lambda: are_paused(story, site))
    before = trainings(story)
    story.wait(LONG_S)
    assert trainings(story) == before
    resume(story)
    assert story.completes()
    check(story)


@pytest.mark.parametrize("reason", ["a b", "é", "-a", "a" * 97, "a\n", "a.b:c/d+(e)=-_", "a" * 96])
def test_a_reason_that_the_wire_lets_through_fits_an_entry(reason: str) -> None:
    fits = PAUSE_REASON.fullmatch(reason) is not None and len(reason) <= PAUSE_REASON_BYTES_MAX
    try:
        kinds.StudyPaused(digest("study"), 0, reason, 1)
    except FieldError:
        assert not fits
    else:
        assert fits
