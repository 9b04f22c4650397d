"""Byte format of the blob protocol `/p2pfl/blob/1`: pull a file by its SHA-256, chunk by chunk.

The downloader opens a stream and writes requests; the server answers each in order. Up to
`REQUESTS_IN_FLIGHT` requests may be under way, so that the link is never idle.

    request  = digest (32 bytes) ‖ offset (8, big-endian) ‖ length (4)           44 bytes
    answer   = status (1) ‖ length (4) ‖ `length` bytes of the file from `offset` on
    status   = 0 served | 1 not served | 2 busy | 3 range

A status other than 0 has length 0 and ends the stream. "Not served" says no more than that: a
site that may not have a blob does not learn whether it exists.

This module knows nothing of streams, files or peers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from gossip.identifiers import ID_BYTES, Digest

CHUNK_BYTES = 1024 * 1024
"""A chunk is the unit of a request; the last one of a blob may be shorter."""

REQUESTS_IN_FLIGHT = 4

WRITE_BYTES = 65_507
"""One write of this size is one Yamux frame and one Noise message: 65,535 − 16 (tag) − 12
(Yamux header). 65,536 would split in two, and both would be slower."""

_REQUEST = struct.Struct(f">{ID_BYTES}sQI")
_ANSWER = struct.Struct(">BI")
REQUEST_BYTES = _REQUEST.size
ANSWER_BYTES = _ANSWER.size


class Status(IntEnum):
    """How the server takes a request."""

    SERVED = 0
    NOT_SERVED = 1
    BUSY = 2
    RANGE = 3


class BlobProtocolError(Exception):
    """The other end does not keep to the format."""


@dataclass(frozen=True, slots=True)
class Request:
    """`length` bytes of the blob `digest`, from `offset` on. 1 ≤ length ≤ CHUNK_BYTES."""

    digest: Digest
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What precedes a chunk's bytes."""

    status: Status
    length: int


def encode_request(request: Request) -> bytes:
    """The 44 bytes of a request."""
    return _REQUEST.pack(request.digest, request.offset, request.length)


def decode_request(raw: bytes) -> Request:
    """Parse a request.

    raw: exactly REQUEST_BYTES bytes.
    Raises BlobProtocolError when the length is not 1…CHUNK_BYTES or the offset is out of range.
    """
    digest, offset, length = _REQUEST.unpack(raw)
    if not 1 <= length <= CHUNK_BYTES:
        raise BlobProtocolError(f"request of {length} bytes, allowed 1…{CHUNK_BYTES}")
    if offset > 2**63 - 1 - CHUNK_BYTES:
        raise BlobProtocolError(f"request from offset {offset}")
    return Request(digest=Digest(digest), offset=offset, length=length)


def encode_answer(answer: Answer) -> bytes:
    """The 5 bytes before a chunk."""
    return _ANSWER.pack(answer.status, answer.length)


def decode_answer(raw: bytes, *, asked: int) -> Answer:
    """Parse the head of an answer to a request for `asked` bytes.

    raw: exactly ANSWER_BYTES bytes.
    Raises BlobProtocolError for an unknown status, or for another length than asked for.
    """
    code, length = _ANSWER.unpack(raw)
    try:
        status = Status(code)
    except ValueError as error:
        raise BlobProtocolError(f"unknown status {code}") from error
    expected = asked if status is Status.SERVED else 0
    if length != expected:
        raise BlobProtocolError(f"answer {status.name} of {length} bytes, expected {expected}")
    return Answer(status=status, length=length)


def requests_for(digest: Digest, *, size_bytes: int, have_bytes: int) -> Iterator[Request]:
    """The requests that complete a blob of which the first `have_bytes` are there.

    >>> [r.length for r in requests_for(Digest(bytes(32)), size_bytes=2_500_000, have_bytes=0)]
    [1048576, 1048576, 402848]
    """
    for offset in range(have_bytes, size_bytes, CHUNK_BYTES):
        yield Request(digest=digest, offset=offset, length=min(CHUNK_BYTES, size_bytes - offset))
