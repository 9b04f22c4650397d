"""What a field of an entry may hold: types, ranges and their place in the encoded body.

Responsible for checking values once, in both directions: a record cannot be made, and an entry
cannot be read, with a digest of 31 bytes or a sentence where a code belongs. Knows nothing of the
single kinds."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

INT_MAX = 2**63 - 1
ROUNDS_MAX = 1_000_000
MICRO = 1_000_000
INPUTS_MAX = 256
TABLE_MAX = 8192
PARAMETERS_MAX = 64
DIGEST_BYTES = 32

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+()=-]{0,95}")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")
_KEY = re.compile(r"[a-z0-9_]{1,40}")


class FieldError(ValueError):
    """A value does not fit its field."""

    def __init__(self, field: str, expected: str, actual: object) -> None:
        self.field = field
        self.expected = expected
        self.actual = actual
        super().__init__(f"{field}: expected {expected}, got {_short(actual)}")


def _short(value: object) -> str:
    """What a refused value looks like, never all of it."""
    text = value.hex() if isinstance(value, bytes) else repr(value)
    return f"{type(value).__name__} {text if len(text) <= 70 else text[:67] + '...'}"


class Spec(Protocol):
    """How one field is checked (`check`) and how it stands in a body (`pack`, `unpack`).

    `unpack` may return anything; `check` decides afterwards. Values are `Any` here because a
    body is exactly that until its fields are checked."""

    def check(self, field: str, value: Any) -> None: ...
    def pack(self, value: Any) -> Any: ...
    def unpack(self, field: str, value: Any) -> Any: ...


class Plain:
    """Stands in the body as it is."""

    def pack(self, value: Any) -> Any:
        return value

    def unpack(self, field: str, value: Any) -> Any:
        return value


@dataclass(frozen=True, slots=True)
class Bytes(Plain):
    """Exactly `length` bytes."""

    length: int

    def check(self, field: str, value: Any) -> None:
        if type(value) is not bytes or len(value) != self.length:
            raise FieldError(field, f"{self.length} bytes", value)


@dataclass(frozen=True, slots=True)
class SignatureOrNone(Plain):
    """An Ed25519 signature, or no bytes where there is none."""

    def check(self, field: str, value: Any) -> None:
        if value != b"":
            Bytes(64).check(field, value)


@dataclass(frozen=True, slots=True)
class DigestOrNone(Plain):
    """A SHA-256, or no bytes where there is none."""

    def check(self, field: str, value: Any) -> None:
        if value != b"":
            Bytes(32).check(field, value)


@dataclass(frozen=True, slots=True)
class Integer(Plain):
    """An integer of `lowest` to `highest`, never a bool."""

    lowest: int
    highest: int

    def check(self, field: str, value: Any) -> None:
        if type(value) is not int or not self.lowest <= value <= self.highest:
            raise FieldError(field, f"an integer of {self.lowest} to {self.highest}", value)


def is_code(text: str) -> bool:
    """Whether an entry takes this text as a code."""
    return _CODE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Text(Plain):
    """A code: no spaces, no sentences, because personal data hides in free text."""

    def check(self, field: str, value: Any) -> None:
        if type(value) is not str or (value and not is_code(value)):
            raise FieldError(field, "a code without spaces (≤96 characters) or nothing", value)


@dataclass(frozen=True, slots=True)
class Number(Plain):
    """A decimal number ≥0 as text, because the ledger's encoding has no floats."""

    def check(self, field: str, value: Any) -> None:
        if type(value) is not str or not _DECIMAL.fullmatch(value):
            raise FieldError(field, "a decimal number ≥0 as text", value)


@dataclass(frozen=True, slots=True)
class OneOf(Plain):
    """One of a closed set of words."""

    words: tuple[str, ...]

    def check(self, field: str, value: Any) -> None:
        if type(value) is not str or value not in self.words:
            raise FieldError(field, "one of " + ", ".join(self.words), value)


@dataclass(frozen=True, slots=True)
class Words(Plain):
    """A small table of codes by name."""

    def check(self, field: str, value: Any) -> None:
        if type(value) is not dict or len(value) > PARAMETERS_MAX:
            raise FieldError(field, f"a table of at most {PARAMETERS_MAX} codes", value)
        for key, word in value.items():
            if type(key) is not str or not _KEY.fullmatch(key):
                raise FieldError(field, "names of a–z, 0–9 and _", key)
            Text().check(f"{field}.{key}", word)


@dataclass(frozen=True, slots=True)
class Many:
    """A tuple of at most `count_max` items, a list in the body."""

    item: Spec
    count_max: int

    def check(self, field: str, value: Any) -> None:
        if type(value) is not tuple or len(value) > self.count_max:
            raise FieldError(field, f"at most {self.count_max} items", value)
        for position, item in enumerate(value):
            try:
                self.item.check(field, item)
            except FieldError as error:
                place = f"{field}[{position}]{error.field.removeprefix(field)}"
                raise FieldError(place, error.expected, error.actual) from None

    def pack(self, value: Any) -> Any:
        return [self.item.pack(item) for item in value]

    def unpack(self, field: str, value: Any) -> Any:
        if type(value) is not list:
            raise FieldError(field, "a list", value)
        return tuple(self.item.unpack(field, item) for item in value[: self.count_max + 1])


