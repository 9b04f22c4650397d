"""Local work boxed in time: what goes on record, what neighbours are told, who is refused."""

from dataclasses import replace

import pytest
from core_worlds import FOUR, RESTART_S, Story, check, started
from ops_manifests import PLAN, STUDY, rendered

from gossip.errors import Garbled
from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced, decode_message, encode_message
from ledger.provenance import kinds
from p2pfl.core import events as ev
from p2pfl.core.boxed import Boxed
from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest import NO_PRIVACY, parse_manifest
from p2pfl.core.names import StudyId
from p2pfl.core.refusals import WrongSteps
from p2pfl.core.watch import Telling

PLANNED = 50
MADE = 12
BOXED = replace(FOUR, privacy=None, work_limit_s=0.5)
ANNOUNCED = UpdateAnnounced(bytes(32), 3, bytes(32), 9, 4, bytes(32), b"head", b"", 7)


def one_is_slow(seed: int = 1) -> Story:
    story = started(seed, BOXED)
    for site in story.sites:
        site.spending, site.planned_steps = made(PLANNED), PLANNED
    story.sites[-1].spending = made(MADE)
    return story


def made(steps: int) -> ev.Spending:
    return ev.Spending("none", "0", "0", steps, "0")


def test_the_steps_that_were_made_are_on_record_and_the_average_is_as_ever() -> None:
    story = one_is_slow()
    *others, slow = story.sites
    assert story.completes()
    check(story)
    assert {record.steps for record in story.records(slow, kinds.TrainDone)} == {MADE}
    assert {r.steps for site in others for r in story.records(site, kinds.TrainDone)} == {PLANNED}
    plain = started(1, replace(BOXED, work_limit_s=0.0))
    assert plain.completes()
    boxed, free = (
        [average.inputs for average in each.records(each.sites[0], kinds.AggDone)]
        for each in (story, plain)
    )
    assert [[i.weight_u for i in one] for one in boxed] == [[i.weight_u for i in o] for o in free]


def test_people_hear_of_it_at_the_slow_site_and_at_its_neighbours() -> None:
    story = one_is_slow()
    assert story.completes()
    assert story.happened(story.sites[-1]).count("work_boxed") == BOXED.rounds
    assert "partial_work" not in story.happened(story.sites[-1])
    told = [n for n in story.sites[0].notices if getattr(n, "name", "") == "partial_work"]
    assert len(told) == BOXED.rounds
    assert "fewer than 50 steps" in str(told[0])


def test_an_update_offered_again_after_a_restart_still_says_its_steps() -> None:
    story = one_is_slow()
    slow = story.sites[-1]
    assert story.runs_until(lambda: 2 in story.past(slow).published)
    story.world.crash(slow)
    story.world.restart(slow, RESTART_S)
    assert story.completes()
    check(story)
    for site in story.sites:
        assert not any(rule == "WrongSteps" for _, rule in site.core.refused)


def test_a_study_without_a_limit_says_nothing_of_steps() -> None:
    story = started(terms=replace(BOXED, work_limit_s=0.0))
    story.sites[0].spending = made(MADE)
    assert story.completes()
    assert {record.steps for record in story.records(story.sites[0], kinds.TrainDone)} == {0}
    assert "steps" not in next(
        entry.body for entry in story.sites[0].ledger.entries if entry.kind == "train.done"
    )


def test_an_announcement_says_its_steps_where_the_study_asks_for_them_and_nowhere_else() -> None:
    sender = SiteId(bytes(32))
    manifest = started(terms=BOXED).manifest
    boxed = Boxed(manifest, Telling(StudyId(manifest.study_id)))
    boxed.check(sender, replace(ANNOUNCED, steps=4))
    boxed.check(sender, replace(ANNOUNCED, train_seq=-1))
    with pytest.raises(WrongSteps, match="how many steps"):
        boxed.check(sender, ANNOUNCED)
    with pytest.raises(WrongSteps, match="nothing of steps"):
        boxed.check(sender, replace(ANNOUNCED, steps=4, train_seq=-1))
    free = started(terms=replace(BOXED, work_limit_s=0.0)).manifest
    with pytest.raises(WrongSteps, match="nothing of steps"):
        Boxed(free, Telling(StudyId(free.study_id))).check(sender, replace(ANNOUNCED, steps=4))


def test_the_longer_announcement_is_one_spelling_only() -> None:
    boxed = replace(ANNOUNCED, steps=MADE)
    raw = encode_message(boxed)
    assert decode_message(raw) == boxed
    with pytest.raises(Garbled):
        decode_message(raw[:-1] + b"\x00")  # steps 0 belong into the shorter one


# -- the manifest ------------------------------------------------------------------------------


def test_a_limit_is_refused_where_something_counts_on_the_number_of_steps() -> None:
    boxed = replace(STUDY, work_limit_s=5.0)
    with pytest.raises(Inconsistent, match="fixed number of them"):
        parse_manifest(rendered(study=boxed))
    for correction in ("control", "quasi-global"):
        plan = replace(PLAN, arguments={**PLAN.arguments, "correction": correction})
        with pytest.raises(Inconsistent, match="correction"):
            parse_manifest(rendered(study=boxed, plan=plan, privacy=NO_PRIVACY))
    with pytest.raises(Inconsistent, match="at most 30 s"):
        parse_manifest(rendered(study=replace(boxed, work_limit_s=31.0), privacy=NO_PRIVACY))
    raw = rendered(study=boxed, privacy=NO_PRIVACY)
    assert parse_manifest(raw).study.work_limit_s == 5.0
    with pytest.raises(Inconsistent, match="counts once"):
        parse_manifest(raw.replace(b'"tabular-logistic"', b'"statistics"'))
