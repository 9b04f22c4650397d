"""The parts that kinds of entries are made of: checked records, privacy terms, references.

Responsible for what all kinds share. Knows nothing of the single kinds; those are in `kinds`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from ledger.log import Draft
from ledger.provenance.fields import (
    Code,
    Decimals,
    Digest,
    FieldError,
    OneOf,
    Seq,
    SeqOrNone,
    Steps,
    WeightMicro,
    check_fields,
    decimal_of,
    pack_fields,
    unpack_fields,
)


class KindError(ValueError):
    """An entry's kind is unknown or its body is not what the kind asks for."""

    def __init__(self, seq: int, kind: str, reason: str) -> None:
        self.seq = seq
        self.kind = kind
        self.reason = reason
        super().__init__(f"entry {seq} ({kind}): {reason}")


class UnknownKind(KindError):
    """A kind this version does not know: perhaps written by a newer one."""


class Checked:
    """Checks all fields as soon as an instance exists."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self)


class Kind(Checked):
    """What every record can do."""

    __slots__ = ()
    KIND: ClassVar[str]

    def body(self) -> dict[str, Any]:
        """The record as it stands in the entry."""
        return pack_fields(self)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The record that a body holds. Raises FieldError."""
        record: Self = unpack_fields(cls, body)
        return record

    def draft(self, actor: str) -> Draft:
        """What to append, on behalf of an actor (a pseudonym such as "node" or "owner-1")."""
        return Draft(kind=self.KIND, actor=actor, body=RecordBody(self))


class RecordBody(Mapping[str, Any]):
    """A record as a body, packed only when somebody looks inside."""

    __slots__ = ("_packed", "record")

    def __init__(self, record: Kind) -> None:
        self.record = record
        self._packed: dict[str, Any] | None = None

    def _body(self) -> dict[str, Any]:
        if self._packed is None:
            self._packed = self.record.body()
        return self._packed

    def __getitem__(self, key: str) -> Any:
        return self._body()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._body())

    def __len__(self) -> int:
        return len(self._body())

    def __repr__(self) -> str:
        return repr(self._body())


@dataclass(frozen=True, slots=True)
class DpTerms(Checked):
    """A mechanism and its parameters, per round of a study.

    mech "none" means no protection; its numbers then say nothing. q is the sampling rate in
    (0, 1], steps the noisy steps of one round, clip the norm bound, sigma the noise multiplier
    relative to it. acct and acct_ver name the accountant that computed ε."""

    mech: Annotated[str, OneOf(("none", "gaussian", "poisson"))]
    sigma: Decimals
    q: Decimals
    steps: Steps
    clip: Decimals
    delta: Decimals
    acct: Code
    acct_ver: Code

    def __post_init__(self) -> None:
        check_fields(self)
        if self.mech == "none":
            return
        for field in ("sigma", "clip"):
            if decimal_of(getattr(self, field)) <= 0:
                raise FieldError(field, "more than 0", getattr(self, field))
        if not 0 < decimal_of(self.q) <= 1:
            raise FieldError("q", "a rate in (0, 1]", self.q)
        if not 0 < decimal_of(self.delta) < 1:
            raise FieldError("delta", "a number in (0, 1)", self.delta)
        if self.steps < 1:
            raise FieldError("steps", "at least 1", self.steps)


@dataclass(frozen=True, slots=True)
class InputRef(Checked):
    """An own update: the entry that published it (−1: none in this round) and its digest."""

    seq: SeqOrNone
    hash: Digest


@dataclass(frozen=True, slots=True)
class AggInput(Checked):
    """A neighbour's update as it entered an average: where it was published, and its weight."""

    site: Digest
    log_id: Digest
    seq: Seq
    hash: Digest
    weight_u: WeightMicro
