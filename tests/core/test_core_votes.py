"""Votes on the next roster: never two of them win, and one does when enough members agree."""

import pytest
from core_voters import World, candidates, electorate, explored, pairs, voter, voters

from gossip.identifiers import Digest, SiteId
from gossip.roster_change import apply_change
from gossip.roster_messages import RosterItems
from gossip.roster_votes import Statement, accept_candidate, sign_candidate
from ledger.provenance import kinds
from p2pfl.core import membership_terms as terms
from p2pfl.core.ballots import Candidate
from p2pfl.core.membership import Membership
from p2pfl.core.membership_spread import change_item, statement_item
from p2pfl.core.membership_terms import VoteRefused
from p2pfl.core.membership_voice import Voice

SEEDS = range(10)


def digest_of(members: int, number: int) -> Digest:
    return apply_change(electorate(members), candidates(members)[number]).digest


def propose(world: World, number: int, *sites: SiteId) -> None:
    for site in sites:
        assert world.act(site, terms.Proposed(candidates(world.members)[number]))


def items_of(statement: Statement) -> RosterItems:
    return RosterItems((statement_item(statement),))


# -- whatever happens ----------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "liars"), pairs(7))
def test_no_two_rosters_can_ever_follow_the_same_one(members: int, liars: int) -> None:
    for seed in SEEDS:
        world = explored(members, liars, seed, Membership)
        assert len(world.provable()) <= 1, f"seed {seed}"
        assert set(world.in_force().values()) <= world.provable(), f"seed {seed}"


class Forgetful(Voice):
    """Signs whatever it is asked to in a new vote, as if nobody had accepted anything before."""

    def _require_bound(self, vote: int, candidate: Digest) -> None:
        return


class Unbound(Membership):
    def _begin_version(self, word: terms.OwnWord) -> None:
        super()._begin_version(word)
        self._voice = Forgetful(self.me, self._seed, self.ballots, word)


def test_without_the_rule_of_the_lock_two_rosters_would_win() -> None:
    """The search above can fail: it finds what goes wrong where the rule is missing."""
    assert any(len(explored(3, 0, seed, Unbound).provable()) > 1 for seed in range(60))


@pytest.mark.parametrize(("members", "liars"), pairs(7))
def test_one_roster_wins_once_enough_members_agree(members: int, liars: int) -> None:
    world = explored(members, liars, 99, Membership)
    for _ in range(6):
        world.settle()
        if len(world.in_force()) == len(world.sites):
            break
        voting = [site for site in sorted(world.sites) if site not in world.in_force()]
        for site in voting:
            world.act(site, terms.VotedAgain())
        world.settle()
        for site in voting:
            ballots = world.sites[site].machine.ballots
            bound = ballots.bound(ballots.vote)
            change = candidates(members)[0] if bound is None else world.changes[bound.candidate]
            world.act(site, terms.Proposed(change))
    assert len(world.in_force()) == len(world.sites)
    assert len(set(world.in_force().values())) == 1


# -- a vote, step by step ------------------------------------------------------------------------


def test_a_quorum_of_signatures_puts_a_roster_into_force_everywhere() -> None:
    world = World(4, 0)
    one, two, three, four = sorted(world.sites)
    propose(world, 0, one)
    world.settle()
    assert world.in_force() == {}
    for site in (two, three):
        assert world.act(site, terms.Signed(digest_of(4, 0)))
    world.settle()
    assert set(world.in_force()) == {one, two, three, four}
    assert set(world.in_force().values()) == {digest_of(4, 0)}
    records = world.sites[four].drafts
    assert [type(record) for record in records] == [kinds.RosterAccepted, kinds.RosterChanged]
    accepted = records[0]
    assert isinstance(accepted, kinds.RosterAccepted)
    assert accepted.signers == (one, two, three)


def test_two_proposals_at_once_are_settled_by_voting_again() -> None:
    world = World(4, 0)
    one, two, three, four = sorted(world.sites)
    propose(world, 0, one, two)
    propose(world, 1, three, four)
    world.settle()
    assert world.in_force() == {}
    assert not world.act(one, terms.Signed(digest_of(4, 1))), "one signature per vote"
    for site in (one, two, three, four):
        assert world.act(site, terms.VotedAgain())
    world.settle()
    for site in (one, two, three):
        assert world.act(site, terms.Signed(digest_of(4, 1)))
    world.settle()
    assert set(world.in_force().values()) == {digest_of(4, 1)}


