"""The byte formats between nodes: blob requests by vectors, push frames however they are cut."""

import hashlib
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.blob_protocol import (
    CHUNK_BYTES,
    REQUEST_BYTES,
    Answer,
    BlobProtocolError,
    Request,
    Status,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    requests_for,
)
from gossip.blob_spool import DigestMismatch, NoSpace, Spool
from gossip.identifiers import Digest
from gossip.libp2p_push import FrameError, FrameReader
from gossip.limits import ENVELOPE_BYTES_MAX

DIGEST = Digest(bytes(range(32)))


def test_a_request_is_44_bytes_in_network_order() -> None:
    raw = encode_request(Request(DIGEST, 2**20, 402_848))
    assert raw.hex() == DIGEST.hex() + "0000000000100000" + "000625a0"


def test_an_answer_is_5_bytes() -> None:
    assert encode_answer(Answer(Status.SERVED, 402_848)).hex() == "00000625a0"
    assert encode_answer(Answer(Status.NOT_SERVED, 0)).hex() == "0100000000"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**62), st.integers(1, CHUNK_BYTES))
def test_requests_survive_the_wire(digest: bytes, offset: int, length: int) -> None:
    request = Request(Digest(digest), offset, length)
    assert decode_request(encode_request(request)) == request


@given(st.binary(min_size=REQUEST_BYTES, max_size=REQUEST_BYTES))
def test_any_44_bytes_are_a_request_or_a_named_error(raw: bytes) -> None:
    try:
        request = decode_request(raw)
    except BlobProtocolError:
        return
    assert encode_request(request) == raw


@pytest.mark.parametrize("length", [0, CHUNK_BYTES + 1, 2**32 - 1])
def test_a_request_for_too_little_or_too_much_is_refused(length: int) -> None:
    with pytest.raises(BlobProtocolError, match="bytes, allowed"):
        decode_request(encode_request(Request(DIGEST, 0, length)))


def test_a_request_from_beyond_any_file_is_refused() -> None:
    with pytest.raises(BlobProtocolError, match="offset"):
        decode_request(encode_request(Request(DIGEST, 2**64 - 1, 1)))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (bytes.fromhex("0000000009"), "expected 10"),
        (bytes.fromhex("010000000a"), "expected 0"),
        (bytes.fromhex("040000000a"), "unknown status 4"),
    ],
)
def test_an_answer_that_does_not_fit_the_question_is_refused(raw: bytes, problem: str) -> None:
    with pytest.raises(BlobProtocolError, match=problem):
        decode_answer(raw, asked=10)


@given(st.integers(0, 10 * CHUNK_BYTES), st.integers(0, 10 * CHUNK_BYTES))
def test_the_requests_cover_what_is_missing_once(size_bytes: int, have_bytes: int) -> None:
    at = have_bytes
    for request in requests_for(DIGEST, size_bytes=size_bytes, have_bytes=have_bytes):
        assert request.offset == at
        assert 1 <= request.length <= CHUNK_BYTES
        at += request.length
    assert at == max(have_bytes, size_bytes)


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(0, 4000), max_size=20))
def test_frames_come_out_whole_however_the_stream_is_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(len(each).to_bytes(4, "big") + each for each in payloads)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = FrameReader()
    got = [
        frame
        for start, end in itertools.pairwise(edges)
        for frame in reader.feed(stream[start:end])
    ]
    # An empty frame is a sign of life and no message.
    assert got == [each for each in payloads if each]


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    reader = FrameReader()
    assert list(reader.feed((ENVELOPE_BYTES_MAX).to_bytes(4, "big"))) == []
    with pytest.raises(FrameError, match="allowed"):
        list(FrameReader().feed((ENVELOPE_BYTES_MAX + 1).to_bytes(4, "big")))


def test_frames_before_a_broken_one_are_delivered() -> None:
    got = []
    with pytest.raises(FrameError):  # noqa: PT012 # the loop is what raises
        for frame in FrameReader().feed(b"\x00\x00\x00\x02hi" + b"\xff" * 8):
            got.append(frame)
    assert got == [b"hi"]


# The spool


def spool_of(folder: Path, data: bytes) -> Spool:
    return Spool(folder / "blob", Digest(hashlib.sha256(data).digest()), len(data))


def test_a_spool_that_is_let_go_is_resumed_where_it_was(tmp_path: Path) -> None:
    data = os.urandom(5000)
    first = spool_of(tmp_path, data)
    first.open(reserve_bytes=0)
    first.append(data[:3000])
    first.close()
    second = spool_of(tmp_path, data)
    second.open(reserve_bytes=0)
    assert (second.have_bytes, second.resumed_bytes) == (3000, 3000)
    second.append(bytearray(data[3000:]))
    second.finish()
    assert (tmp_path / "blob").read_bytes() == data
    assert not second.part.exists()
    assert (tmp_path / "blob").stat().st_mode & 0o777 == 0o600


def test_an_unfinished_or_wrong_blob_never_gets_its_name(tmp_path: Path) -> None:
    data = os.urandom(500)
    for content in (data[:-1], data[:-1] + b"x" if data[-1:] != b"x" else data[:-1] + b"y"):
        spool = spool_of(tmp_path, data)
        spool.open(reserve_bytes=0)
        spool.append(content)
        with pytest.raises(DigestMismatch):
            spool.finish()
        assert list(tmp_path.iterdir()) == []


def test_a_blob_that_does_not_fit_on_the_disk_is_refused_before_it_comes(tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        spool_of(tmp_path, b"data").open(reserve_bytes=2**62)
