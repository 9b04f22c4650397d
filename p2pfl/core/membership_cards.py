"""Members' newest cards: keys and addresses change without a vote, by the site's own statement.

A newer card names other keys or addresses and nothing else: name and log stay what the members
agreed to. Of two cards with one serial number the one with the smaller digest counts everywhere."""

from collections.abc import Iterable

from gossip.card import Card
from gossip.errors import CardInvalid, DuplicateMember
from gossip.identifiers import NO_DIGEST, Digest, SiteId
from gossip.roster import Roster, draft_roster
from gossip.roster_chain import Chain


def check_renewal(roster: Roster, card: Card) -> None:
    """A card may take the place of the one that was voted. Raises NotOnRoster, CardInvalid."""
    voted = roster.member(card.site)
    if card.name != voted.name or card.log_id != voted.log_id:
        raise CardInvalid("another name or log needs a vote", expected=voted.name, actual=card.name)


def is_newer(card: Card, known: Card) -> bool:
    """Whether a card takes the place of another of the same site."""
    if card.serial != known.serial:
        return card.serial > known.serial
    return card.digest < known.digest


def still_newer(roster: Roster, cards: Iterable[Card]) -> dict[SiteId, Card]:
    """Of these cards, those that count beside this roster."""
    kept: dict[SiteId, Card] = {}
    for card in cards:
        if card.site not in roster:
            continue
        voted = roster.member(card.site)
        stays = card.name == voted.name and card.log_id == voted.log_id
        if stays and card.serial > voted.serial:
            held = kept.get(card.site)
            if held is None or is_newer(card, held):
                kept[card.site] = card
    return kept


def effective(roster: Roster, cards: Iterable[Card]) -> Roster:
    """The roster with everybody's newest card, unsigned: whom to talk to, where and how.

    A card whose keys or addresses another member has already waits: the one before it counts.
    Its digest is none of a version; the same cards give the same members everywhere."""
    newer = still_newer(roster, cards)
    if not newer:
        return roster
    members = {card.site: card for card in roster.members}
    for site in sorted(newer):
        tried = {**members, site: newer[site]}
        try:
            made = _with(roster, tried.values())
        except DuplicateMember:
            continue
        members = {card.site: card for card in made.members}
    return _with(roster, members.values())


def alone(chain: Chain, site: SiteId) -> Roster:
    """For a site that was removed: nobody but itself, as it was a member last."""
    last = next(roster for roster in reversed(chain.rosters) if site in roster)
    return _with(last, [last.member(site)])


def _with(roster: Roster, cards: Iterable[Card]) -> Roster:
    previous = Digest(roster.previous) if roster.version > 1 else NO_DIGEST
    return draft_roster(roster.consortium, cards, version=roster.version, previous=previous)