def test_what_was_accepted_somewhere_is_all_that_can_be_signed_afterwards() -> None:
    world = World(4, 0)
    one, two, three, four = sorted(world.sites)
    propose(world, 0, one, two, three)
    for number in range(len(world.mail)):  # only the first learns that there is a quorum
        sender, to, message = world.mail[number]
        if to == one:
            world.act(to, terms.Said(sender, message))
    world.mail.clear()
    assert isinstance(world.sites[one].drafts[-1], kinds.RosterAccepted)
    for site in (one, two, four):
        assert world.act(site, terms.VotedAgain())
    world.settle()
    assert not world.act(four, terms.Proposed(candidates(4)[1]))
    machine = world.sites[four].machine
    with pytest.raises(VoteRefused, match="A quorum signed"):
        machine.handle(0.0, terms.Proposed(candidates(4)[1]))
    for site in (one, two, four):
        assert world.act(site, terms.Signed(digest_of(4, 0)))
    world.settle()
    assert set(world.in_force().values()) == {digest_of(4, 0)}


def test_nothing_is_said_in_a_vote_that_was_closed() -> None:
    world = World(4, 0)
    one, two, three, four = sorted(world.sites)
    world.act(four, terms.VotedAgain())
    propose(world, 0, one, two, three)
    with pytest.raises(VoteRefused, match="closed vote 1"):
        world.sites[four].machine.handle(0.0, terms.Proposed(candidates(4)[0]))
    world.settle()
    assert not [r for r in world.sites[four].drafts if isinstance(r, kinds.RosterAccepted)]
    assert four in world.in_force(), "what the others put into force counts here, too"


def test_a_removed_member_learns_it_and_has_no_vote_any_more() -> None:
    world = World(4, 0)
    *others, gone = electorate(4).sites
    propose(world, 2, *others)
    world.settle()
    machine = world.sites[gone].machine
    assert not machine.is_member
    with pytest.raises(VoteRefused, match="no member any more"):
        machine.handle(0.0, terms.VotedAgain())
    assert machine.handle(0.0, terms.Tick()) == []


def test_who_was_removed_while_it_was_away_learns_it_from_what_former_members_are_told() -> None:
    world = World(4, 0)
    *others, gone = electorate(4).sites
    away = world.sites.pop(gone)
    propose(world, 2, *others)
    world.settle()
    assert away.machine.is_member
    told = world.sites[others[0]].machine.farewells()
    assert told.keys() == {away.who.card.transport_pk}
    effects = away.machine.handle(0.0, terms.Said(others[0], told[away.who.card.transport_pk]))
    assert not away.machine.is_member
    shown = [effect.sentence for effect in effects if isinstance(effect, terms.Show)]
    assert any("THIS SITE WAS REMOVED" in sentence for sentence in shown)
    assert away.machine.farewells() == told


def test_members_of_now_are_told_no_farewell_though_they_joined_later() -> None:
    world = World(4, 0)
    propose(world, 0, *electorate(4).sites)
    world.settle()
    assert all(site.machine.farewells() == {} for site in world.sites.values())


def test_a_site_that_slept_through_versions_is_given_the_chain() -> None:
    world = World(4, 0)
    one, two, three, four = sorted(world.sites)
    propose(world, 0, one, two, three)
    world.mail = [each for each in world.mail if four not in each[:2]]
    sleeping = world.sites.pop(four)
    world.settle()
    world.sites[four] = sleeping
    assert sleeping.machine.roster.version == 1
    world.mail.clear()
    world.act(four, terms.Tick())
    world.settle()
    assert world.in_force()[four] == digest_of(4, 0)


# -- memory --------------------------------------------------------------------------------------


def test_a_statement_that_was_not_on_record_is_forgotten_with_the_crash() -> None:
    world = World(3, 0)
    site = min(world.sites)
    world.act(site, terms.Proposed(candidates(3)[0]), survives=2)  # proposed, kept, then cut
    assert world.sites[site].machine.word.signed == {}
    assert world.act(site, terms.Proposed(candidates(3)[1]))


