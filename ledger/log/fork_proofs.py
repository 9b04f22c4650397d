"""Fork proofs as values and as files: two signed statements of one key that cannot both be true.

Responsible for: the four kinds, and their one encoding (a dm1 map, so that a digest names a proof).
Must not know: whether a proof holds (see `forks`), or where proofs are kept.

    file = dm1{v: 1, kind: "K1" … "K4", keys: [verifier key …], first, second: bytes,
               path: [32 bytes …], lineage: [entry …]}
Source: LEDGER.md, Fork proofs.
"""

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import TypeAlias, assert_never

from ledger.log.dm1 import Value, decode, encode
from ledger.log.entries import RAW_BYTES_MAX, Digest
from ledger.log.errors import LedgerError
from ledger.log.fork_errors import ForkMalformed
from ledger.log.notes import VerifierKey
from ledger.log.tree import HASH_BYTES

FORK_BYTES_MAX = 2 * RAW_BYTES_MAX + 32_768
"""Two entries of the largest size and what surrounds them; proofs of heads stay below 40 KiB."""
KEYS_MAX = 4
LINEAGE_MAX = 16
PATH_MAX = 65
_VERSION = 1
_FIELDS = ("first", "keys", "kind", "lineage", "path", "second", "v")


class ForkKind(Enum):
    """The four ways to prove that two histories were told."""

    HEADS_OF_ONE_SIZE = "K1"
    HEADS_THAT_DISAGREE = "K2"
    ENTRIES_OF_ONE_NUMBER = "K3"
    COSIGNATURES_THAT_DISAGREE = "K4"


@dataclass(frozen=True, slots=True)
class HeadsOfOneSize:
    """K1: two signed heads of one size with different roots. first, second: notes.

    keys: log keys that signed the two sides. lineage: the genesis entry and the `key.rotated`
    entries that put these keys in force, raw; needed where there are several keys.
    """

    keys: tuple[VerifierKey, ...]
    first: bytes
    second: bytes
    lineage: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadsThatDisagree:
    """K2: two signed heads; `path` hashes to the newer root, but to another root at the older size.

    path: `tree.path_of_roots` of the newer head's tree, its first subtree always included.
    """

    keys: tuple[VerifierKey, ...]
    older: bytes
    newer: bytes
    path: tuple[bytes, ...]
    lineage: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EntriesOfOneNumber:
    """K3: two signed entries of one log and number that differ. first, second: raw entries."""

    keys: tuple[VerifierKey, ...]
    first: bytes
    second: bytes
    lineage: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class CosignaturesThatDisagree:
    """K4: one witness cosigned two heads that contradict each other as in K1 or K2.

    first, second: notes with the witness's cosignature, the smaller head first; path: as in K2,
    empty for two heads of one size.
    """

    witness: VerifierKey
    first: bytes
    second: bytes
    path: tuple[bytes, ...] = ()


ForkProof: TypeAlias = (
    HeadsOfOneSize | HeadsThatDisagree | EntriesOfOneNumber | CosignaturesThatDisagree
)


def encode_fork(proof: ForkProof) -> bytes:
    """The file of `proof`. Raises TooManyBytes."""
    match proof:
        case HeadsOfOneSize(keys, first, second, lineage):
            return _encoded(ForkKind.HEADS_OF_ONE_SIZE, keys, first, second, (), lineage)
        case HeadsThatDisagree(keys, first, second, path, lineage):
            return _encoded(ForkKind.HEADS_THAT_DISAGREE, keys, first, second, path, lineage)
        case EntriesOfOneNumber(keys, first, second, lineage):
            return _encoded(ForkKind.ENTRIES_OF_ONE_NUMBER, keys, first, second, (), lineage)
        case CosignaturesThatDisagree(witness, first, second, path):
            kind = ForkKind.COSIGNATURES_THAT_DISAGREE
            return _encoded(kind, (witness,), first, second, path, ())
        case _:
            assert_never(proof)


