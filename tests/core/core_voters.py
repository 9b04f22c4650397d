"""A small world of membership machines: what they say gets lost, reordered, repeated; they crash.

Members 0 … liars−1 say whatever their keys can sign. `said` holds every statement that anybody ever
made: if two different rosters can be proven from it, the vote has failed, whoever believed what."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from gossip.card import Card, sign_card
from gossip.errors import ChangeInvalid
from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster, draft_roster, sign_roster
from gossip.roster_chain import Chain
from gossip.roster_change import Change, apply_change, change_of
from gossip.roster_messages import ItemKind, RosterItem, RosterItems, RosterMessage
from gossip.roster_votes import (
    Accept,
    Close,
    Lock,
    Sign,
    Statement,
    accept_candidate,
    close_vote,
    decode_statement,
    faulty_max,
    in_order,
    quorum,
    sign_candidate,
)
from ledger.log import Draft
from ledger.provenance import kinds
from ledger.provenance.terms import RecordBody
from p2pfl.core import membership_terms as terms
from p2pfl.core.ballots import Candidate
from p2pfl.core.membership import Membership
from p2pfl.core.membership_spread import change_item, statement_item
from p2pfl.core.membership_terms import OwnWord, VoteRefused

CONSORTIUM = "voters"


@dataclass(frozen=True)
class Voter:
    keys: SiteKeys
    card: Card


@cache
def voter(index: int, serial: int = 0) -> Voter:
    keys = SiteKeys(*(bytes([role, index % 256, index // 256]) + bytes(29) for role in range(4)))
    card = sign_card(
        keys,
        name=f"voter {index}",
        log_id=bytes([9, index % 256]) + bytes(30),
        addresses=[f"10.1.{index // 256}.{index % 256}:{4001 + serial}"],
        serial=serial,
    )
    return Voter(keys, card)


@cache
def voters(count: int) -> tuple[Voter, ...]:
    return tuple(sorted(map(voter, range(count)), key=lambda each: each.card.site))


@cache
def electorate(count: int) -> Roster:
    roster = draft_roster(CONSORTIUM, [each.card for each in voters(count)])
    for each in voters(count):
        roster = sign_roster(roster, each.keys.identity)
    return roster


@cache
def candidates(count: int) -> tuple[Change, ...]:
    """Three changes of the founding roster: two that add, one that removes where it can."""
    roster = electorate(count)
    adding = [change_of(roster, cards=[voter(100 + n).card]) for n in range(2)]
    if count == 1:
        return tuple(adding)
    return (*adding, change_of(roster, remove=[roster.sites[-1]]))


def record_of(draft: Draft) -> kinds.Record:
    assert isinstance(draft.body, RecordBody)
    record = draft.body.record
    assert isinstance(record, kinds.Record)
    return record


@dataclass
class Site:
    """An honest member: its machine, and what is durable of it."""

    who: Voter
    machine: Membership
    drafts: list[kinds.Record] = field(default_factory=list)
    held: tuple[RosterItem, ...] = ()
    lock: Lock | None = None


class World:
    """`members` voters, of which the first `liars` by site lie."""

    def __init__(self, members: int, liars: int, machine: type[Membership] = Membership) -> None:
        self.members, self.liars = members, liars
        self.roster = electorate(members)
        self.made = machine
        self.now_s = 1_000.0
        self.sites = {v.card.site: self._site(v) for v in voters(members)[liars:]}
        self.mail: list[tuple[SiteId, SiteId, RosterMessage]] = []
        self.said: dict[bytes, Statement] = {}
        self.changes = {apply_change(self.roster, c).digest: c for c in candidates(members)}

    def _site(self, who: Voter) -> Site:
        return Site(who, self._machine(who, OwnWord(2), None, ()))

    def _machine(
        self, who: Voter, word: OwnWord, lock: Lock | None, held: Iterable[RosterItem]
    ) -> Membership:
        chain = Chain(self.roster, (), (self.roster,))
        made = self.made(who.card.site, who.keys.identity, chain, word, lock=lock, held=held)
        made.connected = set(self.roster.sites) - {who.card.site}
        made.may_speak = True
        made.handle(0.0, terms.Tick())
        return made

    # -- what happens ----------------------------------------------------------------------------

    def act(self, site: SiteId, event: terms.MembershipEvent, *, survives: int = 99) -> bool:
        """Have a machine handle something; it dies after `survives` effects. False if refused."""
        one = self.sites[site]
        try:
            effects = one.machine.handle(self.now_s, event)
        except (VoteRefused, ChangeInvalid):
            return False
        for effect in effects[:survives]:
            self._perform(one, effect)
        if len(effects) > survives:
            self.crash(site)
        return True

    def _perform(self, one: Site, effect: terms.MembershipEffect) -> None:
        match effect:
            case terms.Keep():
                ballots = one.machine.ballots
                statements = map(statement_item, ballots.statements())
                changes = map(change_item, ballots.candidates.values())
                one.held, one.lock = (*statements, *changes), ballots.lock
            case terms.Record(drafts=drafts):
                one.drafts += [record_of(draft) for draft in drafts]
            case terms.Tell(site=to, message=message):
                for site in [to] if to is not None else sorted(one.machine.connected):
                    self.mail.append((one.who.card.site, site, message))
                self._overhear(message)
            case _:
                pass

    def _overhear(self, message: RosterMessage) -> None:
        if isinstance(message, RosterItems):
            for item in message.items:
                if item.kind is ItemKind.STATEMENT:
                    self.said[item.raw] = decode_statement(item.raw)

    def crash(self, site: SiteId) -> None:
        """What was not durable is lost; then it starts again."""
        one = self.sites[site]
        if any(isinstance(record, kinds.RosterChanged) for record in one.drafts):
            return  # its vote is over: what it says does not matter any more
        word = OwnWord(2)
        for record in one.drafts:
            match record:
                case kinds.RosterSigned():
                    word.signed[record.vote] = Digest(record.hash)
                case kinds.RosterAccepted():
                    word.accepted[record.vote] = Digest(record.hash)
                case kinds.RosterClosed():
                    word.closed = record.vote
                    word.lock = (record.lock_vote, Digest(record.lock)) if record.lock else None
                case _:
                    pass
        one.machine = self._machine(one.who, word, one.lock, one.held)

    def deliver(self, number: int) -> None:
        """One message arrives, in whatever order."""
        sender, to, message = self.mail.pop(number % len(self.mail))
        if to in self.sites:
            self.act(to, terms.Said(sender, message))

    def settle(self) -> None:
        """Everything arrives, and what is held is told until nobody learns anything more."""
        for _ in range(12):
            while self.mail:
                self.deliver(0)
            self.now_s += 5.0
            for site in sorted(self.sites):
                self.act(site, terms.Tick())
            if len(self.in_force()) == len(self.sites):
                return

    # -- lies ------------------------------------------------------------------------------------

    def lie(self, dice: random.Random, favourite: Digest) -> None:
        """A liar says something to somebody: any candidate, any vote, any close."""
        who = voters(self.members)[dice.randrange(self.liars)]
        vote = dice.choice([1, 1, 1, 2, 2, 3])
        digest = dice.choice([favourite, favourite, *sorted(self.changes)])
        seed, roster = who.keys.identity, self.roster
        statement: Statement = dice.choice([sign_candidate, accept_candidate])(
            seed, roster, vote, digest
        )
        if dice.random() < 0.3:
            statement = close_vote(seed, roster, vote, self._some_lock(vote, dice))
        items = [statement_item(statement)]
        if not isinstance(statement, Close):
            items.append(change_item(Candidate(self.changes[digest], roster)))
        message = RosterItems(tuple(items))
        self._overhear(message)
        for site in dice.sample(sorted(self.sites), dice.randrange(1, len(self.sites) + 1)):
            self.mail.append((who.card.site, site, message))

    def _some_lock(self, vote: int, dice: random.Random) -> Lock | None:
        locks = [
            Lock(at, digest, in_order(signs, quorum(self.members)))
            for at in range(1, vote + 1)
            for digest in sorted(self.changes)
            if len(signs := self._behind(Sign, at, digest)) >= quorum(self.members)
        ]
        return dice.choice([None, *locks])

    # -- what came of it -------------------------------------------------------------------------

    def in_force(self) -> dict[SiteId, Digest]:
        """Who follows which successor."""
        return {
            site: one.machine.chain.rosters[1].digest
            for site, one in self.sites.items()
            if one.machine.roster.version > 1
        }

    def provable(self) -> set[Digest]:
        """Candidates that anybody could prove from everything ever said, with the liars' help."""
        return set(self._provable())

    def _provable(self) -> Iterator[Digest]:
        liars_n = self.liars  # a liar signs and accepts whatever helps
        votes = {s.vote for s in self.said.values() if isinstance(s, Accept)}
        for vote in votes:
            for digest in self.changes:
                honest = set(self._behind(Accept, vote, digest)) & set(self.sites)
                if len(honest) + liars_n >= quorum(self.members) and honest:
                    yield digest

    def _behind(
        self, kind: type[Sign] | type[Accept], vote: int, digest: Digest
    ) -> dict[SiteId, bytes]:
        return {
            s.site: s.signature
            for s in self.said.values()
            if isinstance(s, kind) and (s.vote, s.candidate) == (vote, digest)
        }