def test_a_statement_on_record_is_said_again_after_the_crash() -> None:
    world = World(3, 0)
    one, two, _ = sorted(world.sites)
    world.act(one, terms.Proposed(candidates(3)[0]), survives=3)  # recorded, and never told
    assert not world.act(one, terms.Proposed(candidates(3)[1]))
    world.settle()
    assert world.act(two, terms.Signed(digest_of(3, 0)))


def test_a_site_that_lost_its_ledger_is_given_back_what_it_said() -> None:
    world = World(4, 0)
    one, *_ = sorted(world.sites)
    propose(world, 0, one)
    world.settle()
    lost = world.sites[one]
    lost.drafts, lost.held, lost.lock = [], (), None
    world.crash(one)
    assert lost.machine.word.signed == {}
    world.settle()
    assert lost.machine.word.signed == {1: digest_of(4, 0)}
    assert [r for r in lost.drafts if isinstance(r, kinds.RosterSigned)]
    assert not world.act(one, terms.Proposed(candidates(4)[1]))


# -- liars ---------------------------------------------------------------------------------------


def test_who_signs_two_proposals_in_one_vote_is_proven_to_have() -> None:
    world = World(4, 1)
    liar, one = voters(4)[0], min(world.sites)
    seed, roster = liar.keys.identity, world.roster
    effects = []
    for number in (0, 1):
        signed = sign_candidate(seed, roster, 1, digest_of(4, number))
        said = terms.Said(liar.card.site, items_of(signed))
        effects += world.sites[one].machine.handle(0.0, said)
    proofs = [each for each in effects if isinstance(each, terms.KeepConflict)]
    assert len(proofs) == 1
    assert {proofs[0].first.site, proofs[0].second.site} == {liar.card.site}
    recorded = [d.body["reason"] for e in effects if isinstance(e, terms.Record) for d in e.drafts]
    assert recorded == ["RosterSignedTwice"]


def test_acceptance_alone_puts_nothing_into_force() -> None:
    world = World(4, 1)
    liar, one = voters(4)[0], min(world.sites)
    accepted = accept_candidate(liar.keys.identity, world.roster, 1, digest_of(4, 0))
    world.act(one, terms.Said(liar.card.site, items_of(accepted)))
    world.settle()
    assert world.in_force() == {}


def test_a_candidate_that_nobody_speaks_for_is_not_kept() -> None:
    world = World(4, 1)
    liar, one = voters(4)[0], min(world.sites)
    ballots = world.sites[one].machine.ballots
    candidate = Candidate(candidates(4)[0], world.roster)
    world.act(one, terms.Said(liar.card.site, RosterItems((change_item(candidate),))))
    assert ballots.candidates == {}


def test_what_one_member_says_is_bounded() -> None:
    world = World(4, 1)
    liar, one = voters(4)[0], min(world.sites)
    for vote in range(1, 40):
        signed = sign_candidate(liar.keys.identity, world.roster, vote, digest_of(4, 0))
        world.act(one, terms.Said(liar.card.site, items_of(signed)))
    assert len(list(world.sites[one].machine.ballots.statements())) == 4


def test_a_flood_of_things_from_one_member_is_checked_up_to_a_rate() -> None:
    world = World(4, 1)
    liar, one = voters(4)[0], min(world.sites)
    machine = world.sites[one].machine
    signed = items_of(sign_candidate(liar.keys.identity, world.roster, 1, digest_of(4, 0)))
    flood = RosterItems(signed.items * 256)
    for _ in range(4):  # what is allowed at once
        machine.handle(0.0, terms.Said(liar.card.site, flood))
    fresh = items_of(sign_candidate(liar.keys.identity, world.roster, 2, digest_of(4, 0)))
    machine.handle(0.0, terms.Said(liar.card.site, fresh))
    assert len(list(machine.ballots.statements())) == 1
    machine.handle(1.0, terms.Said(liar.card.site, fresh))
    assert len(list(machine.ballots.statements())) == 2


def test_a_newcomer_has_no_vote_before_it_is_a_member() -> None:
    world = World(4, 0)
    one = min(world.sites)
    stranger = voter(100)
    signed = sign_candidate(stranger.keys.identity, world.roster, 1, digest_of(4, 0))
    machine = world.sites[one].machine
    assert machine.handle(0.0, terms.Said(stranger.card.site, items_of(signed))) == []
    said = terms.Said(max(world.sites), items_of(signed))
    assert [type(e) for e in machine.handle(0.0, said)] == [terms.Refused]
