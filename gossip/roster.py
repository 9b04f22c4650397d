"""Who belongs to the consortium: the signed list of its sites' cards.

An instance of `Roster` is always a checked one: every rule and every signature it carries was
verified when it was made. Whether *enough* founders signed is `verify_founding`.

Format, msgpack as `gossip.wire` reads it:
  roster body    [1, consortium, version, previous digest, [card…]]     cards ascending by site
  roster         [roster body, [[site, Ed25519(I, "p2pfl/roster/v1\\0" ‖ roster body)]…]]
  roster digest  SHA256("p2pfl/roster-digest/v1\\0" ‖ roster body)
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType

from gossip import ed25519
from gossip.card import Card, decode_card, encode_card
from gossip.errors import (
    BadSignature,
    DuplicateMember,
    FounderMissing,
    Garbled,
    NotOnRoster,
    RosterInvalid,
    TooLarge,
)
from gossip.identifiers import ID_BYTES, NO_DIGEST, Digest, SiteId, digest_of, site_id_of
from gossip.limits import (
    CARD_BYTES_MAX,
    CONSORTIUM_BYTES_MAX,
    INT_MAX,
    MEMBERS_MAX,
    ROSTER_BYTES_MAX,
)
from gossip.wire import Reader, pack

__all__ = [
    "Card",
    "Roster",
    "add_signature",
    "decode_card",
    "decode_roster",
    "draft_roster",
    "encode_card",
    "encode_roster",
    "merge_signatures",
    "sign_roster",
    "verify_founding",
    "verify_succession",
]

_DOMAIN = b"p2pfl/roster/v1\0"
_DIGEST_DOMAIN = b"p2pfl/roster-digest/v1\0"
_FORMAT = 1
# It becomes part of a log's origin, which knows no spaces and no "+".
_CONSORTIUM = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of a consortium and who of them signed this version of the list.

    consortium: [a-z0-9.-], at most 63. version: from 1. previous: digest of version−1's roster,
    32 zero bytes in version 1. members: 1…256, ascending by site.
    Raises RosterInvalid, DuplicateMember, NotOnRoster or BadSignature (for a signature).
    """

    consortium: str
    version: int
    previous: Digest
    members: tuple[Card, ...]
    signatures: Mapping[SiteId, bytes] = field(default_factory=dict)
    _by_site: Mapping[SiteId, Card] = field(init=False, repr=False, compare=False)
    _by_transport_key: Mapping[bytes, Card] = field(init=False, repr=False, compare=False)
    _body: bytes = field(init=False, repr=False, compare=False)
    dial_only: frozenset[SiteId] = field(init=False, repr=False, compare=False)
    """Members without an address: nobody can dial them, and two of them never meet."""

    def __post_init__(self) -> None:
        _check_terms(self)
        _check_members(self.members)
        by_site = {card.site: card for card in self.members}
        object.__setattr__(self, "_by_site", by_site)
        object.__setattr__(self, "_by_transport_key", {c.transport_pk: c for c in self.members})
        object.__setattr__(self, "_body", _roster_body(self))
        mute = frozenset(card.site for card in self.members if not card.addresses)
        object.__setattr__(self, "dial_only", mute)
        ordered = dict(sorted(self.signatures.items()))
        object.__setattr__(self, "signatures", MappingProxyType(ordered))
        for site, signature in ordered.items():
            if not ed25519.verify(self.member(site).identity_pk, _signed(self), signature):
                raise BadSignature("roster signature", actual=f"of site {site.hex()}")

    def __hash__(self) -> int:
        return hash(self._body)

    @property
    def digest(self) -> Digest:
        """What the next version names as `previous`; independent of who signed."""
        return digest_of(_DIGEST_DOMAIN + self._body)

    @property
    def sites(self) -> tuple[SiteId, ...]:
        """All members, ascending."""
        return tuple(self._by_site)

    def __contains__(self, site: object) -> bool:
        return site in self._by_site

    def member(self, site: SiteId) -> Card:
        """The card of a member. Raises NotOnRoster."""
        card = self._by_site.get(site)
        if card is None:
            raise NotOnRoster("no member", actual=site.hex())
        return card

    def by_transport_key(self, public_key: bytes) -> Card:
        """The member with this transport key. Raises NotOnRoster."""
        card = self._by_transport_key.get(public_key)
        if card is None:
            raise NotOnRoster("no member with this transport key", actual=public_key.hex())
        return card


def draft_roster(
    consortium: str, cards: Iterable[Card], *, version: int = 1, previous: Digest = NO_DIGEST
) -> Roster:
    """An unsigned roster of these cards, in their order by site. Raises RosterInvalid."""
    return Roster(consortium, version, previous, tuple(sorted(cards, key=lambda card: card.site)))


def sign_roster(roster: Roster, identity_seed: bytes) -> Roster:
    """The roster with this member's signature too. Raises NotOnRoster for a stranger's key."""
    site = site_id_of(ed25519.public_key_of(identity_seed))
    return add_signature(roster, site, ed25519.sign(identity_seed, _signed(roster)))


def add_signature(roster: Roster, site: SiteId, signature: bytes) -> Roster:
    """The roster with one more signature. Raises NotOnRoster or BadSignature."""
    return replace(roster, signatures={**roster.signatures, site: signature})


