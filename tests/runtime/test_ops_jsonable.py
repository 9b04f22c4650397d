"""Values across the control socket: what is sent comes back, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path

import pytest

from p2pfl.runtime.commands.catalogue import COMMANDS
from p2pfl.runtime.jsonable import Json, NotThisShape, from_json, to_json


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    number: int


@dataclass(frozen=True, slots=True)
class Outer:
    digest: bytes
    path: Path
    ratio: float
    flag: bool
    maybe: str | None
    inner: Inner
    many: tuple[Inner, ...]
    pair: tuple[int, str]
    table: Mapping[str, float]


VALUE = Outer(
    digest=b"\x01\xff",
    path=Path("/somewhere"),
    ratio=2.0,
    flag=False,
    maybe=None,
    inner=Inner(1),
    many=(Inner(2), Inner(3)),
    pair=(1, "a"),
    table={"x": 0.5},
)


def test_values_come_back() -> None:
    assert from_json(Outer, to_json(VALUE)) == VALUE
    assert to_json(Colour.RED) == "red"


def test_whole_numbers_count_as_ratios() -> None:
    data = to_json(VALUE)
    assert isinstance(data, dict)
    assert from_json(Outer, {**data, "ratio": 2}) == VALUE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", "zz"),
        ("digest", 3),
        ("path", 3),
        ("ratio", True),
        ("ratio", "2"),
        ("flag", 0),
        ("maybe", 3),
        ("inner", []),
        ("inner", {"number": 1, "more": 2}),
        ("inner", {}),
        ("many", {}),
        ("many", [{"number": "1"}]),
        ("pair", [1]),
        ("table", []),
        ("table", {"x": "y"}),
    ],
)
def test_other_shapes_are_refused(field: str, value: Json) -> None:
    data = to_json(VALUE)
    assert isinstance(data, dict)
    with pytest.raises(NotThisShape, match=field):
        from_json(Outer, {**data, field: value})


def test_what_has_no_json_form_is_our_mistake() -> None:
    with pytest.raises(TypeError):
        to_json(object())

    @dataclass
    class Two:
        either: int | str

    Two.__annotations__["either"] = int | str
    with pytest.raises(TypeError):
        from_json(Two, {"either": 1})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_arguments_and_a_result_that_cross_the_socket(name: str) -> None:
    """Reading nothing names the missing fields, which takes resolving every type hint."""
    command = COMMANDS[name]
    for shape in (command.arguments, command.result):
        if not fields(shape):  # a command without arguments
            assert from_json(shape, {}) == shape()
            continue
        with pytest.raises(NotThisShape, match="expected the fields"):
            from_json(shape, {})
