"""Updates as bf16 and int8: what rounding does, and what hostile files come to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import deserialize

from p2pfl.averaging import Halves, Scaled, average, values_of
from p2pfl.core.encoding import SCALED_TOGETHER, Encoding, blob_size_bytes, header_of
from p2pfl.runtime.averaging_job import mix, verified_model
from p2pfl.runtime.blobs import BlobStore, vector_of
from p2pfl.runtime.errors import BlobError, NotAVector, NotFinite
from p2pfl.runtime.vector_files import Layout, layout_of

SMALL: tuple[Encoding, ...] = ("bf16", "int8")
WIDE = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def fixed_bytes(count: int) -> bytes:
    return hashlib.shake_256(b"rounding").digest(count)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.mark.parametrize("encoding", get_args(Encoding))
@pytest.mark.parametrize("d", [1, 17, SCALED_TOGETHER, SCALED_TOGETHER + 1, 300_001])
def test_a_file_is_what_the_library_reads_and_as_large_as_it_says(
    store: BlobStore, encoding: Encoding, d: int
) -> None:
    vector = np.linspace(-1, 1, d, dtype=np.float32)
    digest, size = store.write_vector(vector, encoding, fixed_bytes)
    raw = store.path(digest).read_bytes()
    assert len(raw) == size == blob_size_bytes(d, encoding)
    assert layout_of(raw, size) == Layout(encoding, d)
    tensors = dict(deserialize(raw))
    names = {"vector", "scales"} if encoding == "int8" else {"vector"}
    assert set(tensors) == names
    assert tensors["vector"]["shape"] == [d]
    assert vector_of(raw, d).tobytes() == store.read_vector(digest, d).tobytes()


@pytest.mark.parametrize("encoding", SMALL)
@given(vector=WIDE)
def test_every_finite_value_is_rounded_to_a_finite_neighbour(
    tmp_path_factory: pytest.TempPathFactory, encoding: Encoding, vector: np.ndarray
) -> None:
    store = BlobStore(tmp_path_factory.getbasetemp())
    digest, _ = store.write_vector(vector, encoding, fixed_bytes)
    decoded = store.read_vector(digest, len(vector)).astype(np.float64)
    exact = vector.astype(np.float64)
    if encoding == "bf16":
        # bf16 has 8 binary digits; below the normal numbers their spacing stays the same.
        last_digit = np.maximum(np.abs(exact) * 2.0**-7, 2.0**-133)
    else:
        last_digit = np.maximum(np.abs(exact).max() / 127 * (1 + 1e-6), 2.0**-142)
    assert (np.abs(decoded - exact) <= last_digit).all()


@pytest.mark.parametrize("encoding", SMALL)
def test_a_step_smaller_than_the_last_digit_is_taken_on_average(
    store: BlobStore, encoding: Encoding
) -> None:
    """Rounding to the nearest would lose it at every site in every round."""
    vector = np.full(200_000, 1.0 + 1 / 1024, dtype=np.float32)
    vector[::SCALED_TOGETHER] = 1.1
    digest, _ = store.write_vector(vector, encoding, fixed_bytes)
    decoded = store.read_vector(digest, len(vector))
    assert len(np.unique(decoded)) >= 2
    assert float(decoded.mean()) == pytest.approx(float(vector.mean()), abs=5e-5)


@pytest.mark.parametrize("encoding", SMALL)
def test_everybody_averages_what_the_sender_averages(store: BlobStore, encoding: Encoding) -> None:
    d = 4_200_003  # large enough to be averaged from a map
    generator = np.random.default_rng(5)
    vectors = [generator.standard_normal(d).astype(np.float32) for _ in range(3)]
    digests = [store.write_vector(vector, encoding, os.urandom)[0] for vector in vectors]
    models = [verified_model(store, digest, d) for digest in digests]
    assert {type(model) for model in models} == {Halves if encoding == "bf16" else Scaled}
    decoded = [store.read_vector(digest, d) for digest in digests]
    for model, values in zip(models, decoded, strict=True):
        assert values_of(model).tobytes() == values.tobytes()
    weights = np.array([0.25, 0.25], dtype=np.float32)
    expected = average("mean", decoded[0], decoded[1:], weights).value
    inputs = [(digest, 250_000) for digest in digests[1:]]
    again = BlobStore(store.directory)  # an auditor's: it has verified nothing yet
    assert mix(again, "mean", {}, digests[0], inputs, d).value.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("scale", "whole"), [(np.nan, 1), (-1.0, 1), (1.0, -128)])
def test_an_int8_file_that_nobody_writes_is_no_model_to_average(
    store: BlobStore, scale: float, whole: int
) -> None:
    d = 4_200_000
    scales, values = np.ones(-(-d // SCALED_TOGETHER), "<f4"), np.ones(d, np.int8)
    scales[-1], values[-1] = scale, whole
    digest = store.put_bytes(_file("int8", d, scales.tobytes() + values.tobytes()))
    with pytest.raises((NotFinite, NotAVector)):
        verified_model(store, digest, d)


def _file(encoding: Encoding, d: int, body: bytes) -> bytes:
    return header_of(d, encoding) + body


def _bf16(value: float) -> bytes:
    return (np.float32(value).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def _int8(scale: float, whole: int = 1) -> bytes:
    return np.float32(scale).tobytes() + np.int8(whole).tobytes()


def test_the_vectors_of_the_protocol_are_what_is_written(store: BlobStore) -> None:
    values = np.array([1, -2, 0.5], dtype=np.float32)
    whole = np.array([64, -127, 32], dtype=np.int8).tobytes()
    scale = (np.float32(2) / np.float32(127)).tobytes()
    files = {
        "float32": store.path(store.write_vector(values)[0]).read_bytes(),
        "bf16": store.path(store.write_vector(values, "bf16")[0]).read_bytes(),
        "int8": _file("int8", 3, scale + whole),
    }
    assert vector_of(files["int8"], 3).tolist() == [
        float(np.float32(number) * np.float32(2 / 127)) for number in (64, -127, 32)
    ]
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    for encoding, raw in files.items():
        assert f"{encoding:<9}{hashlib.sha256(raw).hexdigest()}" in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bf16_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(NotFinite, match="1 values"):
        vector_of(_file("bf16", 2, _bf16(1.0) + _bf16(value)), 2)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, -1.0, 3e38])
def test_int8_scales_that_make_no_finite_value_are_refused(scale: float) -> None:
    with pytest.raises(NotFinite):
        vector_of(_file("int8", 1, _int8(scale)), 1)
    assert vector_of(_file("int8", 1, _int8(2.0, -127)), 1) == [-254.0]


def test_an_int8_value_that_nobody_writes_is_refused() -> None:
    with pytest.raises(NotAVector, match="-128"):
        vector_of(_file("int8", 1, _int8(1.0, -128)), 1)


@pytest.mark.parametrize("encoding", get_args(Encoding))
@given(data=st.data())
def test_a_changed_length_or_header_is_refused(encoding: Encoding, data: st.DataObject) -> None:
    d = 9
    body = bytes(blob_size_bytes(d, encoding) - len(header_of(d, encoding)))
    raw = bytearray(_file(encoding, d, body))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(BlobError):
        vector_of(bytes(raw[:cut]), d)
    at = data.draw(st.integers(0, len(header_of(d, encoding)) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BlobError):
        vector_of(bytes(raw), d)