def explored(members: int, liars: int, seed: int, machine: type[Membership]) -> World:
    """A world in which anything happens, in an order that the seed draws: people take up a
    proposal, most of what they say arrives or hardly any of it, they vote again, sites crash."""
    dice = random.Random(seed)  # noqa: S311 - a simulation's dice
    world = World(members, liars, machine)
    for _ in range(dice.randrange(2, 5)):
        favourite = dice.choice(candidates(members))
        digest = apply_change(world.roster, favourite).digest
        for site in _some(world, dice, 0.8):
            event = terms.Proposed(favourite if dice.random() < 0.9 else _any(members, dice))
            world.act(site, event, survives=dice.choice([99] * 12 + [0, 1, 2, 3]))
        _lies(world, dice, digest)
        _mail(world, dice)
        for site in _some(world, dice, 0.7):
            world.act(site, terms.VotedAgain(), survives=dice.choice([99] * 12 + [0, 1, 2]))
        _lies(world, dice, digest)
        _mail(world, dice)
        for site in _some(world, dice, 0.1):
            world.crash(site)
    return world


def _some(world: World, dice: random.Random, share: float) -> list[SiteId]:
    chosen = [site for site in sorted(world.sites) if dice.random() < share]
    dice.shuffle(chosen)
    return chosen


def _any(members: int, dice: random.Random) -> Change:
    return dice.choice(candidates(members))


def _lies(world: World, dice: random.Random, favourite: Digest) -> None:
    for _ in range(dice.randrange(5) * world.liars):
        world.lie(dice, favourite)


def _mail(world: World, dice: random.Random) -> None:
    """Some of it arrives in any order, some is lost, the rest comes later."""
    arrives, lost, rounds = dice.choice(
        [(1.0, 0.0, 4), (0.9, 0.3, 2), (0.4, 0.9, 1), (0.8, 1.0, 2)]
    )
    for _ in range(rounds):
        for _ in range(int(arrives * len(world.mail)) + 1):
            if world.mail:
                world.deliver(dice.randrange(len(world.mail)))
    world.mail = [each for each in world.mail if dice.random() >= lost]


def pairs(count: int) -> list[tuple[int, int]]:
    """Sizes of consortia with every number of liars that they stand."""
    return [(n, f) for n in range(1, count + 1) for f in range(faulty_max(n) + 1)]
