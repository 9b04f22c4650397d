"""What members say in a vote on the next roster, and how many of them it takes.

Two phases, so that no two rosters can ever follow the same one though up to f members lie and
though people vote again (PBFT, Castro and Liskov 1999; Tendermint, Buchman 2016):

  Sign    a person wants this roster; a member signs at most one per vote
  Accept  its node saw a quorum of `Sign`: it will tell so in every later vote
  Close   it says nothing more in this vote and those before, and shows the newest roster that it
          saw a quorum for (its *lock*); a quorum of `Close` opens the next vote

n members, f = ⌊(n − 1)/3⌋ of which may lie, quorum = ⌊(n + f)/2⌋ + 1. Two quorums share a member
that does not lie: it told its lock, and whoever signs in the next vote keeps to the highest lock.

Format, msgpack as `gossip.wire` reads it:
  body       [1, 1 or 2, previous, version, vote, candidate]            Sign, Accept
             [1, 3, previous, version, vote, lock's vote or 0, lock's candidate or 32 zero bytes]
  statement  [body, site, Ed25519(I, "p2pfl/roster-vote/v1\\0" ‖ body), [[site, signature]…]]
previous: digest of the roster in force, whose members vote. version: the candidate's. The list
holds the lock's quorum of `Sign` signatures, ascending by site; it is empty where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gossip import ed25519
from gossip.errors import BadSignature, Garbled, NoQuorum, StatementInvalid, TooLarge
from gossip.identifiers import ID_BYTES, NO_DIGEST, Digest, SiteId, digest_of, site_id_of
from gossip.limits import INT_MAX, MEMBERS_MAX, STATEMENT_BYTES_MAX, VOTE_MAX
from gossip.roster import Roster
from gossip.wire import Reader, pack

_DOMAIN: Final = b"p2pfl/roster-vote/v1\0"
_FORMAT: Final = 1
_SIGN, _ACCEPT, _CLOSE = 1, 2, 3

Signatures: TypeAlias = tuple[tuple[SiteId, bytes], ...]
"""Who signed, ascending by site."""


@dataclass(frozen=True, slots=True)
class Sign:
    """The site wants this candidate to be the next roster."""

    previous: Digest
    version: int
    vote: int
    candidate: Digest
    site: SiteId
    signature: bytes


@dataclass(frozen=True, slots=True)
class Accept:
    """The site's node saw a quorum of `Sign` for this candidate in this vote."""

    previous: Digest
    version: int
    vote: int
    candidate: Digest
    site: SiteId
    signature: bytes


@dataclass(frozen=True, slots=True)
class Lock:
    """A candidate that a quorum signed in a vote. signs: that quorum's signatures."""

    vote: int
    candidate: Digest
    signs: Signatures


@dataclass(frozen=True, slots=True)
class Close:
    """The site says nothing more in this vote and those before it."""

    previous: Digest
    version: int
    vote: int
    lock: Lock | None
    site: SiteId
    signature: bytes


Statement: TypeAlias = Sign | Accept | Close


def faulty_max(members: int) -> int:
    """How many members may lie without harm.

    >>> [faulty_max(n) for n in (1, 3, 4, 7)]
    [0, 0, 1, 2]
    """
    return (members - 1) // 3


def quorum(members: int) -> int:
    """How many members have to stand behind a roster.

    >>> [quorum(n) for n in range(1, 8)]
    [1, 2, 2, 3, 4, 4, 5]
    """
    return (members + faulty_max(members)) // 2 + 1


def sign_candidate(seed: bytes, roster: Roster, vote: int, candidate: Digest) -> Sign:
    """seed: of the identity key. roster: in force."""
    return Sign(*_stated(seed, roster, vote, candidate, _SIGN))


def accept_candidate(seed: bytes, roster: Roster, vote: int, candidate: Digest) -> Accept:
    """seed: of the identity key. roster: in force."""
    return Accept(*_stated(seed, roster, vote, candidate, _ACCEPT))


def close_vote(seed: bytes, roster: Roster, vote: int, lock: Lock | None) -> Close:
    """seed: of the identity key. roster: in force."""
    body = _close_body(roster.digest, roster.version + 1, vote, lock)
    signature = ed25519.sign(seed, _DOMAIN + body)
    site = site_id_of(ed25519.public_key_of(seed))
    return Close(roster.digest, roster.version + 1, vote, lock, site, signature)


def statement_id(statement: Statement) -> Digest:
    """The statement's name between nodes."""
    return digest_of(encode_statement(statement))


def verify_statement(statement: Statement, roster: Roster) -> None:
    """Whether a member of this roster said it about its successor.

    Raises StatementInvalid, NotOnRoster, BadSignature, NoQuorum."""
    if statement.previous != roster.digest or statement.version != roster.version + 1:
        raise StatementInvalid(
            "of a vote on another roster",
            expected=f"version {roster.version + 1}",
            actual=statement.version,
        )
    card = roster.member(statement.site)
    if not ed25519.verify(card.identity_pk, _DOMAIN + _body(statement), statement.signature):
        raise BadSignature("statement of a vote", actual=f"site {statement.site.hex()}")
    if isinstance(statement, Close) and statement.lock is not None:
        _verify_lock(statement.lock, statement.vote, roster)


def verify_signs(roster: Roster, vote: int, candidate: Digest, signatures: Signatures) -> None:
    """A quorum of members signed the candidate. Raises NotOnRoster, BadSignature, NoQuorum."""
    _verify_quorum(roster, _choice_body(roster, vote, candidate, _SIGN), signatures)


