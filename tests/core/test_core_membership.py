"""Sites that come late, leave, come back, or whose study expires."""

from dataclasses import replace

from core_worlds import (
    FOUR,
    LONG,
    PRIVATE,
    RESTART_S,
    Story,
    approval,
    begin,
    check,
    check_heads,
    started,
)

from gossip.messages import Decision
from ledger.provenance import kinds
from p2pfl.core import events as ev
from p2pfl.core.history import Standing
from p2pfl.core.phases import Phase
from simulations.scenario import dataset_of

# -- late sites --------------------------------------------------------------------------------


def late_approval(story: Story, round_: int) -> None:
    """The last site approves when the others have averaged a round."""
    *others, late = story.sites
    story.approve(*others)
    story.boot(*story.sites)
    assert story.runs_until(lambda: round_ in story.past(others[0]).averaged)
    story.world.command(late, approval(late, story.manifest, story.seed, PRIVATE))


def test_a_late_approver_catches_up_and_takes_part() -> None:
    story = begin(terms=LONG)
    late_approval(story, 5)
    late = story.sites[3]
    assert story.completes()
    check(story)
    past = story.past(late)
    assert past.skipped
    assert sorted(past.skipped | past.averaged.keys()) == list(range(26))
    assert max(past.skipped) < min(past.trained)
    first = story.records(late, kinds.AggDone)[0]
    assert first.own.seq == -1
    assert len(first.inputs) >= story.terms.neighbours_min
    assert len(past.trained) > 15
    used = story.records(story.sites[0], kinds.AggDone)
    assert any(late.id in {x.site for x in record.inputs} for record in used)


def test_the_own_model_hardly_counts_in_a_catch_up() -> None:
    story = begin(terms=LONG)
    late_approval(story, 5)
    late = story.sites[3]
    assert story.runs_until(lambda: bool(story.past(late).averaged))
    first = story.records(late, kinds.AggDone)[0]
    weights = [given.weight_u for given in first.inputs]
    assert 998_000 < sum(weights) < 1_000_000
    assert max(weights) - min(weights) <= 1


def test_who_approves_after_everybody_finished_still_gets_a_model() -> None:
    story = begin(terms=FOUR)
    late_approval(story, 4)
    assert story.completes()
    check(story)


def test_who_approves_after_everybody_finished_and_restarted_still_gets_a_model() -> None:
    story = begin(terms=FOUR)
    *others, late = story.sites
    story.approve(*others)
    story.boot(*story.sites)
    assert story.completes(*others)
    for site in others:
        story.world.crash(site)
        story.world.restart(site, RESTART_S)
    story.wait(5.0)
    story.world.command(late, approval(late, story.manifest, story.seed, PRIVATE))
    assert story.completes()
    check(story)


def test_a_site_that_was_down_for_long_catches_up() -> None:
    story = started(terms=LONG)
    gone = story.sites[3]
    assert story.runs_until(lambda: 3 in story.past(gone).averaged)
    story.world.crash(gone)
    story.world.restart(gone, 4.0)
    assert story.completes()
    check(story)
    assert story.past(gone).skipped


def test_a_short_study_needs_no_catch_up_to_be_joined_late() -> None:
    story = begin(terms=replace(FOUR, rounds=1, consensus_rounds=1))
    late_approval(story, 0)
    assert story.completes()
    check(story)


# -- leaving -----------------------------------------------------------------------------------


def revoke(story: Story, number: int = 3) -> None:
    site = story.sites[number]
    revoked = kinds.StudyRevoked(story.study, "owner-withdrew").draft("data-owner")
    story.world.command(site, revoked)


def test_a_revocation_takes_the_site_out_at_once_and_the_others_go_on() -> None:
    story = started(terms=LONG)
    *others, leaver = story.sites
    assert story.runs_until(lambda: 5 in story.past(leaver).averaged)
    revoke(story)
    size = len(leaver.ledger.entries)
    assert story.completes(*others)
    check(story)
    written = {entry.kind for entry in leaver.ledger.entries[size:]}
    assert written <= {kinds.PeerHead.KIND}
    assert story.study not in leaver.core.runs
    for site in others:
        assert site.core.decisions.of(story.study)[leaver.id].decision is Decision.REVOKED


def test_a_revocation_withdraws_the_offered_updates_and_their_blobs() -> None:
    story = started(terms=LONG)
    leaver = story.sites[3]
    assert story.runs_until(lambda: 5 in story.past(leaver).averaged)
    model = story.past(leaver).published[5].model
    assert leaver.core.may_read(story.sites[0].id, model)
    revoke(story)
    story.wait(0.1)
    assert not leaver.core.may_read(story.sites[0].id, model)
    assert leaver.core.may_read(story.sites[0].id, story.manifest.study.initial_model)


