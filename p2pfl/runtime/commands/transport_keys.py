"""Replacing the transport key: the site's newer card names the new one, its identity key signs it.

The new key is durable under another name before the card is on record, and takes its place after:
no stop in between leaves a card in force whose key is lost. The node has to be stopped meanwhile,
because what it says under the old key would be laid to it by whoever knows the new card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gossip import ed25519
from gossip.keys import Role
from gossip.roster_messages import RosterItems
from p2pfl.core import membership_terms as terms
from p2pfl.core.membership_cards import check_renewal, is_newer
from p2pfl.core.membership_spread import card_item
from p2pfl.runtime.commands.founding import read_card
from p2pfl.runtime.commands.log_keys import keep_next_key, settle_transport_key
from p2pfl.runtime.commands.opening import Site, required_version
from p2pfl.runtime.commands.roster_voting import renew_card
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, OperatorError
from p2pfl.runtime.membership import refusals_for_people

__all__ = ["CardTaken", "TakeCard", "TransportRotated", "rotate_transport", "take_card"]


@dataclass(frozen=True, slots=True)
class TransportRotated:
    """The site's newer card, and the keys before and after."""

    card: Path
    serial: int
    old: bytes
    new: bytes


def rotate_transport(site: Site, *, is_confirmed: bool) -> TransportRotated:
    """A new transport key in a home whose node is stopped. Raises OperatorError."""
    required_version(site.home)
    if not is_confirmed:
        raise OperatorError(
            "The transport key would be replaced: until a member has this site's new card, "
            "nobody lets its node in.",
            fix="Do it with --yes, then hand the card to a member: `p2pfl roster take-card CARD`.",
            exit_code=EXIT_REFUSED,
        )
    seed = site.random_bytes(ed25519.SEED_BYTES)
    keep_next_key(site.home, Role.TRANSPORT, seed)
    old = ed25519.public_key_of(site.keys.transport)
    try:
        card = renew_card(site, keys=replace(site.keys, transport=seed))
    finally:
        settle_transport_key(site.home)
    return TransportRotated(
        site.home.card(site.config.name), card.serial, old, ed25519.public_key_of(seed)
    )


@dataclass(frozen=True, slots=True)
class TakeCard:
    """A newer card of a member, as a file."""

    file: Path


@dataclass(frozen=True, slots=True)
class CardTaken:
    """Whose card it is, and its serial number."""

    name: str
    site: bytes
    serial: int


def take_card(site: Site, request: TakeCard) -> CardTaken:
    """Put a member's newer card on record, and pass it on. Its own signature is all it needs.

    Raises OperatorError."""
    card = read_card(request.file)
    roster = site.votes.look(lambda machine: machine.members)
    with refusals_for_people():
        check_renewal(roster, card)
    known = roster.member(card.site)
    if known == card:
        return CardTaken(card.name, card.site, card.serial)
    if card.site == site.keys.site or not is_newer(card, known):
        raise OperatorError(
            f"It is no newer card of another member: serial {card.serial}, known is "
            f"{known.serial}.",
            fix=f"Ask {known.name} for its newest card (`<home>/<name>.card`).",
            exit_code=EXIT_DATA,
        )
    # A card is its site's own word, whoever carries it.
    site.votes.act(terms.Said(card.site, RosterItems((card_item(card),))))
    if site.votes.look(lambda machine: machine.members).member(card.site) != card:
        raise OperatorError(
            "The card was not taken: another member has one of its addresses or keys already, "
            "or this member sent too many.",
            fix="Compare `p2pfl roster show` with that site by telephone; try again in a minute.",
            exit_code=EXIT_REFUSED,
        )
    return CardTaken(card.name, card.site, card.serial)
