"""The blob store: durable, verified on reading, and strict about what a model file is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from p2pfl.learning.vector import encode_vector
from p2pfl.runtime import blobs, passed_files
from p2pfl.runtime.errors import BlobDamaged, BlobMissing, NotAVector, NotFinite, WrongLength

VECTOR = np.arange(17, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> blobs.BlobStore:
    return blobs.BlobStore(tmp_path)


def test_bytes_are_filed_under_their_sha256(store: blobs.BlobStore) -> None:
    digest = store.put_bytes(b"abc")
    assert digest == hashlib.sha256(b"abc").digest()
    assert store.path(digest).name == digest.hex()
    assert store.read_bytes(digest) == b"abc"
    assert store.size_bytes(digest) == 3
    assert store.has(digest)
    assert store.digests() == {digest}


def test_a_file_is_copied_and_left_where_it_is(store: blobs.BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (blobs.CHUNK_BYTES + 1))
    digest = store.put_file(source)
    assert digest == hashlib.sha256(source.read_bytes()).digest()
    assert store.read_bytes(digest) == source.read_bytes()


def test_filing_twice_leaves_one_blob_and_nothing_half(
    store: blobs.BlobStore, tmp_path: Path
) -> None:
    store.put_bytes(b"abc")
    store.put_bytes(b"abc")
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_blob_is_named(store: blobs.BlobStore) -> None:
    for read in (store.read_bytes, store.size_bytes):
        with pytest.raises(BlobMissing, match="00000000"):
            read(bytes(32))


def test_damaged_blob_is_noticed_on_reading(store: blobs.BlobStore) -> None:
    digest, _ = store.write_vector(VECTOR)
    raw = bytearray(store.path(digest).read_bytes())
    raw[-1] ^= 1
    store.path(digest).write_bytes(raw)
    with pytest.raises(BlobDamaged) as caught:
        store.read_vector(digest, 17)
    assert caught.value.expected == digest


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_vectors_come_back_bit_for_bit_and_as_the_library_writes_them(vector: np.ndarray) -> None:
    raw = blobs.bytes_of_vector(vector)
    assert raw == save({"vector": vector}) == encode_vector(vector)
    assert blobs.vector_of(raw, vector.size).tobytes() == vector.tobytes()
    assert blobs.vector_length(raw) == vector.size


def test_a_vector_that_was_read_may_be_changed(store: blobs.BlobStore) -> None:
    digest, size = store.write_vector(VECTOR)
    assert size == store.size_bytes(digest)
    vector = store.read_vector(digest, 17)
    vector += 1
    assert store.read_vector(digest, 17)[0] == 0


def _with_header(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = {"vector": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        b"\xff" * 64,
        save({"vector": np.zeros(2, np.float64)}),
        save({"other": np.zeros(2, np.float32)}),
        save({"vector": np.zeros(2, np.float32), "more": np.zeros(1, np.float32)}),
        save({"vector": np.zeros((1, 2), np.float32)}),
        save({"vector": np.zeros(2, np.float32)}, metadata={"author": "x"}),
        save({"vector": np.zeros(2, np.float32)}) + b"\0\0\0\0",
        save({"vector": np.zeros(2, np.float32)})[:-1],
        _with_header(GOOD, bytes(8)),
        _with_header([], bytes(8)),
    ],
)
def test_anything_but_one_float32_vector_is_refused(raw: bytes) -> None:
    with pytest.raises(NotAVector):
        blobs.vector_of(raw, 2)


def test_another_length_is_refused_with_both_numbers() -> None:
    with pytest.raises(WrongLength, match="17 parameters, expected 18"):
        blobs.vector_of(blobs.bytes_of_vector(VECTOR), 18)


def test_an_oversized_blob_is_refused_before_it_is_read(store: blobs.BlobStore) -> None:
    digest = store.put_bytes(bytes(100_000))
    with pytest.raises(NotAVector, match="too many for 17 parameters"):
        store.read_vector(digest, 17)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_both_ways(value: float) -> None:
    vector = VECTOR.copy()
    vector[3] = value
    with pytest.raises(NotFinite, match="1 values"):
        blobs.bytes_of_vector(vector)
    with pytest.raises(NotFinite, match="1 values"):
        blobs.vector_of(save({"vector": vector}), 17)


@pytest.mark.parametrize(
    "array", [np.zeros(2), np.zeros((2, 2), np.float32), np.zeros(0, np.float32)]
)
def test_only_float32_vectors_are_written(array: np.ndarray) -> None:
    with pytest.raises(NotAVector):
        blobs.bytes_of_vector(array)


def test_a_blob_that_the_kernel_let_go_of_is_still_there(
    store: blobs.BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passed_files, "FROM_BYTES", 1)
    digest, _ = store.write_vector(VECTOR)
    store.let_go(digest)
    store.let_go(bytes(32))  # one that is not here harms nobody
    store.make_room(1 << 30)
    store.make_room(1 << 30)  # nothing is left to give up
    assert np.array_equal(store.read_vector(digest, len(VECTOR)), VECTOR)


def test_files_give_their_memory_up_when_others_need_it_the_oldest_first(tmp_path: Path) -> None:
    size, gone = passed_files.FROM_BYTES, list[str]()
    passed = passed_files.PassedFiles(lambda path: gone.append(path.name))
    for number in range(4):
        path = tmp_path / str(number)
        with path.open("wb") as file:
            file.truncate(size)
        passed.add(path)
    passed.make_room(size - 1)  # small files find their place
    assert gone == []
    passed.make_room(size)
    assert gone == ["0"]
    passed.make_room(size + 1)
    assert gone == ["0", "1", "2"]
    for _ in range(passed_files.FILES_MAX):
        passed.add(path)
    assert gone == ["0", "1", "2", "3"]


def test_a_file_that_changed_since_it_was_written_is_read_with_its_digest(
    store: blobs.BlobStore,
) -> None:
    digest, _ = store.write_vector(VECTOR)
    assert np.array_equal(store.read_vector(digest, len(VECTOR)), VECTOR)
    other, _ = store.write_vector(VECTOR + 1)
    store.path(other).replace(store.path(digest))
    with pytest.raises(BlobDamaged):
        store.read_vector(digest, len(VECTOR))
