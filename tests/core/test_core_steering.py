"""The proposer steers a running study: everybody follows, on record, and nobody else can."""

from dataclasses import replace

import pytest
from core_attackers import Attacker, digest, drafts
from core_worlds import RESTART_S, SMALL, Story, approval, begin, check, started

from gossip.messages import StudySteered
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import History, Steering, StudyHistory
from p2pfl.core.names import Round
from p2pfl.core.steering import Following, digest_of_changes, own_draft
from p2pfl.core.watch import Telling
from simulations.site import SimulatedSite
from simulations.world import NetworkTerms

TERMS = replace(SMALL, sites=4, rounds=8, sites_min=4, deadline_s=10.0)
SLOWER = (("learning_rate", "0.25"),)
SLOWEST = (("learning_rate", "0.125"), ("local_steps", "2"))


def steer(
    story: Story, changes: tuple[tuple[str, str], ...], from_round: int, by: SimulatedSite
) -> None:
    story.world.command(by, own_draft(story.study, changes, from_round, "researcher"))


def reaches(story: Story, round_: int) -> None:
    """Until every site has averaged this round."""
    assert story.runs_until(lambda: all(round_ in story.past(s).averaged for s in story.sites))


def running() -> Story:
    """A study whose first round is done everywhere."""
    story = started(terms=TERMS)
    reaches(story, 0)
    return story


def steered(story: Story, site: SimulatedSite) -> list[kinds.StudySteered]:
    return story.records(site, kinds.StudySteered)


def misbehaviour(effects: list[fx.Effect]) -> list[object]:
    return [body["reason"] for body in drafts(effects, kinds.PeerMisbehaved)]


def message(story: Story, seq: int = 50, **changed: object) -> StudySteered:
    whole = StudySteered(story.study, SLOWER, 0, seq, digest("steering", seq))
    return replace(whole, **changed)  # type: ignore[arg-type]


def test_every_site_follows_its_proposer_from_the_next_round_on_under_loss() -> None:
    story = started(3, replace(TERMS, network=NetworkTerms(loss=0.3)))
    proposer, *others = story.sites
    reaches(story, 1)
    present = max(story.past(proposer).averaged) + 1
    steer(story, SLOWER, present + 1, proposer)
    assert story.completes()
    check(story)
    for site in story.sites:
        [record] = steered(story, site)
        assert record.changes == dict(SLOWER)
        assert record.message == digest_of_changes(story.study, SLOWER)
        assert record.round > present
        assert site in others or record.from_seq == -1
        for round_ in sorted(story.past(site).trained):
            expected = SLOWER if round_ >= record.round else ()
            assert site.trained_with[story.study, round_] == expected
        # What is on record of the arguments changes with them.
        hashes = {story.past(site).trained[Round(r)].hp for r in story.past(site).trained}
        assert len(hashes) == 2
    seqs = {record.from_seq for site in others for record in steered(story, site)}
    [own] = [e.seq for e in proposer.ledger.entries if e.kind == kinds.StudySteered.KIND]
    assert seqs == {own}


def test_the_newest_steering_counts_and_contains_all_before_it() -> None:
    story = running()
    proposer = story.sites[0]
    steer(story, SLOWER, 2, proposer)
    steer(story, SLOWEST, 4, proposer)
    assert story.completes()
    check(story)
    for site in story.sites:
        assert story.past(site).steering_at(7) == SLOWEST
        assert site.trained_with[story.study, 3] in (SLOWER, ())
        assert site.trained_with[story.study, 4] == SLOWEST


def test_a_restarted_site_trains_with_the_same_values_and_records_them_once() -> None:
    story = running()
    proposer, other = story.sites[:2]
    steer(story, SLOWER, 2, proposer)
    assert story.runs_until(lambda: len(steered(story, other)) == 1)
    for site in (proposer, other):
        story.world.crash(site)
        story.world.restart(site, RESTART_S)
    assert story.completes()
    check(story)
    for site in (proposer, other):
        assert len(steered(story, site)) == 1
        assert site.trained_with[story.study, 7] == SLOWER


def test_a_site_that_was_away_hears_of_it_when_it_comes_back() -> None:
    story = started(terms=replace(TERMS, sites_min=3))
    proposer, late = story.sites[0], story.sites[3]
    story.world.crash(late)
    steer(story, SLOWER, 2, proposer)
    story.wait(0.2)
    story.boot(late)
    assert story.completes()
    check(story)
    used = {story.past(late).steering_at(r) for r in story.past(late).trained if r > 2}
    assert used <= {SLOWER}


def test_a_proposer_that_steered_while_its_node_was_down_tells_it_when_it_starts() -> None:
    story = begin(terms=TERMS)
    story.approve(*story.sites)
    steer(story, SLOWER, 1, story.sites[0])
    story.boot(*story.sites)
    assert story.completes()
    check(story)
    assert all(site.trained_with[story.study, 7] == SLOWER for site in story.sites)


