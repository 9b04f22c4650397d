"""What a home keeps of its members: the chain of rosters, the vote that is open, newer cards.

`current.roster` is in force. The link to the next version is written before it, so that a stop in
between leaves either the old version or everything that the new one needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gossip.card import Card, decode_card, encode_card
from gossip.errors import PeerError
from gossip.identifiers import ID_BYTES, Digest
from gossip.keys import SiteKeys
from gossip.limits import (
    CARD_BYTES_MAX,
    LINK_BYTES_MAX,
    MEMBERS_MAX,
    ROSTER_BYTES_MAX,
    STATEMENT_BYTES_MAX,
    VOTE_MAX,
)
from gossip.roster import Roster, decode_roster, encode_roster
from gossip.roster_chain import Chain, Link, chain_from, decode_link, encode_link, verify_link
from gossip.roster_messages import ItemKind, RosterItem
from gossip.roster_votes import Lock, Statement, encode_statement, read_signatures, statement_id
from gossip.wire import Reader, pack
from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core.membership import Membership
from p2pfl.core.membership_cards import effective
from p2pfl.core.membership_spread import change_item, statement_item
from p2pfl.core.membership_terms import own_word
from p2pfl.runtime.errors import EXIT_DATA, OperatorError
from p2pfl.runtime.home import Home, read_own, write_durably

_FORMAT = 1
_VOTES_MAX = 64 * 1024 * 1024
"""Members times what is kept of each: nobody else's bytes get there."""
_ITEMS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of the vote that is open, and of newer cards."""

    previous: Digest
    lock: Lock | None
    items: tuple[RosterItem, ...]
    cards: tuple[Card, ...]


def kept_of(membership: Membership) -> Kept:
    """What has to be stored of a machine."""
    ballots = membership.ballots
    items = [statement_item(each) for each in ballots.statements()]
    items += [change_item(candidate) for candidate in ballots.candidates.values()]
    return Kept(ballots.roster.digest, ballots.lock, tuple(items), membership.cards)


def roster_in_force(home: Home) -> Roster | None:
    """The version in force as its members agreed to it. Raises OperatorError if it is damaged."""
    try:
        return decode_roster(read_own(home.roster, ROSTER_BYTES_MAX))
    except FileNotFoundError:
        return None
    except PeerError as error:
        raise OperatorError(
            f"The roster in force ({home.roster}) is damaged: {error}.",
            fix=f"Move it away and put the signed roster into force again: `p2pfl --home "
            f"{home.path} roster install FILE`.",
            exit_code=EXIT_DATA,
        ) from error


def members_of(home: Home) -> Roster | None:
    """The version in force with everybody's newest card; None before the first."""
    roster = roster_in_force(home)
    return None if roster is None else effective(roster, read_cards(home))


def read_chain(home: Home, roster: Roster) -> Chain:
    """How the roster in force came about, every link verified. Raises OperatorError."""
    cards = read_cards(home)
    try:
        base = decode_roster(read_own(home.first_roster, ROSTER_BYTES_MAX))
    except FileNotFoundError:
        return Chain(roster, (), (roster,), cards)
    except PeerError as error:
        raise _damaged(home, error) from error
    try:
        links = [_read_link(home, at) for at in range(base.version + 1, roster.version + 1)]
        chain = chain_from(base, links, cards)
    except (FileNotFoundError, PeerError) as error:
        raise _damaged(home, error) from error
    if chain.in_force.digest != roster.digest:
        raise _damaged(home, "it ends with another roster than the one in force")
    return chain


def load_membership(
    home: Home, keys: SiteKeys, roster: Roster, entries: Iterable[Entry]
) -> Membership:
    """The machine as the home's files and its ledger say. Raises OperatorError."""
    chain = read_chain(home, roster)
    kept = _read_votes(home)
    is_current = kept is not None and kept.previous == roster.digest
    word = own_word(roster.version + 1, entries)
    try:
        return Membership(
            keys.site,
            keys.identity,
            chain,
            word,
            lock=kept.lock if kept is not None and is_current else None,
            held=kept.items if kept is not None and is_current else (),
        )
    except PeerError as error:
        raise _damaged_votes(home, error) from error


def settle_roster(home: Home, entries: Iterable[Entry]) -> None:
    """Finish what a stop interrupted: a version whose link is stored and which is on record.

    Raises OperatorError."""
    roster = roster_in_force(home)
    if roster is None:
        return
    try:
        link = _read_link(home, roster.version + 1)
        following = verify_link(roster, link)
    except (FileNotFoundError, PeerError):
        return
    changed = (e.body.get("hash") for e in entries if e.kind == kinds.RosterChanged.KIND)
    if following.digest in set(changed):
        install(home, following)


