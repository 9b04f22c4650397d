"""dm1: one encoding per value, one named error per rule."""

from enum import IntEnum

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import errors
from ledger.log.dm1 import BYTES_MAX, decode, encode

KEYS = st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True)
SCALARS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.binary(max_size=40)
    | st.text("abcxyzäß€→", max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(VALUES)
def test_every_value_survives_a_round_trip(value):
    assert decode(encode(value)) == value


@given(VALUES)
def test_the_order_of_keys_does_not_matter_to_the_encoding(value):
    def backwards(part):
        if isinstance(part, dict):
            return {key: backwards(part[key]) for key in sorted(part, reverse=True)}
        return [backwards(item) for item in part] if isinstance(part, list) else part

    assert encode(backwards(value)) == encode(value)


@given(st.binary(max_size=60))
def test_whatever_decodes_is_the_one_encoding_of_its_value(data):
    try:
        value = decode(data)
    except errors.EncodingError:
        return
    assert encode(value) == data


@given(VALUES, st.data())
def test_a_changed_byte_is_refused_or_another_value(value, data):
    encoded = bytearray(encode(value))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(bytes(encoded))
    except errors.EncodingError:
        return
    assert encode(changed) == bytes(encoded) != encode(value)


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (1.5, errors.FloatRefused),
        (None, errors.NilRefused),
        (msgpack.ExtType(1, b""), errors.ExtensionRefused),
        ((1, 2), errors.TypeRefused),
        (Colour.RED, errors.TypeRefused),
        (2**63, errors.IntegerOutOfRange),
        (-(2**63) - 1, errors.IntegerOutOfRange),
        ("e\u0301", errors.TextNotNfc),
        ("\ud800", errors.TextNotUnicode),
        ({"A": 1}, errors.KeyIllegal),
        ({"": 1}, errors.KeyIllegal),
        ({1: 1}, errors.KeyIllegal),
        ({"a\n": 1}, errors.KeyIllegal),
        (nested(17), errors.TooDeep),
        ({"a": nested(16)}, errors.TooDeep),
        (b"x" * BYTES_MAX, errors.TooManyBytes),
    ],
)
def test_values_outside_dm1_are_not_encoded(value, error):
    with pytest.raises(error):
        encode(value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("cb3ff8000000000000", errors.FloatRefused),
        ("cb7ff8000000000000", errors.FloatRefused),
        ("ca80000000", errors.FloatRefused),
        ("c0", errors.NilRefused),
        ("d40100", errors.ExtensionRefused),
        ("d6ff00000001", errors.ExtensionRefused),
        ("cf8000000000000000", errors.IntegerOutOfRange),
        ("a365cc81", errors.TextNotNfc),
        ("a1ff", errors.TextNotUnicode),
        ("81a14101", errors.KeyIllegal),
        ("810101", errors.KeyIllegal),
        ("819001", errors.KeyIllegal),
        ("81c4016101", errors.KeyIllegal),
        ("82a16201a16101", errors.KeyUnsorted),
        ("82a16101a16102", errors.KeyDuplicate),
        ("9182a16101a16101", errors.KeyDuplicate),
        ("cc01", errors.NotShortest),
        ("d90161", errors.NotShortest),
        ("c500010a", errors.NotShortest),
        ("dc000101", errors.NotShortest),
        ("0102", errors.TrailingBytes),
        ("92", errors.Truncated),
        ("", errors.Truncated),
        ("dd7fffffff", errors.Truncated),
        ("c1", errors.Garbled),
        ("91" * 16 + "90", errors.TooDeep),
        ("91" * 5000, errors.TooDeep),
    ],
)
def test_bytes_outside_dm1_are_refused_by_name(data, error):
    with pytest.raises(error) as caught:
        decode(bytes.fromhex(data))
    assert type(caught.value) is error


def test_depth_16_is_allowed():
    assert decode(encode(nested(16))) == nested(16)


def test_large_input_is_refused_before_it_is_parsed():
    with pytest.raises(errors.TooManyBytes):
        decode(b"\xc1" * (BYTES_MAX + 1))
    with pytest.raises(errors.TooManyBytes):
        decode(encode("abc"), bytes_max=3)


def test_an_error_says_the_rule_what_was_expected_and_what_was_found():
    error = errors.TooManyBytes("a note", expected=b"\xab", actual="x" * 500)
    assert str(error).startswith("an encoded value has a size limit: a note; expected ab; found xx")
    assert len(str(error)) < 260
