"""Changing who is a member while the consortium runs: propose, sign, vote again, move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gossip.card import Card, encode_card, sign_card
from gossip.errors import FounderMissing
from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster
from gossip.roster_chain import encode_chain, verify_complete
from gossip.roster_change import change_of
from p2pfl.core import membership_terms as terms
from p2pfl.core.membership import Membership
from p2pfl.runtime.commands.founding import read_card
from p2pfl.runtime.commands.opening import Site, required_version
from p2pfl.runtime.commands.roster_seen import VoteSeen, vote_seen
from p2pfl.runtime.config import make_config, render_config
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_NO_INPUT, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, write_durably
from p2pfl.runtime.membership_files import read_chain

PREFIX_DIGITS_MIN = 6


@dataclass(frozen=True, slots=True)
class RosterStatus:
    """Nothing to say."""


def roster_status(site: Site, request: RosterStatus) -> VoteSeen:
    """Where the vote on the next roster stands. Raises OperatorError without a roster."""
    required_version(site.home)
    return site.votes.look(vote_seen)


@dataclass(frozen=True, slots=True)
class RosterPropose:
    """A change of the members. remove: names of members, or the beginnings of their fingerprints.

    add: card files of new members, or newer ones of members."""

    remove: tuple[str, ...]
    add: tuple[Path, ...]


def roster_propose(site: Site, request: RosterPropose) -> VoteSeen:
    """Propose the change, and sign it. Raises OperatorError."""
    roster = required_version(site.home)
    cards = [read_card(path) for path in request.add]
    given = {card.site for card in cards}
    # A new card of the same site takes the old one's place: nobody leaves.
    gone = [s for s in (find_member(roster, name) for name in request.remove) if s not in given]
    return propose_cards(site, roster, gone, cards)


def propose_cards(
    site: Site, roster: Roster, gone: Sequence[SiteId], cards: Sequence[Card]
) -> VoteSeen:
    """Propose that these sites leave and these cards come, and sign it. Raises OperatorError."""
    newer = site.votes.look(lambda machine: machine.cards)
    named = {card.site for card in cards} | set(gone)
    kept = [card for card in newer if card.site not in named]
    change = change_of(roster, remove=gone, cards=[*kept, *cards])
    site.votes.act(terms.Proposed(change))
    return site.votes.look(vote_seen)


@dataclass(frozen=True, slots=True)
class SignProposal:
    """digest: of a proposal, or how it begins; empty for the only one."""

    digest: str


def sign_proposal(site: Site, request: SignProposal) -> VoteSeen:
    """Sign a proposal in the vote that is open. Raises OperatorError."""
    required_version(site.home)
    known = site.votes.look(lambda machine: tuple(machine.ballots.candidates))
    site.votes.act(terms.Signed(Digest(find_proposal(known, request.digest))))
    return site.votes.look(vote_seen)


@dataclass(frozen=True, slots=True)
class VoteAgain:
    """Nothing to say."""


def vote_again(site: Site, request: VoteAgain) -> VoteSeen:
    """Close the vote that is open; a quorum of such words opens the next. Raises OperatorError."""
    required_version(site.home)
    site.votes.act(terms.VotedAgain())
    return site.votes.look(vote_seen)


@dataclass(frozen=True, slots=True)
class SetAddress:
    """Where this site is dialled from now on, host:port; none: it only dials."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddressSet:
    """The site's new card."""

    card: Path
    serial: int
    addresses: tuple[str, ...]


def set_address(site: Site, request: SetAddress) -> AddressSet:
    """Make this site's newer card, put it on record, and tell everybody. Raises OperatorError."""
    required_version(site.home)
    config = site.config
    if request.addresses:
        make_config(config.name, config.listen, request.addresses, config.consortium)  # checks
    config = replace(config, announce=request.addresses)
    card = renew_card(site, addresses=request.addresses)
    write_durably(site.home.config, render_config(config))
    return AddressSet(site.home.card(config.name), card.serial, card.addresses)


def renew_card(
    site: Site, *, addresses: tuple[str, ...] | None = None, keys: SiteKeys | None = None
) -> Card:
    """A newer card of this site: recorded, told, and in the card's file.

    addresses, keys: what is new; None: as they are. Raises OperatorError."""

    def present(machine: Membership) -> Card | None:
        return machine.members.member(machine.me) if machine.is_member else None

    known = site.votes.look(present)
    if known is None:
        raise OperatorError(
            "This site is no member any more, so nobody follows its card.",
            fix="Ask a member to propose this site again: `p2pfl roster propose-add CARD`.",
        )
    card = sign_card(
        site.keys if keys is None else keys,
        name=known.name,
        log_id=known.log_id,
        addresses=known.addresses if addresses is None else addresses,
        serial=known.serial + 1,
    )
    site.votes.act(terms.Renewed(card))
    write_durably(site.home.card(site.config.name), encode_card(card), mode=0o644)
    return card


@dataclass(frozen=True, slots=True)
class Exported:
    """The chain of rosters as a file."""

    path: Path
    version: int
    digest: bytes


def roster_export(home: Home, out: Path) -> Exported:
    """Write how the roster in force came about, for a newcomer or a site that slept.

    Raises OperatorError."""
    chain = read_chain(home, required_version(home))
    try:
        verify_complete(chain.base)
    except FounderMissing as error:
        raise OperatorError(
            "This home holds the roster in force, but not how it came about.",
            fix="Export it at another member; a home that was restored has only the last version.",
        ) from error
    if out.exists():
        raise OperatorError(
            f"{out} exists.", fix="Name another file with --out.", exit_code=EXIT_CANNOT_CREATE
        )
    write_durably(out, encode_chain(chain), mode=0o644)
    return Exported(out, chain.in_force.version, chain.in_force.digest)


def find_member(roster: Roster, name: str) -> SiteId:
    """A member by its name, or by how its fingerprint begins. Raises OperatorError."""
    wanted = name.strip().casefold()
    digits = wanted.replace(" ", "")
    named = [card.site for card in roster.members if card.name.casefold() == wanted]
    if len(digits) >= PREFIX_DIGITS_MIN:
        named = named or [c.site for c in roster.members if c.site.hex().startswith(digits)]
    if len(named) != 1:
        raise OperatorError(
            f'"{name[:64]}" is not one member of {roster.consortium}.',
            fix="Take the name from `p2pfl roster show`.",
            exit_code=EXIT_NO_INPUT,
        )
    return named[0]


def find_proposal(known: Sequence[bytes], prefix: str) -> bytes:
    """A proposal by how its digest begins; the only one if nothing is given.

    Raises OperatorError."""
    text = prefix.strip().lower()
    found = [digest for digest in known if digest.hex().startswith(text)]
    if text and len(text) < PREFIX_DIGITS_MIN:
        raise OperatorError(
            f'"{prefix[:64]}" is too short to name a proposal.',
            fix=f"Give {PREFIX_DIGITS_MIN} digits or more, from `p2pfl roster status`.",
            exit_code=EXIT_USAGE,
        )
    if len(found) == 1:
        return found[0]
    what = "Several proposals are open" if found else "No such proposal is held here"
    raise OperatorError(
        f"{what}.",
        fix="`p2pfl roster status` lists them; name one by its first digits.",
        exit_code=EXIT_NO_INPUT,
    )
