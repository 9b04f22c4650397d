"""A proposed change of the roster: who leaves, and whose card is new.

Applied to the roster in force it gives the next one, whose digest is the proposal's name: two
people who propose the same change propose the same roster.

Format, msgpack as `gossip.wire` reads it:
  change  [1, digest of the roster in force, [site that leaves…], [card…]]     both ascending
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gossip.card import Card, decode_card, encode_card
from gossip.errors import ChangeInvalid, Garbled, TooLarge
from gossip.identifiers import ID_BYTES, Digest, SiteId
from gossip.limits import CARD_BYTES_MAX, CHANGE_BYTES_MAX, MEMBERS_MAX
from gossip.roster import Roster, draft_roster
from gossip.wire import Reader, pack

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Change:
    """previous: the roster that is changed. removed: members that leave, ascending.

    cards: of new members, and newer ones of members that stay, ascending by site. Whether it fits
    a roster is for `apply_change` to say."""

    previous: Digest
    removed: tuple[SiteId, ...]
    cards: tuple[Card, ...]


def change_of(
    roster: Roster, *, remove: Sequence[SiteId] = (), cards: Sequence[Card] = ()
) -> Change:
    """A change of this roster; cards that it holds already are left out."""
    known = {card.site: card for card in roster.members}
    new = sorted((c for c in cards if known.get(c.site) != c), key=lambda card: card.site)
    return Change(roster.digest, tuple(sorted(remove)), tuple(new))


def change_between(before: Roster, after: Roster) -> Change:
    """What turns one roster into the other."""
    gone = [site for site in before.sites if site not in after]
    return change_of(before, remove=gone, cards=after.members)


def apply_change(roster: Roster, change: Change) -> Roster:
    """The roster that a change leads to, unsigned.

    Raises ChangeInvalid, and RosterInvalid or DuplicateMember for what no roster may be."""
    if change.previous != roster.digest:
        raise ChangeInvalid(
            "it changes another roster",
            expected=roster.digest.hex(),
            actual=change.previous.hex(),
        )
    if not change.removed and not change.cards:
        raise ChangeInvalid("it changes nothing")
    members = {card.site: card for card in roster.members}
    for site in change.removed:
        if site not in members:
            raise ChangeInvalid("removes a site that is no member", actual=site.hex())
        del members[site]
    for card in change.cards:
        _check_card(card, members.get(card.site), change)
        members[card.site] = card
    return draft_roster(
        roster.consortium, members.values(), version=roster.version + 1, previous=roster.digest
    )


def _check_card(card: Card, present: Card | None, change: Change) -> None:
    if card.site in change.removed:
        raise ChangeInvalid("removes a site and names its card", actual=card.name)
    if present == card:
        raise ChangeInvalid("names a card that is in force already", actual=card.name)
    if present is not None and card.serial < present.serial:
        raise ChangeInvalid(
            f"an older card of {card.name}", expected=f"≥ {present.serial}", actual=card.serial
        )


def encode_change(change: Change) -> bytes:
    """At most `CHANGE_BYTES_MAX` bytes, or TooLarge."""
    cards = [encode_card(card) for card in change.cards]
    raw = pack((_FORMAT, change.previous, list(change.removed), cards))
    if len(raw) > CHANGE_BYTES_MAX:
        raise TooLarge("change", expected=f"at most {CHANGE_BYTES_MAX} bytes", actual=len(raw))
    return raw


def decode_change(data: bytes) -> Change:
    """A change from bytes that anybody may have written. Raises PeerError."""
    if len(data) > CHANGE_BYTES_MAX:
        raise TooLarge("change", expected=f"at most {CHANGE_BYTES_MAX} bytes", actual=len(data))
    reader = Reader(data)
    reader.array(4, 4)
    reader.integer(_FORMAT, _FORMAT)
    previous = Digest(reader.blob(ID_BYTES, ID_BYTES))
    removed = tuple(
        SiteId(reader.blob(ID_BYTES, ID_BYTES)) for _ in range(reader.array(0, MEMBERS_MAX))
    )
    encoded = [reader.blob(1, CARD_BYTES_MAX) for _ in range(reader.array(0, MEMBERS_MAX))]
    reader.end()
    if any(first >= second for first, second in pairwise(removed)):
        raise Garbled("sites that leave are not strictly ascending")
    cards = tuple(map(decode_card, encoded))
    if any(first.site >= second.site for first, second in pairwise(cards)):
        raise Garbled("cards are not strictly ascending by site")
    return Change(previous, removed, cards)
