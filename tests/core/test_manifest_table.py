"""Reading one TOML table strictly: what the manifest's own tests do not reach."""

from __future__ import annotations

import re

import pytest

from p2pfl.core import errors
from p2pfl.core.manifest_table import Table, parse_toml

NAMES = re.compile(r"[a-z_]+")


def table(toml: str) -> Table:
    return Table(parse_toml(toml.encode(), bytes_max=4096), "", ("key",))


def test_booleans_are_true_or_false() -> None:
    assert table("key = true").boolean("key") is True
    with pytest.raises(errors.WrongType, match="true or false"):
        table("key = 1").boolean("key")


def test_scalars_keep_short_strings() -> None:
    assert table('key = { a = "text", b = true }').scalars("key", NAMES, count_max=2) == {
        "a": "text",
        "b": True,
    }


def test_scalars_refuse_what_is_no_scalar() -> None:
    with pytest.raises(errors.WrongType, match=r"key\.a is list"):
        table("key = { a = [1] }").scalars("key", NAMES, count_max=1)


def test_too_many_free_keys_are_refused() -> None:
    with pytest.raises(errors.OutOfRange, match="at most 1 entries"):
        table("key = { a = 1, b = 2 }").scalars("key", NAMES, count_max=1)


def test_rows_have_to_be_tables() -> None:
    with pytest.raises(errors.WrongType, match=r"key\[0\] is int"):
        table("key = [1]").rows("key", count_min=1, count_max=1)


def test_lists_have_to_be_lists_of_the_right_length() -> None:
    with pytest.raises(errors.WrongType, match="expected a list"):
        table("key = 1").numbers("key", count_min=1, count_max=2, bound=9.0)
    with pytest.raises(errors.OutOfRange, match="1 to 2 entries"):
        table("key = []").numbers("key", count_min=1, count_max=2, bound=9.0)