def read_cards(home: Home) -> tuple[Card, ...]:
    """Cards that are newer than the roster's. Raises OperatorError if they are damaged."""
    try:
        raw = read_own(home.roster_cards, MEMBERS_MAX * (CARD_BYTES_MAX + 8))
    except FileNotFoundError:
        return ()
    try:
        reader = Reader(raw)
        reader.array(2, 2)
        reader.integer(_FORMAT, _FORMAT)
        encoded = [reader.blob(1, CARD_BYTES_MAX) for _ in range(reader.array(0, MEMBERS_MAX))]
        reader.end()
        return tuple(map(decode_card, encoded))
    except PeerError as error:
        raise OperatorError(
            f"The members' newer cards ({home.roster_cards}) are damaged: {error}.",
            fix="Move the file away; the other nodes send it again.",
            exit_code=EXIT_DATA,
        ) from error


# -- writing -------------------------------------------------------------------------------------


def keep(home: Home, kept: Kept) -> None:
    """Store the vote that is open and newer cards, durably. Raises OperatorError."""
    named = [] if kept.lock is None else [_lock_values(kept.lock)]
    items = [(item.kind.value, item.raw) for item in kept.items]
    write_durably(home.roster_votes, pack((_FORMAT, kept.previous, named, items)))
    if kept.cards or home.roster_cards.exists():
        cards = [encode_card(card) for card in kept.cards]
        write_durably(home.roster_cards, pack((_FORMAT, cards)), mode=0o644)


def keep_link(home: Home, version: int, link: Link) -> None:
    """Store what leads to a version, durably; the first time, the roster it all begins with."""
    if not home.first_roster.exists():
        write_durably(home.first_roster, read_own(home.roster, ROSTER_BYTES_MAX), mode=0o644)
    home.roster_links.mkdir(mode=0o700, exist_ok=True)
    write_durably(_link_path(home, version), encode_link(link), mode=0o644)


def keep_conflict(home: Home, first: Statement, second: Statement) -> None:
    """Store both statements of a member that said two things; each proves who signed it."""
    home.roster_conflicts.mkdir(mode=0o700, exist_ok=True)
    name = f"{first.site.hex()[:16]}-{first.version}-{first.vote}-{statement_id(second).hex()[:8]}"
    raw = pack((_FORMAT, encode_statement(first), encode_statement(second)))
    write_durably(home.roster_conflicts / name, raw)


def install(home: Home, roster: Roster) -> None:
    """This version is in force from now on. Raises OperatorError."""
    write_durably(home.roster, encode_roster(roster), mode=0o644)


def install_chain(home: Home, chain: Chain) -> None:
    """A whole chain, for a home that had no roster. Raises OperatorError."""
    if chain.links:
        write_durably(home.first_roster, encode_roster(chain.base), mode=0o644)
        home.roster_links.mkdir(mode=0o700, exist_ok=True)
        for version, link in enumerate(chain.links, chain.base.version + 1):
            write_durably(_link_path(home, version), encode_link(link), mode=0o644)
    if chain.cards:
        cards = [encode_card(card) for card in chain.cards]
        write_durably(home.roster_cards, pack((_FORMAT, cards)), mode=0o644)
    install(home, chain.in_force)


# -- reading -------------------------------------------------------------------------------------


def _read_votes(home: Home) -> Kept | None:
    try:
        raw = read_own(home.roster_votes, _VOTES_MAX)
    except FileNotFoundError:
        return None
    try:
        reader = Reader(raw)
        reader.array(4, 4)
        reader.integer(_FORMAT, _FORMAT)
        previous = Digest(reader.blob(ID_BYTES, ID_BYTES))
        lock = _read_lock(reader) if reader.array(0, 1) else None
        items = tuple(_read_items(reader))
        reader.end()
    except PeerError as error:
        raise _damaged_votes(home, error) from error
    return Kept(previous, lock, items, ())


def _read_items(reader: Reader) -> Iterator[RosterItem]:
    for _ in range(reader.array(0, _ITEMS_MAX)):
        reader.array(2, 2)
        kind = ItemKind(reader.integer(1, len(ItemKind)))
        yield RosterItem(kind, reader.blob(1, max(LINK_BYTES_MAX, STATEMENT_BYTES_MAX)))


def _lock_values(lock: Lock) -> tuple[int, Digest, list[tuple[bytes, bytes]]]:
    return lock.vote, lock.candidate, list(lock.signs)


def _read_lock(reader: Reader) -> Lock:
    reader.array(3, 3)
    vote = reader.integer(1, VOTE_MAX)
    return Lock(vote, Digest(reader.blob(ID_BYTES, ID_BYTES)), read_signatures(reader))


def _read_link(home: Home, version: int) -> Link:
    return decode_link(read_own(_link_path(home, version), LINK_BYTES_MAX))


def _link_path(home: Home, version: int) -> Path:
    return home.roster_links / f"{version:08d}.link"


def _damaged(home: Home, why: object) -> OperatorError:
    return OperatorError(
        f"The chain of rosters in {home.roster.parent} is damaged: {why}.",
        fix="Move `first.roster`, `links` and `current.roster` away and install what another "
        "member exports with `p2pfl roster export --out FILE`.",
        exit_code=EXIT_DATA,
    )


def _damaged_votes(home: Home, error: PeerError) -> OperatorError:
    return OperatorError(
        f"What is kept of the vote on the next roster ({home.roster_votes}) is damaged: {error}.",
        fix="Move the file away; the other nodes send again what they hold.",
        exit_code=EXIT_DATA,
    )