def test_too_few_sites_wait_visibly_and_go_on_when_one_returns() -> None:
    story = started(terms=LONG)
    one, two, third, _ = story.sites
    assert story.runs_until(lambda: 5 in story.past(one).averaged)
    revoke(story, 2)
    revoke(story, 3)
    story.wait(60.0)
    assert not story.is_complete(one)
    assert {"neighbours"} <= set(story.waiting(one)) & set(story.waiting(two))
    rounds = max(story.past(one).averaged)
    story.world.command(third, approval(third, story.manifest, story.seed, PRIVATE))
    assert story.runs_until(lambda: rounds + 5 in story.past(one).averaged)
    assert story.completes(one, two, third)
    check(story)


def test_who_approves_again_goes_on_from_its_last_average() -> None:
    story = started(terms=LONG)
    leaver = story.sites[3]
    assert story.runs_until(lambda: 5 in story.past(leaver).averaged)
    revoke(story)
    story.wait(0.02)
    story.world.command(leaver, approval(leaver, story.manifest, story.seed, PRIVATE))
    assert story.completes()
    check(story)
    trainings = story.records(leaver, kinds.TrainDone)
    initial = story.manifest.study.initial_model
    assert [r.round for r in trainings if r.base_model == initial] == [0]


def test_a_second_approval_while_the_study_runs_opens_a_new_process() -> None:
    story = started(terms=LONG)
    site = story.sites[3]
    assert story.runs_until(lambda: 5 in story.past(site).averaged)
    story.world.command(site, approval(site, story.manifest, story.seed, PRIVATE))
    assert story.completes()
    check(story)


def test_a_revoked_dataset_takes_its_studies_out_and_nothing_brings_them_back() -> None:
    story = started(terms=LONG)
    *others, leaver = story.sites
    assert story.runs_until(lambda: 5 in story.past(leaver).averaged)
    revoked = kinds.DatasetRevoked(dataset_of(story.seed, leaver), "owner-withdrew")
    story.world.command(leaver, revoked.draft("data-owner"))
    story.wait(0.1)
    assert story.past(leaver).standing is Standing.REVOKED
    trained = len(story.past(leaver).trained)
    story.world.crash(leaver)
    story.boot(leaver)
    assert story.completes(*others)
    assert len(story.past(leaver).trained) == trained
    check(story)


def test_a_dataset_revoked_while_the_node_was_down_is_not_trained_on() -> None:
    story = begin(terms=FOUR)
    story.approve(*story.sites)
    *others, leaver = story.sites
    revoked = kinds.DatasetRevoked(dataset_of(story.seed, leaver), "owner-withdrew")
    leaver.record(revoked.draft("data-owner"), now_s=story.world.now_s)
    story.boot(*story.sites)
    assert story.completes(*others)
    assert not story.past(leaver).trained
    assert story.past(leaver).standing is Standing.REVOKED
    check(story)


def test_a_study_that_waits_when_it_expires_is_closed() -> None:
    story = begin(terms=replace(FOUR, duration_s=100, sites_min=4))
    story.approve(*story.sites[:3])
    story.boot(*story.sites)
    story.wait(200.0)
    for site in story.sites[:3]:
        assert story.past(site).standing is Standing.CLOSED
        assert story.past(site).closed_reason == "expired"
        assert site.core.runs[story.study].phase is Phase.ENDED
    check(story)


def test_a_study_that_expires_in_its_middle_trains_no_more() -> None:
    story = started(terms=replace(LONG, rounds=1000, duration_s=4))
    story.wait(60.0)
    for site in story.sites:
        past = story.past(site)
        assert past.closed_reason == "expired"
        assert 10 < len(past.trained) < 1000
    check(story)


def test_an_expired_study_is_not_begun_again_by_a_restart() -> None:
    story = begin(terms=replace(FOUR, duration_s=100))
    story.approve(*story.sites)
    story.wait(0.0)
    story.world.now_s += 200.0
    story.boot(*story.sites)
    story.wait(10.0)
    for site in story.sites:
        assert story.past(site).closed_reason == "expired"
        assert not story.past(site).trained
    check(story)


def test_a_site_that_left_may_be_approved_again_without_a_restart() -> None:
    story = started(terms=LONG)
    site = story.sites[3]
    assert story.runs_until(lambda: 5 in story.past(site).averaged)
    closed = kinds.StudyClosed(story.study, "pause", 6).draft("data-owner")
    story.world.command(site, closed)
    story.wait(5.0)
    assert site.core.runs[story.study].phase is Phase.ENDED
    assert "study_left" not in story.happened(site)
    story.world.command(site, approval(site, story.manifest, story.seed, PRIVATE))
    assert story.completes()
    check(story)


def test_a_site_that_leaves_the_roster_leaves_its_studies() -> None:
    story = started(terms=LONG)
    *others, leaver = story.sites
    assert story.runs_until(lambda: 5 in story.past(leaver).averaged)
    remaining = replace(
        story.world.roster,
        version=2,
        previous=story.world.roster.digest,
        members=tuple(c for c in story.world.roster.members if c.site != leaver.id),
        signatures={},
    )
    for site in others:
        site.core.handle(story.world.now_s, ev.MembersChanged(remaining))
        assert leaver.id not in site.core.runs[story.study].gathering.buckets
    story.world.crash(leaver)
    assert story.completes(*others)
    check_heads(story)