@dataclass(frozen=True, slots=True)
class Part:
    """A nested record: a dataclass with fields of its own, a map in the body."""

    of: type[Any]

    def check(self, field: str, value: Any) -> None:
        if type(value) is not self.of:
            raise FieldError(field, self.of.__name__, value)

    def pack(self, value: Any) -> Any:
        return pack_fields(value)

    def unpack(self, field: str, value: Any) -> Any:
        return unpack_fields(self.of, value, field + ".")


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a field in the body where it differs from the Python name."""

    name: str


Digest = Annotated[bytes, Bytes(DIGEST_BYTES)]
Count = Annotated[int, Integer(0, INT_MAX)]
Signed = Annotated[int, Integer(-INT_MAX, INT_MAX)]
Round = Annotated[int, Integer(0, ROUNDS_MAX)]
Seq = Annotated[int, Integer(0, INT_MAX)]
SeqOrNone = Annotated[int, Integer(-1, INT_MAX)]
"""−1 where there is no such entry."""
Micro = Annotated[int, Integer(0, INT_MAX)]
"""ε in millionths, rounded up."""
WeightMicro = Annotated[int, Integer(0, MICRO)]
Steps = Annotated[int, Integer(0, 10_000_000)]
Code = Annotated[str, Text()]
Decimals = Annotated[str, Number()]
CodeTable = Annotated[dict[str, str], Words()]


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    key: str
    spec: Spec


_SLOTS: dict[type[Any], tuple[_Slot, ...]] = {}  # reading type hints is slow, records are many


_KEYS: dict[type[Any], frozenset[str]] = {}

_Check = tuple[str, Callable[[str, Any], None]]


@dataclass(frozen=True, slots=True)
class _Checks:
    """How all fields of a class are looked at, quickly."""

    every: tuple[_Check, ...]
    """In their order: what is wrong is found again, and named, by these."""
    digests: Callable[[Any], tuple[Any, ...]]
    others: tuple[_Check, ...]


_CHECKS: dict[type[Any], _Checks] = {}


def _slots(of: type[Any]) -> tuple[_Slot, ...]:
    if of not in _SLOTS:
        hints = get_type_hints(of, include_extras=True)
        _SLOTS[of] = tuple(_slot(field.name, hints[field.name]) for field in fields(of))
    return _SLOTS[of]


def _keys(of: type[Any]) -> frozenset[str]:
    if of not in _KEYS:
        _KEYS[of] = frozenset(slot.key for slot in _slots(of))
    return _KEYS[of]


def _slot(name: str, hint: Any) -> _Slot:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    key = next((mark.name for mark in marks if isinstance(mark, Key)), name)
    specs = [mark for mark in marks if not isinstance(mark, Key)]
    return _Slot(name, key, specs[0] if specs else Part(hint))  # no mark: a nested record


def layout_of(of: type[Any]) -> dict[str, Spec]:
    """How a dataclass stands in a body: each key, and what it may hold."""
    return {slot.key: slot.spec for slot in _slots(of)}


def check_fields(record: Any) -> None:
    """Check every field of a dataclass instance. Raises FieldError."""
    checks = _CHECKS.get(type(record)) or _checks(type(record))
    left = checks.others
    for value in checks.digests(record):
        if type(value) is not bytes or len(value) != DIGEST_BYTES:
            left = checks.every
            break
    for name, check in left:
        check(name, getattr(record, name))


def _checks(of: type[Any]) -> _Checks:
    digests = [slot.name for slot in _slots(of) if slot.spec == Bytes(DIGEST_BYTES)]
    if len(digests) < 2:  # of one name `attrgetter` gives no tuple
        digests = []
    every = tuple((slot.name, slot.spec.check) for slot in _slots(of))
    others = tuple(check for check in every if check[0] not in digests)
    _CHECKS[of] = _Checks(every, attrgetter(*digests) if digests else _none, others)
    return _CHECKS[of]


def _none(_record: Any) -> tuple[Any, ...]:
    return ()


def pack_fields(record: Any) -> dict[str, Any]:
    """The body of a checked record."""
    return {slot.key: slot.spec.pack(getattr(record, slot.name)) for slot in _slots(type(record))}


def unpack_fields(of: type[Any], body: Any, prefix: str = "") -> Any:
    """A record from a body with exactly its keys. Raises FieldError."""
    where = prefix.rstrip(".") or "body"
    if not isinstance(body, Mapping):
        raise FieldError(where, "a map", body)
    slots, expected = _slots(of), _keys(of)
    if body.keys() != expected:
        raise FieldError(where, "the keys " + ", ".join(sorted(expected)), sorted(body))
    return of(**{slot.name: slot.spec.unpack(prefix + slot.key, body[slot.key]) for slot in slots})


def decimal_of(text: str) -> Decimal:
    """The number that a checked decimal text stands for."""
    return Decimal(text)
