"""Records about the site itself and what it saw of others: peers, roster, keys, clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self

from ledger.provenance.fields import (
    Code,
    Count,
    Digest,
    DigestOrNone,
    FieldError,
    Integer,
    Micro,
    OneOf,
    Seq,
    SeqOrNone,
    SignatureOrNone,
    Signed,
    pack_fields,
    unpack_fields,
)
from ledger.provenance.terms import Kind

_KEYS = ("identity", "transport", "log", "witness")


@dataclass(frozen=True, slots=True)
class PeerMisbehaved(Kind):
    """A peer broke this rule of the protocol, so often in all; told at 1, 10, 100, …."""

    KIND: ClassVar[str] = "peer.misbehaved"
    site: Digest
    reason: Code
    count: Count


@dataclass(frozen=True, slots=True)
class RosterChanged(Kind):
    """From here on this version of the roster is in force.

    certificate: digest of the change with the signatures that put it into force; empty, and absent
    from the body, for a roster that this site was given as a file."""

    KIND: ClassVar[str] = "roster.changed"
    version: Count
    hash: Digest
    members: Count
    certificate: Annotated[bytes, DigestOrNone()] = b""

    def body(self) -> dict[str, Any]:
        packed = pack_fields(self)
        if not self.certificate:
            del packed["certificate"]
        return packed

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        record: Self = unpack_fields(cls, {"certificate": b"", **body})
        return record


@dataclass(frozen=True, slots=True)
class PeerHead(Kind):
    """The newest head of another site's log that this site saw."""

    KIND: ClassVar[str] = "peer.head"
    log_id: Digest
    size: Count
    root: Digest


@dataclass(frozen=True, slots=True)
class ForkFound(Kind):
    """A log showed two histories; `proof` is the digest of the fork proof file.

    witness: in a K4 the site that cosigned both of them, whom alone it accuses; else empty, and
    absent from the body."""

    KIND: ClassVar[str] = "fork.found"
    log_id: Digest
    form: Annotated[str, OneOf(("K1", "K2", "K3", "K4"))]
    proof: Digest
    witness: Annotated[bytes, DigestOrNone()] = b""

    def body(self) -> dict[str, Any]:
        packed = pack_fields(self)
        if not self.witness:
            del packed["witness"]
        return packed

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        record: Self = unpack_fields(cls, {"witness": b"", **body})
        if record.witness and record.form != "K4":
            raise FieldError("witness", "none: only a K4 accuses a witness", record.form)
        return record


@dataclass(frozen=True, slots=True)
class KeyRotated(Kind):
    """One of the site's keys was replaced.

    statement: the identity key's signature over the change, which the log itself verifies where
    its own key is replaced; empty, and absent from the body, for the site's other keys."""

    KIND: ClassVar[str] = "key.rotated"
    key: Annotated[str, OneOf(_KEYS)]
    old: Digest
    new: Digest
    statement: Annotated[bytes, SignatureOrNone()] = b""

    def body(self) -> dict[str, Any]:
        packed = pack_fields(self)
        return packed if self.statement else {name: packed[name] for name in ("key", "old", "new")}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        record: Self = unpack_fields(cls, {"statement": b"", **body})
        return record


@dataclass(frozen=True, slots=True)
class KeyCompromised(Kind):
    """One of the site's keys must not be believed from this time on."""

    KIND: ClassVar[str] = "key.compromised"
    key: Annotated[str, OneOf(_KEYS)]
    public_key: Digest
    since_us: Count


@dataclass(frozen=True, slots=True)
class Redacted(Kind):
    """The secret behind a commitment in an earlier entry was erased, on this legal basis."""

    KIND: ClassVar[str] = "redacted"
    seq: Seq
    field: Code
    basis: Code


@dataclass(frozen=True, slots=True)
class PolicyChanged(Kind):
    """From here on this policy file decides."""

    KIND: ClassVar[str] = "policy.changed"
    hash: Digest


@dataclass(frozen=True, slots=True)
class ClockAnomaly(Kind):
    """The clock jumped by this much."""

    KIND: ClassVar[str] = "clock.anomaly"
    delta_us: Signed


@dataclass(frozen=True, slots=True)
class NodeOfflineStart(Kind):
    """The node started to release without a peer's word on its own log."""

    KIND: ClassVar[str] = "node.offline_start"
    peers: Count


@dataclass(frozen=True, slots=True)
class AuditRun(Kind):
    """An audit of this log ended with this exit code and so many findings."""

    KIND: ClassVar[str] = "audit.run"
    exit: Annotated[int, Integer(0, 255)]
    findings: Count


@dataclass(frozen=True, slots=True)
class LogRecovered(Kind):
    """After a loss the log was put together again, up to the largest head that anybody held.

    kept: entries that were still at the site; taken: entries that came from mirrors."""

    KIND: ClassVar[str] = "log.recovered"
    kept: Count
    taken: Count


ANY_DATA: Final = bytes(32)
"""Stands for data that nobody can name any more."""


@dataclass(frozen=True, slots=True)
class SpendingUnknown(Kind):
    """Nobody can say all that was spent on a dataset: until a decision it counts as exhausted.

    ds: the dataset, or `ANY_DATA`: whatever is registered after this, because registrations may
    be among entries that were lost. log_id: where it was recorded. missing_from: the first of that
    log's entries that is lost; −1: all is known of the log, but not whether this data is the same.
    """

    KIND: ClassVar[str] = "spending.unknown"
    ds: Digest
    log_id: Digest
    missing_from: SeqOrNone


@dataclass(frozen=True, slots=True)
class SpendingAccepted(Kind):
    """The data manager's decision on what may have been spent beyond what is on record.

    extra_u: ε of that, at half of the dataset's δ; eps_total_u: with all that is known, at the
    other half. From here on this is the dataset's spending."""

    KIND: ClassVar[str] = "spending.accepted"
    ds: Digest
    extra_u: Micro
    eps_total_u: Micro
    basis: Code