def merge_signatures(roster: Roster, other: Roster) -> Roster:
    """The roster with the signatures of both copies. Raises RosterInvalid if they differ."""
    if roster.digest != other.digest:
        raise RosterInvalid(
            "copies of different rosters", expected=roster.digest.hex(), actual=other.digest.hex()
        )
    return replace(roster, signatures={**other.signatures, **roster.signatures})


def verify_founding(roster: Roster) -> None:
    """A first roster counts when all its members signed it.

    Raises RosterInvalid for a later version, FounderMissing naming who has not signed.
    """
    if roster.version != 1:
        raise RosterInvalid("not a founding roster", expected="version 1", actual=roster.version)
    missing = [card.name for card in roster.members if card.site not in roster.signatures]
    if missing:
        raise FounderMissing("not signed by", actual=", ".join(missing))


def verify_succession(roster: Roster, previous: Roster) -> None:
    """A later roster counts when it follows the one before it and all its members signed it.

    Raises RosterInvalid, FounderMissing naming who has not signed."""
    if roster.consortium != previous.consortium:
        raise RosterInvalid("consortium", expected=previous.consortium, actual=roster.consortium)
    if roster.version != previous.version + 1:
        raise RosterInvalid("version", expected=previous.version + 1, actual=roster.version)
    if roster.previous != previous.digest:
        raise RosterInvalid(
            "it follows another roster",
            expected=previous.digest.hex(),
            actual=roster.previous.hex(),
        )
    missing = [card.name for card in roster.members if card.site not in roster.signatures]
    if missing:
        raise FounderMissing("not signed by", actual=", ".join(missing))


def encode_roster(roster: Roster) -> bytes:
    """At most `ROSTER_BYTES_MAX` bytes; signatures ascending by site."""
    signatures = [(site, signature) for site, signature in roster.signatures.items()]
    return pack((roster._body, signatures))


def decode_roster(data: bytes) -> Roster:
    """A roster from bytes that anybody may have written. Raises PeerError."""
    if len(data) > ROSTER_BYTES_MAX:
        raise TooLarge("roster", expected=f"at most {ROSTER_BYTES_MAX} bytes", actual=len(data))
    outer = Reader(data)
    outer.array(2, 2)
    body = outer.blob(1, ROSTER_BYTES_MAX)
    signatures = _read_signatures(outer)
    outer.end()
    reader = Reader(body)
    reader.array(5, 5)
    reader.integer(_FORMAT, _FORMAT)
    consortium = reader.text(1, CONSORTIUM_BYTES_MAX)
    version = reader.integer(1, INT_MAX)
    previous = Digest(reader.blob(ID_BYTES, ID_BYTES))
    count = reader.array(1, MEMBERS_MAX)
    members = tuple(decode_card(reader.blob(1, CARD_BYTES_MAX)) for _ in range(count))
    reader.end()
    return Roster(consortium, version, previous, members, signatures)


def _read_signatures(reader: Reader) -> dict[SiteId, bytes]:
    signatures: dict[SiteId, bytes] = {}
    last = b""
    for _ in range(reader.array(0, MEMBERS_MAX)):
        reader.array(2, 2)
        site = SiteId(reader.blob(ID_BYTES, ID_BYTES))
        if site <= last:
            raise Garbled("signatures are not ascending by site", actual=site.hex())
        signatures[site] = reader.blob(ed25519.SIGNATURE_BYTES, ed25519.SIGNATURE_BYTES)
        last = site
    return signatures


def _roster_body(roster: Roster) -> bytes:
    cards = [encode_card(card) for card in roster.members]
    return pack((_FORMAT, roster.consortium, roster.version, roster.previous, cards))


def _signed(roster: Roster) -> bytes:
    return _DOMAIN + roster._body


def _check_terms(roster: Roster) -> None:
    name = roster.consortium
    if len(name) > CONSORTIUM_BYTES_MAX or not _CONSORTIUM.fullmatch(name):
        raise RosterInvalid("consortium", expected="[a-z0-9.-], at most 63", actual=ascii(name))
    if not 1 <= roster.version <= INT_MAX:
        raise RosterInvalid("version", expected="at least 1", actual=roster.version)
    if len(roster.previous) != ID_BYTES:
        raise RosterInvalid("previous digest bytes", expected=32, actual=len(roster.previous))
    if (roster.version == 1) != (roster.previous == NO_DIGEST):
        raise RosterInvalid("only version 1 has no previous roster", actual=roster.version)


def _check_members(members: tuple[Card, ...]) -> None:
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise RosterInvalid("members", expected=f"1…{MEMBERS_MAX}", actual=len(members))
    _refuse_twice("site", (card.site.hex() for card in members))
    # Upper and lower case would look alike on a screen.
    _refuse_twice("name", (card.name.casefold() for card in members))
    _refuse_twice("log", (card.log_id.hex() for card in members))
    _refuse_twice("key", (key.hex() for card in members for key in card.public_keys))
    _refuse_twice("address", (address for card in members for address in card.addresses))
    if any(first.site > second.site for first, second in pairwise(members)):
        raise RosterInvalid("members are not ascending by site")


def _refuse_twice(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise DuplicateMember(f"the same {what} twice", actual=value)
        seen.add(value)
