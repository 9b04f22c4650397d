"""Founding: a home with its keys and ledger, the site's card, and the roster all founders sign."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from gossip.card import Card, decode_card, encode_card, sign_card
from gossip.errors import PeerError
from gossip.identifiers import fingerprint
from gossip.keys import SiteKeys, generate, write_keys
from gossip.limits import CARD_BYTES_MAX, ROSTER_BYTES_MAX
from gossip.roster import (
    Roster,
    decode_roster,
    draft_roster,
    encode_roster,
)
from gossip.spoken import spoken
from ledger.log import LedgerError, Log, Signer, WitnessDatabase
from ledger.log.identity import FOREVER_US
from ledger.log.witness_store import WITNESS_NAME
from ledger.provenance import kinds
from p2pfl.core.witnessing_epochs import epochs_held
from p2pfl.runtime.commands.opening import (
    Clock,
    RandomBytes,
    Site,
    installed_roster,
    required_roster,
    required_version,
    version_in_force,
)
from p2pfl.runtime.config import Config, render_config
from p2pfl.runtime.datasets import write_data_key
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_DATA, OperatorError
from p2pfl.runtime.home import (
    Home,
    create_directories,
    read_bounded,
    remove_unfinished,
    write_durably,
)
from p2pfl.runtime.lock import hold_home
from p2pfl.runtime.policy import Policy, read_policy, render_policy


@dataclass(frozen=True, slots=True)
class Founded:
    """A new home."""

    home: Path
    name: str
    site: bytes
    fingerprint: str
    words: str
    log_id: bytes
    card: Path


def init(
    home: Home, config: Config, policy: Policy, *, now_us: Clock, random_bytes: RandomBytes
) -> Founded:
    """Make a home: keys, ledger with its genesis entry, configuration, policy and card.

    `config.toml` is written last: a directory without it is not a home, so an interrupted `init`
    leaves nothing that looks like one. Raises OperatorError.
    """
    create_directories(home)
    try:
        return _fill(home, config, policy, now_us, random_bytes)
    except Exception:
        # A full disk, say: the name is free for the next try.
        remove_unfinished(home)
        raise


def _fill(
    home: Home, config: Config, policy: Policy, now_us: Clock, random_bytes: RandomBytes
) -> Founded:
    with hold_home(home, purpose="init"):
        keys = generate(random_bytes)
        write_keys(home.keys, keys, None, random_bytes=random_bytes)
        write_data_key(home, random_bytes(32))
        write_durably(home.policy, render_policy(policy))
        log = Log.create(
            home.path,
            deployment=config.consortium,
            identity=Signer(keys.identity),
            log=Signer(keys.log),
            witness_pk=Signer(keys.witness).public_key,
            nonce=random_bytes(32),
            now_us=now_us(),
        )
        with closing(log):
            card = sign_card(keys, name=config.name, log_id=log.log_id, addresses=config.announce)
            path = home.card(config.name)
            write_durably(path, encode_card(card), mode=0o644)
            _, policy_hash = read_policy(home.policy)
            log.append([kinds.PolicyChanged(policy_hash).draft("operator")], now_us())
            write_durably(home.config, render_config(config))
            return Founded(
                home.path,
                config.name,
                keys.site,
                fingerprint(keys.site),
                spoken(keys.site),
                log.log_id,
                path,
            )


@dataclass(frozen=True, slots=True)
class Member:
    """One line of a roster, for people."""

    name: str
    site: bytes
    fingerprint: str
    words: str
    """The fingerprint as it is read out by telephone."""
    addresses: tuple[str, ...]
    """Where it is dialled now."""
    signed: bool
    addresses_voted: tuple[str, ...]
    """Those on the card of this version; a newer card may have others."""


@dataclass(frozen=True, slots=True)
class WitnessKeyReplaced:
    """A key under which a member cosigned before. until_us: what states a later time (µs UTC) does
    not count. disowned: others may have had it."""

    name: str
    key: bytes
    until_us: int
    disowned: bool


@dataclass(frozen=True, slots=True)
class RosterSeen:
    """A roster and how far it is from being in force."""

    path: Path
    consortium: str
    version: int
    digest: bytes
    members: tuple[Member, ...]
    missing: tuple[str, ...]
    """Names of the founders that have not signed."""
    installed: bool
    witness_before: tuple[WitnessKeyReplaced, ...] = ()
    """Of the roster in force: witness keys that members replaced, as this home knows."""


@dataclass(frozen=True, slots=True)
class RosterCreate:
    """Make the list of founders from their cards."""

    cards: tuple[Path, ...]
    out: Path


def roster_create(home: Home, consortium: str, request: RosterCreate) -> RosterSeen:
    """Write an unsigned roster of the given cards. Raises OperatorError or PeerError."""
    cards = [read_card(path) for path in request.cards]
    roster = draft_roster(consortium, cards)
    if request.out.exists():
        raise OperatorError(
            f"{request.out} exists.",
            fix="Name another file with --out; signatures in it would be lost.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    write_durably(request.out, encode_roster(roster), mode=0o644)
    return seen_of(home, request.out, roster)


def roster_show(home: Home) -> RosterSeen:
    """The roster in force. Raises OperatorError if there is none."""
    roster = required_version(home)
    seen = seen_of(home, home.roster, roster)
    return replace(seen, witness_before=_replaced_keys(home, roster))


def _replaced_keys(home: Home, roster: Roster) -> tuple[WitnessKeyReplaced, ...]:
    """What the home's witness has learned; nothing before a node ran here."""
    if not (home.path / WITNESS_NAME).is_file():
        return ()
    try:
        with closing(WitnessDatabase.open(home.path / WITNESS_NAME)) as book:
            epochs = epochs_held(roster.members, book)
    except LedgerError:
        return ()  # damaged: `p2pfl doctor` says so
    names = {card.site: card.name for card in roster.members}
    return tuple(
        WitnessKeyReplaced(names[site], k.key.public_key, k.until_us, k.is_disowned)
        for k in epochs.earlier
        if (site := epochs.site_of(k.key)) is not None and k.until_us < FOREVER_US
    )


