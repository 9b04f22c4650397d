"""A vote of three founders on a change of their roster: everything of it, with fixed keys."""

from dataclasses import dataclass, replace
from functools import cache

from gossip_people import bytes_of, founded, people, person

from gossip.card import Card, sign_card
from gossip.identifiers import SiteId
from gossip.roster import Roster, sign_roster
from gossip.roster_chain import Chain, Link, Unanimous, Voted, chain_from
from gossip.roster_change import Change, apply_change, change_of
from gossip.roster_messages import ItemKind, RosterHeld, RosterItem, RosterItems, RosterWanted
from gossip.roster_votes import (
    Close,
    Lock,
    Statement,
    accept_candidate,
    close_vote,
    encode_statement,
    in_order,
    quorum,
    sign_candidate,
)

MEMBERS = 3


def newer_card(index: int, serial: int = 1, **changes: object) -> Card:
    """Another card of the same site, with another transport key and address."""
    old = person(index)
    keys = replace(old.keys, transport=bytes_of(f"transport {index} {serial}"))
    stated = {
        "name": old.card.name,
        "log_id": old.card.log_id,
        "addresses": [f"10.9.0.{serial % 250}:4001"],
        "serial": serial,
        **changes,
    }
    return sign_card(keys, **stated)  # type: ignore[arg-type]  # a test's changes


@dataclass(frozen=True)
class Vote:
    """Three members, two of which are a quorum, vote in the fourth site."""

    roster: Roster
    change: Change
    candidate: Roster
    statements: tuple[Statement, ...]
    close: Close
    voted: Voted
    unanimous: Unanimous

    @property
    def chain(self) -> Chain:
        links: tuple[Link, ...] = (self.voted,)
        return chain_from(self.roster, links, (newer_card(0),))


@cache
def vote() -> Vote:
    roster = founded(MEMBERS)
    voters = people(MEMBERS)[: quorum(MEMBERS)]
    change = change_of(roster, cards=[person(3).card, newer_card(1)])
    candidate = apply_change(roster, change)
    digest = candidate.digest
    signs = [sign_candidate(v.keys.identity, roster, 1, digest) for v in voters]
    accepts = [accept_candidate(v.keys.identity, roster, 1, digest) for v in voters]
    signed = in_order({s.site: s.signature for s in signs}, quorum(MEMBERS))
    accepted = in_order({s.site: s.signature for s in accepts}, quorum(MEMBERS))
    lock = Lock(1, digest, signed)
    close = close_vote(voters[0].keys.identity, roster, 1, lock)
    renewed = apply_change(roster, change_of(roster, cards=[newer_card(2)]))
    signatures: dict[SiteId, bytes] = {}
    for each in people(MEMBERS):
        signatures |= sign_roster(renewed, each.keys.identity).signatures
    return Vote(
        roster,
        change,
        candidate,
        (*signs, *accepts),
        close,
        Voted(change, 1, signed, accepted),
        Unanimous(change_of(roster, cards=[newer_card(2)]), tuple(sorted(signatures.items()))),
    )


def about_rosters() -> list[RosterHeld | RosterWanted | RosterItems]:
    """One of each message about the roster."""
    made = vote()
    items = tuple(
        RosterItem(ItemKind.STATEMENT, encode_statement(each)) for each in made.statements[:2]
    )
    return [
        RosterHeld(1, made.roster.digest, (made.candidate.digest,)),
        RosterWanted(1, ()),
        RosterWanted(1, (made.candidate.digest,)),
        RosterItems(items),
    ]
