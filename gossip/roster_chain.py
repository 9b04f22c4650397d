"""How a roster came into force: links from version to version, each provable by itself.

A link is the change and the signatures that put it into force: two quorums of the version before
(`Voted`), or the signatures of every member on the roster itself (`Unanimous`, made by hand with
files). A chain begins with a roster that all its members signed.

Format, msgpack as `gossip.wire` reads it:
  voted        [1, change, vote, [[site, Sign signature]…], [[site, Accept signature]…]]
  unanimous    [2, change, [[site, roster signature]…]]                lists ascending by site
  certificate  SHA256("p2pfl/roster-certificate/v1\\0" ‖ link)
  chain        [1, first roster, [link…], [newest card of a member…]]
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from gossip.card import Card, decode_card, encode_card
from gossip.errors import ChainBroken, FounderMissing, Garbled, TooLarge
from gossip.identifiers import Digest, digest_of
from gossip.limits import (
    CARD_BYTES_MAX,
    CHAIN_BYTES_MAX,
    CHAIN_LINKS_MAX,
    CHANGE_BYTES_MAX,
    LINK_BYTES_MAX,
    MEMBERS_MAX,
    ROSTER_BYTES_MAX,
    VOTE_MAX,
)
from gossip.roster import Roster, decode_roster, encode_roster
from gossip.roster_change import Change, apply_change, change_between, decode_change, encode_change
from gossip.roster_votes import Signatures, read_signatures, verify_accepts, verify_signs
from gossip.wire import Reader, pack

_VOTED, _UNANIMOUS = 1, 2
_CHAIN_FORMAT = 1
_CERTIFICATE_DOMAIN = b"p2pfl/roster-certificate/v1\0"


@dataclass(frozen=True, slots=True)
class Voted:
    """In force by two quorums of the members before."""

    change: Change
    vote: int
    signs: Signatures
    accepts: Signatures


@dataclass(frozen=True, slots=True)
class Unanimous:
    """In force because every member, before and after, signed the roster itself."""

    change: Change
    signatures: Signatures


Link: TypeAlias = Voted | Unanimous


@dataclass(frozen=True, slots=True)
class Chain:
    """Every version of a roster from `base` on. rosters: base first, the one in force last.

    cards: newest cards of members, where they are newer than the roster's."""

    base: Roster
    links: tuple[Link, ...]
    rosters: tuple[Roster, ...]
    cards: tuple[Card, ...] = ()

    @property
    def in_force(self) -> Roster:
        """The newest version."""
        return self.rosters[-1]


def verify_link(roster: Roster, link: Link) -> Roster:
    """The roster that follows. Raises PeerError unless the link proves that it does."""
    following = apply_change(roster, link.change)
    if isinstance(link, Voted):
        verify_signs(roster, link.vote, following.digest, link.signs)
        verify_accepts(roster, link.vote, following.digest, link.accepts)
        return following
    if following.sites != roster.sites:
        raise ChainBroken("only a vote changes who is a member")
    signed = replace(following, signatures=dict(link.signatures))
    verify_complete(signed)
    return signed


def verify_complete(roster: Roster) -> None:
    """Every member signed this roster. Raises FounderMissing naming who has not."""
    missing = [card.name for card in roster.members if card.site not in roster.signatures]
    if missing:
        raise FounderMissing("not signed by", actual=", ".join(missing))


def unanimous_link(before: Roster, after: Roster) -> Unanimous:
    """The link to a roster that all its members signed. Raises ChainBroken, FounderMissing."""
    link = Unanimous(change_between(before, after), tuple(sorted(after.signatures.items())))
    verify_link(before, link)
    return link


def certificate_of(link: Link) -> Digest:
    """The digest under which a ledger names what put a roster into force."""
    return digest_of(_CERTIFICATE_DOMAIN + encode_link(link))


def follow_chain(base: Roster, links: Sequence[Link], cards: Sequence[Card] = ()) -> Chain:
    """Verify every link. Raises PeerError; FounderMissing if not all signed the first roster."""
    verify_complete(base)
    return chain_from(base, links, cards)


def chain_from(base: Roster, links: Sequence[Link], cards: Sequence[Card] = ()) -> Chain:
    """Like `follow_chain`, from a roster that is in force here already. Raises PeerError."""
    rosters = [base]
    for link in links:
        rosters.append(verify_link(rosters[-1], link))
    return Chain(base, tuple(links), tuple(rosters), tuple(cards))


def encode_link(link: Link) -> bytes:
    """At most `LINK_BYTES_MAX` bytes, or TooLarge."""
    change = encode_change(link.change)
    if isinstance(link, Voted):
        raw = pack((_VOTED, change, link.vote, list(link.signs), list(link.accepts)))
    else:
        raw = pack((_UNANIMOUS, change, list(link.signatures)))
    if len(raw) > LINK_BYTES_MAX:
        raise TooLarge("link", expected=f"at most {LINK_BYTES_MAX} bytes", actual=len(raw))
    return raw


def decode_link(data: bytes) -> Link:
    """A link from bytes that anybody may have written, not judged yet. Raises PeerError."""
    if len(data) > LINK_BYTES_MAX:
        raise TooLarge("link", expected=f"at most {LINK_BYTES_MAX} bytes", actual=len(data))
    reader = Reader(data)
    length = reader.array(3, 5)
    form = reader.integer(_VOTED, _UNANIMOUS)
    if length != (5 if form == _VOTED else 3):
        raise Garbled("values in a link of this form", actual=length)
    change = decode_change(reader.blob(1, CHANGE_BYTES_MAX))
    if form == _UNANIMOUS:
        link: Link = Unanimous(change, read_signatures(reader))
    else:
        vote = reader.integer(1, VOTE_MAX)
        link = Voted(change, vote, read_signatures(reader), read_signatures(reader))
    reader.end()
    return link


def encode_chain(chain: Chain) -> bytes:
    """At most `CHAIN_BYTES_MAX` bytes, or TooLarge."""
    links = [encode_link(link) for link in chain.links]
    cards = [encode_card(card) for card in chain.cards]
    raw = pack((_CHAIN_FORMAT, encode_roster(chain.base), links, cards))
    if len(raw) > CHAIN_BYTES_MAX:
        raise TooLarge("chain", expected=f"at most {CHAIN_BYTES_MAX} bytes", actual=len(raw))
    return raw


def decode_chain(data: bytes) -> Chain:
    """A chain from bytes that anybody may have written, every link verified. Raises PeerError."""
    if len(data) > CHAIN_BYTES_MAX:
        raise TooLarge("chain", expected=f"at most {CHAIN_BYTES_MAX} bytes", actual=len(data))
    reader = Reader(data)
    reader.array(4, 4)
    reader.integer(_CHAIN_FORMAT, _CHAIN_FORMAT)
    base = decode_roster(reader.blob(1, ROSTER_BYTES_MAX))
    raws = [reader.blob(1, LINK_BYTES_MAX) for _ in range(reader.array(0, CHAIN_LINKS_MAX))]
    cards = [reader.blob(1, CARD_BYTES_MAX) for _ in range(reader.array(0, MEMBERS_MAX))]
    reader.end()
    return follow_chain(base, [decode_link(raw) for raw in raws], [decode_card(c) for c in cards])


def is_chain(data: bytes) -> bool:
    """Whether a file looks like a chain rather than like a single roster: it has four parts."""
    return data[:2] == bytes((0x94, _CHAIN_FORMAT))
