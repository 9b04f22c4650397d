"""Pauses that were kept, and whether the proposer's log says what was followed."""

from dataclasses import replace
from pathlib import Path

import pytest
from prov_consortium import Consortium
from prov_stories import audited, digest, is_clean
from prov_teller import plain_story
from prov_wrongs import STUDY as TOLD
from prov_wrongs import before_round_1

from ledger.provenance.kinds import (
    StudyAway,
    StudyBack,
    StudyPaused,
    StudyProposed,
    StudyResumed,
    StudyStopped,
    TrainDone,
)

STUDY = digest("study", 0)
Word = StudyPaused | StudyResumed | StudyStopped


def test_a_pause_that_was_kept_is_in_order(tmp_path: Path) -> None:
    """The round under way is finished; later ones begin only after the resumption."""
    story = before_round_1(StudyPaused(TOLD, 2, "why", 5))(plain_story())
    story = story.insert(story.place(TrainDone, 2), StudyResumed(TOLD, 2, "", 6))
    assert is_clean(audited(tmp_path, story))


def test_a_site_that_was_away_and_is_back_is_in_order(tmp_path: Path) -> None:
    story = before_round_1(StudyAway(TOLD, "maintenance"))(plain_story())
    story = story.insert(story.place(StudyAway) + 1, StudyBack(TOLD))
    assert is_clean(audited(tmp_path, story))


@pytest.mark.parametrize(
    ("said", "followed", "is_said"),
    [
        (StudyPaused(STUDY, 1, "why", -1), StudyPaused(STUDY, 7, "why", 0), True),
        (StudyPaused(STUDY, 1, "why", -1), StudyPaused(STUDY, 7, "other", 0), False),
        (StudyPaused(STUDY, 8, "why", -1), StudyPaused(STUDY, 7, "why", 0), False),
        (StudyResumed(STUDY, 8, "", -1), StudyResumed(STUDY, 7, "", 0), True),
        (StudyStopped(STUDY, 1, "why", -1), StudyStopped(STUDY, 7, "why", 0), True),
        (StudyStopped(STUDY, 8, "why", -1), StudyStopped(STUDY, 7, "why", 0), False),
        (StudyPaused(STUDY, 1, "why", -1), StudyStopped(STUDY, 7, "why", 0), False),
        (StudyPaused(STUDY, 1, "", -1), StudyResumed(STUDY, 7, "", 0), False),
    ],
)
def test_a_pause_stands_in_its_proposers_log(said: Word, followed: Word, is_said: bool) -> None:
    world = Consortium(3, sites=2)
    proposer, follower = world.sites
    for site in world.sites:
        site.skew_us = 0
        site.tell(StudyProposed(STUDY, proposer.id))
    seq = proposer.tell(said)
    follower.tell(replace(followed, from_seq=seq))
    assert is_clean(world.audit(proposer)), "its own word needs nobody else's"
    report = world.audit(follower)
    if is_said:
        assert is_clean(report)
    else:
        [denied] = [x.sentence for x in report.findings if x.code == "pause.denied"]
        assert "says no such thing" in denied
