"""Who belongs to the consortium, as a state machine: `handle(now, event) -> [effect]`.

Votes on the next roster, their spread, and members' newer cards. No I/O, clock or randomness.
Effects are performed in order, and the next event is handled after them: an entry is durable
before the statement that it records leaves the site, so no crash makes a site say two things.
What may be said in a vote is decided in `membership_voice`; see `gossip.roster_votes`."""

from collections.abc import Iterable
from typing import assert_never

from gossip.card import Card, decode_card
from gossip.errors import PeerError
from gossip.identifiers import Digest, SiteId
from gossip.limits import ROSTER_WANTED_MAX
from gossip.rate import TokenBucket
from gossip.roster import Roster
from gossip.roster_chain import Chain, Link, Voted, certificate_of, decode_link, verify_link
from gossip.roster_change import Change, apply_change, decode_change
from gossip.roster_messages import ItemKind, RosterHeld, RosterItem, RosterItems, RosterWanted
from gossip.roster_votes import Lock, Statement, decode_statement
from ledger.provenance import kinds
from p2pfl.core import membership_spread as spread
from p2pfl.core import membership_terms as terms
from p2pfl.core import membership_words as words
from p2pfl.core.ballots import Ballots, Candidate, Conflict
from p2pfl.core.drafts import NODE_ACTOR
from p2pfl.core.membership_cards import check_renewal, effective, is_newer, still_newer
from p2pfl.core.membership_terms import MembershipEffect, OwnWord, VoteRefused
from p2pfl.core.membership_voice import OPERATOR, Utterance, Voice

SIGNED_TWICE = "RosterSignedTwice"