HOSTILE: dict[str, tuple[dict[str, object], str]] = {
    "above the range": ({"changes": (("learning_rate", "1.5"),)}, "OutsideRange"),
    "below the range": ({"changes": (("learning_rate", "0"),)}, "OutsideRange"),
    "an argument without a range": ({"changes": (("momentum", "0.5"),)}, "OutsideRange"),
    "half a step": ({"changes": (("local_steps", "2.5"),)}, "OutsideRange"),
    "no number at all": ({"changes": (("learning_rate", "nan"),)}, "OutsideRange"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_proposer_cannot_leave_what_was_approved(name: str) -> None:
    story = running()
    proposer, victim = story.sites[:2]
    changed, rule = HOSTILE[name]
    effects = Attacker(story, proposer).says(victim, message(story, **changed))
    assert misbehaviour(effects) == [rule]
    assert story.completes()
    assert not any(steered(story, site) for site in story.sites)


def test_nobody_but_the_proposer_steers() -> None:
    story = running()
    attacker, victim = Attacker(story, story.sites[2]), story.sites[1]
    assert misbehaviour(attacker.says(victim, message(story))) == ["NotTheProposer"]
    assert story.completes()
    assert not steered(story, victim)


def test_an_older_steering_changes_nothing_and_two_under_one_entry_are_refused() -> None:
    story = running()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    assert [type(e) for e in proposer.says(victim, message(story, 50))] == [fx.Show]
    assert proposer.says(victim, message(story, 49, changes=SLOWEST)) == []
    assert proposer.says(victim, message(story, 50)) == []
    twice = proposer.says(victim, message(story, 50, changes=SLOWEST))
    assert misbehaviour(twice) == ["Equivocation"]
    assert story.completes()
    [record] = steered(story, victim)
    assert (record.changes, record.from_seq) == (dict(SLOWER), 50)


def test_a_replay_after_a_restart_does_not_bring_older_values_back() -> None:
    story = running()
    proposer, victim = Attacker(story, story.sites[0]), story.sites[1]
    proposer.tells(victim, message(story, 50))
    assert story.runs_until(lambda: bool(steered(story, victim)))
    story.world.crash(victim)
    story.boot(victim)
    proposer.tells(victim, message(story, 49, changes=SLOWEST))
    assert story.completes()
    check(story)
    [record] = steered(story, victim)
    after = [used for (_, round_), used in victim.trained_with.items() if round_ >= record.round]
    assert after
    assert all(used == SLOWER for used in after)


def before_the_proposal(changes: tuple[tuple[str, str], ...], by: int) -> Story:
    """A site hears of a steering before it knows the study."""
    story = begin(terms=TERMS)
    late = story.sites[3]
    story.boot(late)
    assert Attacker(story, story.sites[by]).says(late, message(story, changes=changes))
    story.approve(*story.sites[:3])
    story.boot(*story.sites[:3])
    assert story.runs_until(lambda: story.study in late.core.proposals)
    story.world.command(late, approval(late, story.manifest, story.seed, story.terms.privacy))
    assert story.completes()
    return story


@pytest.mark.parametrize(
    ("changes", "by", "followed"),
    [
        (SLOWER, 0, True),
        ((("learning_rate", "9"),), 0, False),
        (SLOWER, 1, False),
    ],
)
def test_a_steering_that_overtakes_its_proposal_is_judged_when_that_comes(
    changes: tuple[tuple[str, str], ...], by: int, followed: bool
) -> None:
    story = before_the_proposal(changes, by)
    assert bool(steered(story, story.sites[3])) is followed


def test_steerings_of_unknown_studies_do_not_pile_up() -> None:
    story = running()
    attacker, victim = Attacker(story, story.sites[2]), story.sites[1]
    for number in range(200):
        attacker.says(victim, message(story, study=digest("study", number)))
    own = Attacker(story, story.sites[0])
    own.says(victim, message(story))
    assert len(victim.core.steerings) == 33


def test_the_fold_names_what_is_in_force_at_a_round() -> None:
    story = begin(terms=TERMS)
    site = story.sites[0]
    site.record(own_draft(story.study, SLOWER, 2, "researcher"), now_s=story.world.now_s)
    past = History(site.ledger.entries).study(story.study)
    assert past.steerings == [Steering(Round(2), SLOWER)]
    assert past.steering_at(1) == ()
    assert past.steering_at(2) == past.steering_at(9) == SLOWER
    assert past.steered_seq == site.ledger.entries[-1].seq
    assert past.steered_leaf == site.ledger.entries[-1].leaf


def test_a_training_that_fails_is_tried_again_with_the_same_values_and_one_entry() -> None:
    story = begin(terms=TERMS)
    story.approve(*story.sites)
    victim = story.sites[1]
    steer(story, SLOWER, 0, story.sites[0])
    tried: list[fx.Train] = []

    def fail_once(site: SimulatedSite, _count: int) -> bool:
        effect = site.next_effect
        if site is victim and isinstance(effect, fx.Train) and not tried:
            tried.append(effect)
            story.world.submit(site, ev.TrainingFailed(story.study, "oom", "no memory"), 0.0)
        return False

    story.world.before_effect = fail_once
    story.boot(*story.sites)
    assert story.completes()
    check(story)
    [record] = steered(story, victim)
    after = [used for (_, round_), used in victim.trained_with.items() if round_ >= record.round]
    assert after
    assert all(used == SLOWER for used in after)


def test_values_that_are_on_their_way_to_the_ledger_are_used_and_written_once() -> None:
    story = begin(terms=TERMS)
    mandate, tell = fx.Mandate(story.study, 3), Telling(story.study)
    following = Following(StudyHistory())
    following.heard = message(story)
    [append, _] = following.begin(tell, mandate, Round(1))
    assert isinstance(append, fx.Append)
    assert append.approved_seq == 3
    assert following.begin(tell, mandate, Round(1)) == []
    assert following.arguments == SLOWER
