"""A site is away from a study for a while: nobody waits for it, and it catches up afterwards."""

from dataclasses import replace

import pytest
from core_worlds import RESTART_S, SMALL, Story, begin, check, started

from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core.history import Standing
from p2pfl.core.phases import Phase
from simulations.site import SimulatedSite

TERMS = replace(SMALL, sites=4, rounds=40, sites_min=4, deadline_s=20.0)


def away(story: Story) -> Draft:
    return kinds.StudyAway(story.study, "maintenance").draft("operator")


def back(story: Story) -> Draft:
    return kinds.StudyBack(story.study).draft("operator")


def gone(story: Story, at_round: int = 2) -> SimulatedSite:
    """The last site, which went away after these rounds."""
    site = story.sites[3]
    assert story.runs_until(lambda: at_round in story.past(site).averaged)
    story.world.command(site, away(story))
    assert story.runs_until(lambda: "study_away" in story.happened(site))
    return site


def rounds(story: Story, site: SimulatedSite) -> int:
    return max(story.past(site).averaged)


def test_nobody_waits_for_a_site_that_is_away() -> None:
    story = started(terms=TERMS)
    site = gone(story)
    trained = len(story.records(site, kinds.TrainDone))
    reached = rounds(story, story.sites[0])
    story.wait(TERMS.deadline_s / 2)
    assert rounds(story, story.sites[0]) > reached + 5, "less than one deadline"
    assert len(story.records(site, kinds.TrainDone)) == trained
    assert not story.sites[0].core.runs[story.study].gathering.buckets.keys() & {site.id}
    for other in story.sites[:3]:
        assert "neighbour_late" not in story.happened(other)
    assert story.completes(*story.sites[:3])


def test_a_site_that_is_back_catches_up_under_the_approval_it_had() -> None:
    story = started(terms=TERMS)
    site = gone(story)
    assert story.runs_until(lambda: rounds(story, story.sites[0]) >= 12)
    assert story.past(site).is_reserved
    story.world.command(site, back(story))
    assert story.completes()
    check(story)
    past = story.past(site)
    assert past.skipped
    assert len(story.records(site, kinds.StudyApproved)) == 1
    assert past.trainings == len(story.records(site, kinds.TrainDone))
    last = [record.round for record in story.records(site, kinds.TrainDone)][-1]
    assert last == TERMS.rounds - 1


def test_a_restart_while_away_changes_nothing_and_tells_the_others() -> None:
    story = started(terms=TERMS)
    site = story.sites[3]
    assert story.runs_until(lambda: 2 in story.past(site).averaged)
    story.world.crash(site)
    story.world.command(site, away(story))  # with its node stopped
    site.notices.clear()
    story.world.restart(site, RESTART_S)
    others = story.sites[:3]
    assert story.completes(*others)
    assert "study_decision" in story.happened(others[0])
    assert (story.past(site).standing, story.study in site.core.runs) == (Standing.AWAY, False)
    story.world.command(site, back(story))
    assert story.completes()
    check(story)


def test_training_that_ends_after_the_site_went_away_is_not_recorded() -> None:
    story = started(terms=TERMS)
    site = story.sites[3]
    runs = site.core.runs
    assert story.runs_until(
        lambda: story.study in runs and runs[story.study].phase is Phase.TRAINING
    )
    before = len(story.records(site, kinds.TrainDone))
    story.world.command(site, away(story))
    story.wait(5.0)
    assert len(story.records(site, kinds.TrainDone)) == before
    story.world.command(site, back(story))
    assert story.completes()
    check(story)


@pytest.mark.parametrize("is_back_first", [False, True])
def test_who_is_away_may_revoke_and_then_nothing_brings_it_back(is_back_first: bool) -> None:
    story = started(terms=TERMS)
    site = gone(story)
    revoked = kinds.StudyRevoked(story.study, "unsure").draft("operator")
    story.world.command(site, *([back(story)] if is_back_first else []), revoked, back(story))
    story.wait(5.0)
    assert story.past(site).standing is Standing.REVOKED
    assert story.study not in site.core.runs


def test_away_without_an_approval_means_nothing() -> None:
    story = begin(terms=TERMS)
    story.boot(story.sites[0])
    story.world.command(story.sites[0], away(story))
    story.wait(1.0)
    assert story.past(story.sites[0]).standing is Standing.UNDECIDED


def test_people_read_what_brings_the_site_back() -> None:
    story = started(terms=TERMS)
    site = gone(story)
    [left] = [n for n in site.notices if isinstance(n, fx.Happened) and n.name == "study_away"]
    short = story.study.hex()[:12]
    assert left.sentence == f"left the study: this site is away until `p2pfl study back {short}`"