class Membership:
    """One site's part in deciding who is a member.

    chain: the rosters up to the one in force. word: what the own ledger says this site said about
    its successor. lock, held: what was kept of the vote when the node stopped."""

    def __init__(
        self,
        me: SiteId,
        identity_seed: bytes,
        chain: Chain,
        word: OwnWord,
        *,
        lock: Lock | None = None,
        held: Iterable[RosterItem] = (),
    ) -> None:
        self.me = me
        self.chain = chain
        self.connected: set[SiteId] = set()
        self._seed = identity_seed
        self._cards = still_newer(chain.in_force, chain.cards)
        self._buckets: dict[SiteId, TokenBucket] = {}
        self._senders: dict[SiteId, TokenBucket] = {}
        self._blamed: set[SiteId] = set()
        self._other_rosters: set[SiteId] = set()
        self.may_speak = False
        """Whether the own log is known to be whole, so that nothing that was said is forgotten."""
        self._begin_version(word)
        self._restore(lock, held)

    def _begin_version(self, word: OwnWord) -> None:
        self.ballots = Ballots(self.chain.in_force)
        self._voice = Voice(self.me, self._seed, self.ballots, word)
        self._spread = spread.Spread()

    @property
    def roster(self) -> Roster:
        """The version in force."""
        return self.chain.in_force

    @property
    def members(self) -> Roster:
        """The version in force with everybody's newest card."""
        return effective(self.roster, self._cards.values())

    @property
    def cards(self) -> tuple[Card, ...]:
        """Cards newer than the roster's, by site."""
        return tuple(self._cards[site] for site in sorted(self._cards))

    @property
    def word(self) -> OwnWord:
        """What this site said about the next version."""
        return self._voice.word

    @property
    def is_member(self) -> bool:
        """Whether this site belongs to the version in force."""
        return self.me in self.roster

    def farewells(self) -> dict[bytes, RosterItems]:
        """Former members' transport keys → what proves to each that it was removed."""
        return spread.farewells(self.chain)

    # -- dispatch --------------------------------------------------------------------------------

    def handle(self, now_s: float, event: terms.MembershipEvent) -> list[MembershipEffect]:
        """What to do about an event. Raises VoteRefused or PeerError for what a person asks;
        nothing that a member sends makes it raise."""
        match event:
            case terms.Proposed(change=change):
                return self._propose(change)
            case terms.Signed(candidate=candidate):
                return self._sign(candidate)
            case terms.VotedAgain():
                return self._said(self._voice.close())
            case terms.Renewed(card=card):
                return self._renew(card)
            case terms.FileSigned(roster=roster):
                draft = self._voice.sign_file(roster.digest)
                return [] if draft is None else [terms.Record((draft,))]
            case terms.RosterGiven(link=link):
                return self._advance(link)
            case terms.Met(site=site):
                self.connected.add(site)
                return self._tell_held(site)
            case terms.Lost(site=site):
                self.connected.discard(site)
                return []
            case terms.Said(sender=sender, message=message):
                return self._heard(now_s, sender, message)
            case terms.Tick():
                return [*self._react(), *self._tell_held(None)]
            case _:
                assert_never(event)

    # -- people ----------------------------------------------------------------------------------

    def _propose(self, change: Change) -> list[MembershipEffect]:
        roster = apply_change(self.roster, change)
        digest = roster.digest
        is_new = digest not in self.ballots.candidates
        said = self._voice.sign(digest)  # refused before anything is held
        self.ballots.hold(Candidate(change, roster))
        proposed = kinds.RosterProposed(roster.version, digest, self.roster.digest)
        before = (terms.Record((proposed.draft(OPERATOR),)),) if is_new else ()
        return [*before, *self._said(said)]

    def _sign(self, candidate: Digest) -> list[MembershipEffect]:
        if candidate == self.roster.digest:
            return []  # others were faster
        if candidate not in self.ballots.candidates:
            raise VoteRefused(
                f"No proposal {candidate.hex()[:12]} is held here.",
                fix="`p2pfl roster status` lists what can be signed.",
            )
        return self._said(self._voice.sign(candidate))

    def _said(self, said: Utterance | None) -> list[MembershipEffect]:
        """Hold, record and tell a person's statement."""
        if said is None:
            return []
        self.ballots.take(said.statement)
        return [*self._uttered([said]), *self._react()]

    def _uttered(self, said: list[Utterance]) -> list[MembershipEffect]:
        """Own statements: kept, then on record, then told."""
        statements = [each.statement for each in said]
        return [
            terms.Keep(),
            terms.Record(tuple(each.draft for each in said)),
            terms.Tell(None, spread.told(statements, self.ballots)),
        ]

    def _renew(self, card: Card) -> list[MembershipEffect]:
        check_renewal(self.roster, card)
        known = self._cards.get(card.site) or self.roster.member(card.site)
        if card.site != self.me or not is_newer(card, known):
            raise VoteRefused(
                f"This card has serial {card.serial}, the one in force {known.serial}.",
                fix="Make the card anew.",
            )
        if effective(self.roster, [*self._others_cards(), card]).member(card.site) != card:
            raise VoteRefused(
                "Another member has one of these addresses or keys already.",
                fix="Compare with `p2pfl roster show`, and give addresses that only this site has.",
            )
        self._cards[card.site] = card
        items = RosterItems((spread.card_item(card),))
        return [*self._card_taken(card, OPERATOR), terms.Tell(None, items)]

    def _others_cards(self) -> list[Card]:
        return [card for card in self.cards if card.site != self.me]

    # -- what others say -------------------------------------------------------------------------

    def _heard(
        self, now_s: float, sender: SiteId, message: RosterHeld | RosterWanted | RosterItems
    ) -> list[MembershipEffect]:
        if sender not in self.roster or sender == self.me or not self.is_member:
            return []
        try:
            match message:
                case RosterHeld():
                    return self._told_of(now_s, sender, message)
                case RosterWanted():
                    return self._asked(now_s, sender, message)
                case RosterItems(items=items):
                    return self._given(now_s, sender, items)
                case _:
                    assert_never(message)
        except PeerError as error:
            return [terms.Refused(sender, error.rule)]

    def _told_of(self, now_s: float, sender: SiteId, held: RosterHeld) -> list[MembershipEffect]:
        version = self.roster.version
        if held.version > version:
            return [terms.Tell(sender, RosterWanted(version, ()))]
        if held.version < version:
            return self._send_links(now_s, sender, held.version)
        if held.digest != self.roster.digest:
            return self._other_roster(sender, held)
        asked = self._spread.wanted(self.ballots, self.cards, held.ids)
        return [] if asked is None else [terms.Tell(sender, asked)]

    def _asked(self, now_s: float, sender: SiteId, asked: RosterWanted) -> list[MembershipEffect]:
        if asked.version != self.roster.version:
            return self._send_links(now_s, sender, asked.version)
        items = self._spread.answer(self.ballots, self.cards, asked.ids)
        return [] if items is None else [terms.Tell(sender, items)]

    def _send_links(self, now_s: float, sender: SiteId, version: int) -> list[MembershipEffect]:
        links = spread.links_after(self.chain, version)
        if links is None or not self._spread.may_send_links(now_s, sender):
            return []
        return [terms.Tell(sender, links)]

    def _other_roster(self, sender: SiteId, held: RosterHeld) -> list[MembershipEffect]:
        if sender in self._other_rosters:
            return []
        self._other_rosters.add(sender)
        return [words.other_roster(self.roster, sender, held)]

    def _given(
        self, now_s: float, sender: SiteId, items: tuple[RosterItem, ...]
    ) -> list[MembershipEffect]:
        effects: list[MembershipEffect] = []
        bucket = self._senders.setdefault(sender, TokenBucket(terms.ITEMS_PER_S, terms.ITEMS_BURST))
        try:
            for item in items:
                if bucket.take(now_s):
                    effects += self._take(now_s, item)
        except PeerError as error:
            effects.append(terms.Refused(sender, error.rule))
        effects += self._react()
        missing = self.ballots.missing()
        if missing and any(item.kind is ItemKind.STATEMENT for item in items):
            asked = missing[:ROSTER_WANTED_MAX]
            effects.append(terms.Tell(sender, RosterWanted(self.roster.version, asked)))
        return effects

    def _take(self, now_s: float, item: RosterItem) -> list[MembershipEffect]:
        match item.kind:
            case ItemKind.LINK:
                link = decode_link(item.raw)
                is_next = link.change.previous == self.roster.digest
                return self._advance(link) if is_next else []
            case ItemKind.STATEMENT:
                return self._take_statement(decode_statement(item.raw))
            case ItemKind.CHANGE:
                return self._take_change(decode_change(item.raw))
            case ItemKind.CARD:
                return self._take_card(now_s, decode_card(item.raw))
            case _:
                assert_never(item.kind)

    def _take_statement(self, statement: Statement) -> list[MembershipEffect]:
        if statement.previous != self.roster.digest:
            return []  # of a vote that is over, or on a roster that is not known here yet
        taken = self.ballots.take(statement)
        if isinstance(taken, Conflict):
            return self._conflict(taken)
        if not taken:
            return []
        if statement.site == self.me and not self._voice.is_on_record(statement):
            draft = self._voice.relearn(statement)
            return [terms.Keep()] if draft is None else [terms.Keep(), terms.Record((draft,))]
        return [terms.Keep()]

    def _conflict(self, conflict: Conflict) -> list[MembershipEffect]:
        """Provable, and once per member and version: nobody fills logs with it."""
        site = conflict.first.site
        if site in self._blamed:
            return []
        self._blamed.add(site)
        draft = kinds.PeerMisbehaved(site, SIGNED_TWICE, 1).draft(NODE_ACTOR)
        return [
            terms.KeepConflict(conflict.first, conflict.second),
            terms.Record((draft,)),
            words.said_twice(self.roster, conflict.first),
        ]

    def _take_change(self, change: Change) -> list[MembershipEffect]:
        if change.previous != self.roster.digest:
            return []
        candidate = self.ballots.propose(change)
        if candidate is None:
            return []
        return [terms.Keep(), words.proposed(candidate.roster)]

    def _take_card(self, now_s: float, card: Card) -> list[MembershipEffect]:
        check_renewal(self.roster, card)
        known = self._cards.get(card.site) or self.roster.member(card.site)
        if not is_newer(card, known) or card.serial <= self.roster.member(card.site).serial:
            return []
        bucket = self._buckets.setdefault(
            card.site, TokenBucket(terms.CARDS_PER_S, terms.CARDS_BURST)
        )
        if not bucket.take(now_s):
            return []  # it is told again
        self._cards[card.site] = card
        return [*self._card_taken(card, NODE_ACTOR), words.renewed(card)]

    def _card_taken(self, card: Card, actor: str) -> list[MembershipEffect]:
        record = kinds.CardRenewed(card.site, card.serial, card.digest)
        return [terms.Keep(), terms.Record((record.draft(actor),)), terms.Members(self.members)]

    # -- what follows ----------------------------------------------------------------------------

    def _react(self) -> list[MembershipEffect]:
        """Accept what a quorum signed, and put into force what a quorum accepted."""
        effects: list[MembershipEffect] = []
        if self.may_speak:
            accepted = list(self._voice.accept())
            for each in accepted:
                self.ballots.take(each.statement)
            effects += self._uttered(accepted) if accepted else []
        certificate = self.ballots.certificate()
        return effects if certificate is None else [*effects, *self._advance(certificate)]

    def _advance(self, link: Link) -> list[MembershipEffect]:
        """The next version is in force. Raises PeerError unless the link proves it."""
        before, after = self.roster, verify_link(self.roster, link)
        certificate = certificate_of(link) if isinstance(link, Voted) else b""
        changed = kinds.RosterChanged(after.version, after.digest, len(after.members), certificate)
        # A signature on the next version's file may have been given already; votes begin here.
        self.chain = Chain(
            self.chain.base,
            (*self.chain.links, link),
            (*self.chain.rosters, after),
        )
        self._cards = still_newer(after, self._cards.values())
        self._begin_version(OwnWord(after.version + 1))
        removed = tuple(site for site in before.sites if site not in after)
        self._blamed.clear()
        self._other_rosters.clear()
        farewell = spread.links_after(self.chain, before.version)
        assert farewell is not None, "the link that was just added"
        self.connected -= set(removed)
        return [
            terms.KeepLink(after.version, link),
            terms.CutOff(self.members),
            terms.Record((changed.draft(NODE_ACTOR),)),
            terms.Install(after, removed, farewell),
            terms.Members(self.members),
            words.in_force(before, after, self.me),
            terms.Tell(None, self._spread.held(self.ballots, self.cards)),
        ]

    def _tell_held(self, site: SiteId | None) -> list[MembershipEffect]:
        if not self.is_member or not (self.connected if site is None else site in self.roster):
            return []
        return [terms.Tell(site, self._spread.held(self.ballots, self.cards))]

    # -- a start ---------------------------------------------------------------------------------

    def _restore(self, lock: Lock | None, held: Iterable[RosterItem]) -> None:
        """What was kept; own statements only as far as the ledger has them.

        Raises PeerError for what is damaged: nothing else was ever kept."""
        self.ballots.raise_lock(lock)
        changes = []
        for item in held:
            if item.kind is ItemKind.CHANGE:
                changes.append(decode_change(item.raw))
            elif item.kind is ItemKind.STATEMENT:
                statement = decode_statement(item.raw)
                if statement.site != self.me or self._voice.is_on_record(statement):
                    self.ballots.take(statement)
        for own in self._voice.restored():
            self.ballots.take(own)
        for change in changes:
            self.ballots.propose(change)
