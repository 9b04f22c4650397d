"""The strict reader: whatever it accepts, msgpack's own packer writes with the same bytes."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import Garbled, PeerError, TooLarge
from gossip.wire import Reader, is_plain_text, pack

INT64 = 2**63 - 1
EDGES = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, INT64]
NEGATIVE_EDGES = [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)]


@pytest.mark.parametrize("value", EDGES + NEGATIVE_EDGES)
def test_integers_survive_the_wire(value: int) -> None:
    reader = Reader(pack(value))
    assert reader.integer(-(2**63), INT64) == value
    reader.end()


@given(st.integers(-(2**63), INT64))
def test_any_integer_survives_the_wire(value: int) -> None:
    assert Reader(pack(value)).integer(-(2**63), INT64) == value


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x7f",
        b"\xcd\x00\xff",
        b"\xce\x00\x00\xff\xff",
        b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\xd0\x05",
        b"\xd0\xe0",
        b"\xd1\xff\x80",
        b"\xd2\xff\xff\x80\x00",
        b"\xd3\xff\xff\xff\xff\x80\x00\x00\x00",
    ],
)
def test_integers_in_a_longer_form_are_refused(data: bytes) -> None:
    assert isinstance(msgpack.unpackb(data), int)
    with pytest.raises(Garbled, match="shortest"):
        Reader(data).integer(-(2**63), INT64)


@pytest.mark.parametrize("value", [-1, 11])
def test_an_integer_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(Garbled, match="0…10"):
        Reader(pack(value)).integer(0, 10)


@pytest.mark.parametrize("data", [b"\xc0", b"\xc2", b"\xca\x00\x00\x00\x00", b"\xa1x", b"\x90"])
def test_what_is_no_integer_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled, match="not an integer"):
        Reader(data).integer(0, 10)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65535, 65536])
def test_byte_strings_survive_the_wire(length: int) -> None:
    assert Reader(pack(b"x" * length)).blob(0, 70_000) == b"x" * length


@pytest.mark.parametrize("data", [b"\xc5\x00\x01x", b"\xc6\x00\x00\x01\x00" + b"x" * 256])
def test_byte_strings_with_a_longer_length_are_refused(data: bytes) -> None:
    with pytest.raises(Garbled, match="shortest"):
        Reader(data).blob(0, 1000)


def test_a_byte_string_is_bounded_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        Reader(b"\xc6\xff\xff\xff\xff").blob(0, 100)
    with pytest.raises(Garbled, match="at least 32"):
        Reader(pack(b"short")).blob(32, 32)
    with pytest.raises(Garbled, match="too early"):
        Reader(b"\xc4\x05ab").blob(0, 10)
    with pytest.raises(Garbled, match="not a byte string"):
        Reader(pack("text")).blob(0, 10)


@pytest.mark.parametrize("text", ["", "x" * 31, "x" * 32, "x" * 256, "Universitätsklinikum"])
def test_text_survives_the_wire(text: str) -> None:
    assert Reader(pack(text)).text(0, 1000) == text


@pytest.mark.parametrize(
    "data",
    [
        b"\xd9\x01x",
        b"\xda\x00\x20" + b"x" * 32,
        b"\xa1\xff",
        pack("a\u0308"),
        pack("line\nbreak"),
        pack("right\u202eleft"),
        b"\xc4\x01x",
    ],
)
def test_text_that_is_not_plain_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        Reader(data).text(0, 1000)


def test_text_is_bounded_in_bytes() -> None:
    with pytest.raises(TooLarge):
        Reader(pack("ä" * 6)).text(0, 10)


@pytest.mark.parametrize("length", [0, 15, 16, 300])
def test_array_lengths_survive_the_wire(length: int) -> None:
    assert Reader(pack([1] * length)).array(0, 300) == length


@pytest.mark.parametrize("data", [b"\xdc\x00\x0f", b"\xdd\x00\x00\xff\xff", b"\x80", b"\x01"])
def test_arrays_in_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        Reader(data).array(0, 100_000)


def test_an_array_is_bounded_before_anything_is_allocated() -> None:
    with pytest.raises(TooLarge):
        Reader(b"\xdd\xff\xff\xff\xff").array(0, 1024)


def test_bytes_after_the_value_are_refused() -> None:
    reader = Reader(pack(1) + b"\x00")
    reader.integer(0, 1)
    with pytest.raises(Garbled, match="after the value"):
        reader.end()


@given(st.binary(max_size=64))
def test_accepted_bytes_are_the_packers_own(data: bytes) -> None:
    for read in (
        lambda reader: reader.integer(-(2**63), 2**64 - 1),
        lambda reader: reader.blob(0, 100),
        lambda reader: reader.text(0, 100),
    ):
        reader = Reader(data)
        try:
            value = read(reader)
            reader.end()
        except PeerError:
            continue
        assert pack(value) == data


def test_surrogates_are_not_plain_text() -> None:
    assert not is_plain_text("\udc80")
