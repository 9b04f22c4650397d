"""Records about who belongs to the consortium: what this site said in votes, and newer cards.

The entry stands in the log before the statement leaves the site, so that no crash and no restored
backup makes it say two things."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from ledger.provenance.fields import (
    INPUTS_MAX,
    Bytes,
    Count,
    Digest,
    DigestOrNone,
    FieldError,
    Many,
    check_fields,
    pack_fields,
    unpack_fields,
)
from ledger.provenance.terms import Kind


@dataclass(frozen=True, slots=True)
class RosterProposed(Kind):
    """Somebody here proposed the roster of this digest as this version."""

    KIND: ClassVar[str] = "roster.proposed"
    version: Count
    hash: Digest
    previous: Digest


@dataclass(frozen=True, slots=True)
class RosterSigned(Kind):
    """Somebody here signed this candidate. vote: 0 where the roster's file itself was signed."""

    KIND: ClassVar[str] = "roster.signed"
    version: Count
    vote: Count
    hash: Digest


@dataclass(frozen=True, slots=True)
class RosterAccepted(Kind):
    """The node saw a quorum of the members sign this candidate. signers: who they are.

    members: how many the roster in force has."""

    KIND: ClassVar[str] = "roster.accepted"
    version: Count
    vote: Count
    hash: Digest
    members: Count
    signers: Annotated[tuple[bytes, ...], Many(Bytes(32), INPUTS_MAX)]


@dataclass(frozen=True, slots=True)
class RosterClosed(Kind):
    """This site says nothing more in this vote and those before it.

    lock_vote, lock: the newest candidate that it saw a quorum for; if none, 0, and absent from
    the body."""

    KIND: ClassVar[str] = "roster.closed"
    version: Count
    vote: Count
    lock_vote: Count = 0
    lock: Annotated[bytes, DigestOrNone()] = b""

    def __post_init__(self) -> None:
        check_fields(self)
        if bool(self.lock_vote) != bool(self.lock) or self.lock_vote > self.vote:
            raise FieldError(
                "lock_vote", f"0 without a lock, else 1 to {self.vote}", self.lock_vote
            )

    def body(self) -> dict[str, Any]:
        packed = pack_fields(self)
        if not self.lock:
            del packed["lock"]
        return packed

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        record: Self = unpack_fields(cls, {"lock": b"", **body})
        return record


@dataclass(frozen=True, slots=True)
class CardRenewed(Kind):
    """From here on a member's newer card counts: other keys or addresses, signed by itself."""

    KIND: ClassVar[str] = "card.renewed"
    site: Digest
    serial: Count
    hash: Digest
