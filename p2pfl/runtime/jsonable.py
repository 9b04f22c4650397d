"""Frozen values to JSON and back: what crosses the control socket and what `--json` prints.

Reading is strict: unknown or missing fields and wrong types are refused, because the other end
may run another version. Bytes are hex here, as everywhere at the edge.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar, cast

from p2pfl.runtime.errors import RuntimeFault

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

T = TypeVar("T")


class NotThisShape(RuntimeFault):
    """JSON does not have the fields and types that were expected."""

    def __init__(self, place: str, *, expected: str, actual: object) -> None:
        super().__init__(f"{place or 'value'}: expected {expected}, got {str(actual)[:80]!r}")


def to_json(value: object) -> Json:
    """Turn dataclasses, tuples, mappings, enums, paths and bytes into plain JSON values."""
    match value:
        case Enum():
            return to_json(value.value)
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case Path():
            return str(value)
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(cls: type[T], data: Json) -> T:
    """Build the dataclass `cls` from JSON. Raises NotThisShape."""
    return cast(T, _read(cls, data, ""))


def _read(hint: object, data: Json, place: str) -> object:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _read_union(hint, data, place)
    if origin is tuple:
        return _read_tuple(hint, data, place)
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise NotThisShape(place, expected="an object", actual=data)
        item = typing.get_args(hint)[1]
        return {key: _read(item, value, f"{place}.{key}") for key, value in data.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, data, place)
    return _read_scalar(hint, data, place)


def _read_scalar(hint: object, data: Json, place: str) -> object:
    if hint is bytes:
        if isinstance(data, str):
            try:
                return bytes.fromhex(data)
            except ValueError:
                pass
        raise NotThisShape(place, expected="hex", actual=data)
    if hint is Path:
        if isinstance(data, str):
            return Path(data)
        raise NotThisShape(place, expected="a path", actual=data)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise NotThisShape(place, expected="float", actual="a larger number") from None
    if hint in (bool, int, float, str) and type(data) is hint:
        return data
    raise NotThisShape(place, expected=getattr(hint, "__name__", str(hint)), actual=data)


def _read_union(hint: object, data: Json, place: str) -> object:
    members = typing.get_args(hint)
    if data is None and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    if len(others) != 1:
        raise TypeError(f"{place}: only optional unions are supported")
    return _read(others[0], data, place)


def _read_tuple(hint: object, data: Json, place: str) -> tuple[object, ...]:
    if not isinstance(data, list):
        raise NotThisShape(place, expected="a list", actual=data)
    items = typing.get_args(hint)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_read(items[0], item, f"{place}[{i}]") for i, item in enumerate(data))
    if len(items) != len(data):
        raise NotThisShape(place, expected=f"{len(items)} items", actual=data)
    return tuple(
        _read(kind, item, f"{place}[{i}]")
        for i, (kind, item) in enumerate(zip(items, data, strict=True))
    )


def _read_dataclass(hint: type, data: Json, place: str) -> object:
    if not isinstance(data, dict):
        raise NotThisShape(place, expected="an object", actual=data)
    hints = typing.get_type_hints(hint)
    names = [field.name for field in dataclasses.fields(hint) if field.init]
    if sorted(data) != sorted(names):
        raise NotThisShape(place, expected="the fields " + ", ".join(names), actual=sorted(data))
    return hint(**{name: _read(hints[name], data[name], f"{place}.{name}") for name in names})