@dataclass(frozen=True, slots=True)
class RosterRenew:
    """Put members' new cards into the next version of the roster in force."""

    cards: tuple[Path, ...]
    out: Path


def roster_renew(home: Home, request: RosterRenew) -> RosterSeen:
    """Write the next roster, unsigned, with these cards in place of the same sites' old ones.

    For a site that goes on in another log or under other keys. Raises OperatorError, PeerError."""
    current = required_version(home)
    cards = {card.site: card for card in map(read_card, request.cards)}
    strangers = [card.name for card in cards.values() if card.site not in current]
    if strangers:
        raise OperatorError(
            f"{', '.join(strangers)}: no member of {current.consortium}.",
            fix="Give new cards of sites that are on the roster in force.",
            exit_code=EXIT_DATA,
        )
    # With everybody's newest card: a site that moved signs no list with its old address.
    members = [cards.get(card.site, card) for card in required_roster(home).members]
    following = draft_roster(
        current.consortium, members, version=current.version + 1, previous=current.digest
    )
    if request.out.exists():
        raise OperatorError(
            f"{request.out} exists.",
            fix="Name another file with --out; signatures in it would be lost.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    write_durably(request.out, encode_roster(following), mode=0o644)
    return seen_of(home, request.out, following)


def check_own_card(site: Site, roster: Roster) -> None:
    """The roster is this consortium's, with this site's card. Raises OperatorError."""
    if roster.consortium != site.config.consortium:
        raise OperatorError(
            f'The roster is for "{roster.consortium}", this site belongs to '
            f'"{site.config.consortium}".',
            fix="Sign the roster of your own consortium.",
            exit_code=EXIT_DATA,
        )
    own = _own_card(site.home, site.keys, site.config.name)
    listed = next((card for card in roster.members if card.site == own.site), None)
    if listed != own:
        found = "another card of this site" if listed else "no card of this site"
        raise OperatorError(
            f"The roster holds {found}.",
            fix=f"Send {site.home.card(site.config.name)} to whoever makes the roster.",
            exit_code=EXIT_DATA,
        )


def _own_card(home: Home, keys: SiteKeys, name: str) -> Card:
    card = read_card(home.card(name))
    if card.site != keys.site:
        raise OperatorError(
            f"{home.card(name)} is not this site's card.",
            fix="Restore it from the backup of this home.",
            exit_code=EXIT_DATA,
        )
    return card


def read_card(path: Path) -> Card:
    """A card file that somebody handed over. Raises OperatorError."""
    try:
        return decode_card(read_bounded(path, CARD_BYTES_MAX))
    except PeerError as error:
        raise OperatorError(
            f"{path} is not a valid card: {error}.",
            fix="Ask that site for its card again (`<home>/<name>.card`).",
            exit_code=EXIT_DATA,
        ) from error


def read_roster(path: Path) -> Roster:
    """A roster file that somebody handed over. Raises OperatorError."""
    try:
        return decode_roster(read_bounded(path, ROSTER_BYTES_MAX))
    except PeerError as error:
        raise OperatorError(
            f"{path} is not a valid roster: {error}.",
            fix="Ask whoever made it to send it again.",
            exit_code=EXIT_DATA,
        ) from error


def missing_in(roster: Roster) -> tuple[str, ...]:
    """Names of the members that have not signed it."""
    return tuple(card.name for card in roster.members if card.site not in roster.signatures)


def seen_of(home: Home, path: Path, roster: Roster) -> RosterSeen:
    """A roster for people."""
    current = version_in_force(home)
    installed = current is not None and current.digest == roster.digest
    newest = installed_roster(home) if installed else None
    return RosterSeen(
        path=path,
        consortium=roster.consortium,
        version=roster.version,
        digest=roster.digest,
        members=_members(roster, newest or roster),
        missing=() if installed else missing_in(roster),
        installed=installed,
    )


def _members(roster: Roster, newest: Roster) -> tuple[Member, ...]:
    return tuple(
        Member(
            card.name,
            card.site,
            fingerprint(card.site),
            spoken(card.site),
            newest.member(card.site).addresses,
            card.site in roster.signatures,
            card.addresses,
        )
        for card in roster.members
    )