def verify_accepts(roster: Roster, vote: int, candidate: Digest, signatures: Signatures) -> None:
    """A quorum of members accepted the candidate. Raises like `verify_signs`."""
    _verify_quorum(roster, _choice_body(roster, vote, candidate, _ACCEPT), signatures)


def in_order(signatures: Mapping[SiteId, bytes], count: int) -> Signatures:
    """The first `count` of them by site: enough to show, and the same for everybody."""
    return tuple(sorted(signatures.items())[:count])


def encode_statement(statement: Statement) -> bytes:
    """At most `STATEMENT_BYTES_MAX` bytes."""
    lock = statement.lock if isinstance(statement, Close) else None
    signs = [] if lock is None else list(lock.signs)
    return pack((_body(statement), statement.site, statement.signature, signs))


def decode_statement(data: bytes) -> Statement:
    """A statement from bytes that anybody may have written. Raises PeerError."""
    if len(data) > STATEMENT_BYTES_MAX:
        raise TooLarge(
            "statement", expected=f"at most {STATEMENT_BYTES_MAX} bytes", actual=len(data)
        )
    outer = Reader(data)
    outer.array(4, 4)
    body = outer.blob(1, 128)
    site = SiteId(outer.blob(ID_BYTES, ID_BYTES))
    signature = outer.blob(ed25519.SIGNATURE_BYTES, ed25519.SIGNATURE_BYTES)
    signs = read_signatures(outer)
    outer.end()
    reader = Reader(body)
    length = reader.array(6, 7)
    reader.integer(_FORMAT, _FORMAT)
    kind = reader.integer(_SIGN, _CLOSE)
    if length != (7 if kind == _CLOSE else 6):
        raise Garbled("values in a statement of this kind", actual=length)
    previous = Digest(reader.blob(ID_BYTES, ID_BYTES))
    version = reader.integer(2, INT_MAX)
    vote = reader.integer(1, VOTE_MAX)
    if kind == _CLOSE:
        lock = _read_lock(reader, vote, signs)
        reader.end()
        return Close(previous, version, vote, lock, site, signature)
    candidate = Digest(reader.blob(ID_BYTES, ID_BYTES))
    reader.end()
    if signs:
        raise Garbled("signatures behind a statement that needs none")
    of_kind: Callable[..., Sign | Accept] = Sign if kind == _SIGN else Accept
    return of_kind(previous, version, vote, candidate, site, signature)


def read_signatures(reader: Reader) -> Signatures:
    """A list of [site, signature], strictly ascending by site. Raises Garbled, TooLarge."""
    found: list[tuple[SiteId, bytes]] = []
    for _ in range(reader.array(0, MEMBERS_MAX)):
        reader.array(2, 2)
        site = SiteId(reader.blob(ID_BYTES, ID_BYTES))
        if found and site <= found[-1][0]:
            raise Garbled("signatures are not ascending by site", actual=site.hex())
        found.append((site, reader.blob(ed25519.SIGNATURE_BYTES, ed25519.SIGNATURE_BYTES)))
    return tuple(found)


def _read_lock(reader: Reader, closed: int, signs: Signatures) -> Lock | None:
    vote = reader.integer(0, closed)
    candidate = Digest(reader.blob(ID_BYTES, ID_BYTES))
    if (vote == 0) != (candidate == NO_DIGEST) or (vote == 0) != (not signs):
        raise Garbled("a lock is a vote, a candidate and signatures, or none of them")
    return Lock(vote, candidate, signs) if vote else None


def _verify_lock(lock: Lock, closed: int, roster: Roster) -> None:
    if not 1 <= lock.vote <= closed:
        raise StatementInvalid("a lock's vote", expected=f"1…{closed}", actual=lock.vote)
    verify_signs(roster, lock.vote, lock.candidate, lock.signs)


def _verify_quorum(roster: Roster, body: bytes, signatures: Signatures) -> None:
    needed = quorum(len(roster.members))
    if len({site for site, _ in signatures}) < needed:
        raise NoQuorum("members behind it", expected=needed, actual=len(signatures))
    for site, signature in signatures:
        if not ed25519.verify(roster.member(site).identity_pk, _DOMAIN + body, signature):
            raise BadSignature("statement of a vote", actual=f"site {site.hex()}")


def _stated(
    seed: bytes, roster: Roster, vote: int, candidate: Digest, kind: int
) -> tuple[Digest, int, int, Digest, SiteId, bytes]:
    signature = ed25519.sign(seed, _DOMAIN + _choice_body(roster, vote, candidate, kind))
    site = site_id_of(ed25519.public_key_of(seed))
    return roster.digest, roster.version + 1, vote, candidate, site, signature


def _choice_body(roster: Roster, vote: int, candidate: Digest, kind: int) -> bytes:
    return pack((_FORMAT, kind, roster.digest, roster.version + 1, vote, candidate))


def _close_body(previous: Digest, version: int, vote: int, lock: Lock | None) -> bytes:
    named: Sequence[int | bytes] = (0, NO_DIGEST) if lock is None else (lock.vote, lock.candidate)
    return pack((_FORMAT, _CLOSE, previous, version, vote, *named))


def _body(statement: Statement) -> bytes:
    if isinstance(statement, Close):
        return _close_body(statement.previous, statement.version, statement.vote, statement.lock)
    kind = _SIGN if isinstance(statement, Sign) else _ACCEPT
    head = (_FORMAT, kind, statement.previous, statement.version)
    return pack((*head, statement.vote, statement.candidate))
