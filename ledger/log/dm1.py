"""dm1: the one encoding of everything the log signs, a strict subset of msgpack.

Responsible for: exactly one byte string per value, and one named error per violated rule.
Must not know: what an entry is.

Rules: map keys `[a-z0-9_]+`, sorted; types int64, str (NFC), bin, array, map, bool; no float,
extension or nil; at most 16 containers deep; at most 64 KiB. Decoding type-checks *and* re-packs:
re-packing alone misses NaN, −0.0 and extension types.
Source: LEDGER.md, Encoding "dm1".
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

import msgpack

from ledger.log.errors import (
    ExtensionRefused,
    FloatRefused,
    Garbled,
    IntegerOutOfRange,
    KeyDuplicate,
    KeyIllegal,
    KeyUnsorted,
    NilRefused,
    NotShortest,
    TextNotNfc,
    TextNotUnicode,
    TooDeep,
    TooManyBytes,
    TrailingBytes,
    Truncated,
    TypeRefused,
)

Value: TypeAlias = int | str | bytes | bool | list["Value"] | dict[str, "Value"]

BYTES_MAX = 65_536
DEPTH_MAX = 16
INT_MIN = -(2**63)
INT_MAX = 2**63 - 1

_is_key = re.compile(r"[a-z0-9_]+", re.ASCII).fullmatch


def encode(value: Value | Mapping[str, Value], bytes_max: int = BYTES_MAX) -> bytes:
    """The one dm1 encoding of `value`; map keys are sorted here, so any order may come in.

    Raises: a subclass of EncodingError naming the violated rule.

    >>> encode({"b": 1, "a": [True, "x"]}).hex()
    '82a16192c3a178a16201'
    """
    top = dict(value) if isinstance(value, Mapping) else value
    canonical = _canonical(top, 1)
    try:
        data = bytes(msgpack.packb(canonical))
    except UnicodeEncodeError as error:
        raise TextNotUnicode(actual=error.reason) from None
    if len(data) > bytes_max:
        raise TooManyBytes(expected=f"at most {bytes_max}", actual=len(data))
    return data


def decode(data: bytes, bytes_max: int = BYTES_MAX) -> Value:
    """The value that `data` encodes, if `data` is its one encoding.

    Raises: a subclass of EncodingError naming the violated rule. Hostile input cannot make it
    use more than a small multiple of `bytes_max` in memory.
    """
    if len(data) > bytes_max:
        raise TooManyBytes(expected=f"at most {bytes_max}", actual=len(data))
    value = _unpacked(data)
    _check(value, 1)
    if msgpack.packb(value) != data:
        _explain_difference(data)
    return value  # type: ignore[no-any-return]  # _check proved it to be a Value


def _canonical(value: object, depth: int) -> object:
    """A copy of `value` with sorted maps, every rule checked that concerns single values."""
    if type(value) is list:
        _check_depth(depth)
        return [_canonical(item, depth + 1) for item in value]
    if type(value) is dict:
        _check_depth(depth)
        ordered = {}
        keys = _sorted_keys(tuple(value))
        if keys is None:
            _refuse_keys(tuple(value))
        for key in keys:
            item = value[key]
            # No calls for what most values are.
            if type(item) is dict or type(item) is list:
                item = _canonical(item, depth + 1)
            elif type(item) is not bytes:
                _check_scalar(item)
            ordered[key] = item
        return ordered
    _check_scalar(value)
    return value


def _check(value: object, depth: int) -> None:
    """Check what was decoded: like `_canonical`, but the order of keys must be right already."""
    if type(value) is list:
        _check_depth(depth)
        for item in value:
            _check(item, depth + 1)
    elif type(value) is dict:
        _check_depth(depth)
        keys = tuple(value)
        if _sorted_keys(keys) != keys:
            _refuse_keys(keys)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                _check(item, depth + 1)
            elif type(item) is not bytes:
                _check_scalar(item)
    else:
        _check_scalar(value)


@lru_cache(maxsize=128)
def _sorted_keys(keys: tuple[object, ...]) -> tuple[str, ...] | None:
    """`keys` in order; None if one of them may not be a key."""
    words = [key for key in keys if type(key) is str and _is_key(key)]
    return tuple(sorted(words)) if len(words) == len(keys) else None


def _refuse_keys(keys: Sequence[object]) -> NoReturn:
    for key in keys:
        if _sorted_keys((key,)) is None:
            raise KeyIllegal(actual=repr(key)[:80])
    before, key = next(pair for pair in pairwise(map(str, keys)) if pair[0] > pair[1])
    raise KeyUnsorted(actual=f"{key[:80]!r} after {before[:80]!r}")


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise TooDeep(expected=DEPTH_MAX, actual="more")


def _check_scalar(value: object) -> None:
    # Exact types: an int subclass such as an enum would be packed as something else.
    if type(value) is str:
        if not value.isascii() and not unicodedata.is_normalized("NFC", value):
            raise TextNotNfc(actual=value[:80])
    elif type(value) is int:
        if not INT_MIN <= value <= INT_MAX:
            raise IntegerOutOfRange(actual=value)
    elif type(value) is not bytes and type(value) is not bool:
        _refuse_type(value)


def _refuse_type(value: object) -> NoReturn:
    if value is None:
        raise NilRefused
    if isinstance(value, float):
        raise FloatRefused(actual=value)
    if isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        raise ExtensionRefused
    raise TypeRefused(actual=type(value).__name__)


def _unpacked(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except msgpack.ExtraData as error:
        raise TrailingBytes(actual=f"{len(error.extra)} bytes more") from None
    except msgpack.StackError:
        raise TooDeep(expected=DEPTH_MAX, actual="more") from None
    except msgpack.FormatError:
        raise Garbled from None
    except UnicodeDecodeError as error:
        raise TextNotUnicode(actual=error.reason) from None
    except TypeError:
        raise KeyIllegal(actual="a list or map as key") from None
    except ValueError as error:
        # msgpack reports an early end and an impossible length with the same class.
        raise Truncated(str(error)[:80]) from None


def _explain_difference(data: bytes) -> NoReturn:
    """The bytes differ from the one encoding of their value: say by which rule."""

    def refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise KeyDuplicate(actual=next(key for key in keys if keys.count(key) > 1))
        return dict(pairs)

    msgpack.unpackb(data, raw=False, strict_map_key=False, object_pairs_hook=refuse_duplicates)
    raise NotShortest