def fork_digest(data: bytes) -> Digest:
    """The name of a proof: SHA-256 of its file."""
    return Digest(sha256(data).digest())


def _encoded(
    kind: ForkKind,
    keys: tuple[VerifierKey, ...],
    first: bytes,
    second: bytes,
    path: tuple[bytes, ...],
    lineage: tuple[bytes, ...],
) -> bytes:
    fields: dict[str, Value] = {
        "first": first,
        "keys": [str(key) for key in keys],
        "kind": kind.value,
        "lineage": list(lineage),
        "path": list(path),
        "second": second,
        "v": _VERSION,
    }
    return encode(fields, FORK_BYTES_MAX)


def decode_fork(data: bytes) -> ForkProof:
    """The proof in a file from anybody; says nothing about whether it holds.

    Raises: ForkMalformed.
    """
    try:
        fields = decode(data, FORK_BYTES_MAX)
    except LedgerError as error:
        raise ForkMalformed(str(error)) from error
    if not isinstance(fields, dict) or tuple(fields) != _FIELDS:
        raise ForkMalformed
    # dm1 integers and booleans are different types, but True == 1.
    if type(fields["v"]) is not int or fields["v"] != _VERSION:
        raise ForkMalformed("v", expected=_VERSION, actual=fields["v"])
    first, second = fields["first"], fields["second"]
    if not isinstance(first, bytes) or not isinstance(second, bytes):
        raise ForkMalformed("first and second", expected="bytes")
    keys = _keys(fields["keys"])
    path = _byte_strings("path", fields["path"], PATH_MAX, HASH_BYTES)
    lineage = _byte_strings("lineage", fields["lineage"], LINEAGE_MAX, RAW_BYTES_MAX)
    return _proof(_kind(fields["kind"]), keys, first, second, path, lineage)


def _proof(
    kind: ForkKind,
    keys: tuple[VerifierKey, ...],
    first: bytes,
    second: bytes,
    path: tuple[bytes, ...],
    lineage: tuple[bytes, ...],
) -> ForkProof:
    """One form for each kind: what a kind does not use must be empty."""
    if kind is ForkKind.HEADS_THAT_DISAGREE:
        return HeadsThatDisagree(keys, first, second, path, lineage)
    if kind is ForkKind.COSIGNATURES_THAT_DISAGREE:
        if len(keys) != 1 or lineage:
            raise ForkMalformed("keys and lineage", expected="the witness's key alone")
        return CosignaturesThatDisagree(keys[0], first, second, path)
    if path:
        raise ForkMalformed("path", expected="none for this kind")
    if kind is ForkKind.HEADS_OF_ONE_SIZE:
        return HeadsOfOneSize(keys, first, second, lineage)
    return EntriesOfOneNumber(keys, first, second, lineage)


def _kind(value: Value) -> ForkKind:
    for kind in ForkKind:
        if value == kind.value:
            return kind
    raise ForkMalformed("kind", expected="K1 … K4", actual=value)


def _keys(value: Value) -> tuple[VerifierKey, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= KEYS_MAX:
        raise ForkMalformed("keys", expected=f"1 … {KEYS_MAX} verifier keys")
    keys = []
    for text in value:
        if not isinstance(text, str):
            raise ForkMalformed("keys", expected="text")
        try:
            keys.append(VerifierKey.parse(text))
        except LedgerError as error:
            raise ForkMalformed(str(error)) from error
    return tuple(keys)


def _byte_strings(field: str, value: Value, count_max: int, bytes_max: int) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > count_max:
        raise ForkMalformed(field, expected=f"at most {count_max} byte strings")
    found = []
    for item in value:
        if not isinstance(item, bytes) or len(item) > bytes_max:
            raise ForkMalformed(field, expected=f"at most {bytes_max} bytes")
        found.append(item)
    return tuple(found)
