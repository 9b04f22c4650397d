"""A model is one vector, and the vector has one file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from p2pfl.learning.errors import ModelRefused
from p2pfl.learning.vector import (
    NamedShape,
    Schema,
    decode_vector,
    encode_vector,
    flatten,
    hand_over,
    read_vector,
    replace_file,
    unflatten,
    write_vector,
)

SCHEMA = Schema((NamedShape("0.weight", (2, 3)), NamedShape("0.bias", (2,)), NamedShape("s", ())))


def a_vector(d: int = 9) -> np.ndarray:
    return np.arange(d, dtype=np.float32) - 2.5


def test_unflattening_and_flattening_give_the_vector_back() -> None:
    named = unflatten(a_vector(), SCHEMA)
    assert named["0.weight"].shape == (2, 3)
    assert named["s"].shape == ()
    assert np.array_equal(flatten(dict(reversed(named.items())), SCHEMA), a_vector())


def test_a_vector_of_another_length_is_not_cut() -> None:
    with pytest.raises(ModelRefused, match=r"expected shape \(9,\)"):
        unflatten(a_vector(8), SCHEMA)


def test_a_missing_tensor_is_refused() -> None:
    named = unflatten(a_vector(), SCHEMA)
    del named["s"]
    with pytest.raises(ModelRefused, match="expected the tensors"):
        flatten(named, SCHEMA)


def test_a_tensor_of_another_shape_is_refused() -> None:
    named = {**unflatten(a_vector(), SCHEMA), "0.bias": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ModelRefused, match=r"0\.bias: expected shape \(2,\)"):
        flatten(named, SCHEMA)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_blob_is_what_the_safetensors_library_writes_and_reads(values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    raw = encode_vector(vector)
    assert raw == save({"vector": vector})
    assert np.array_equal(load(raw)["vector"], vector)
    assert np.array_equal(decode_vector(raw, len(values)), vector)


@pytest.mark.parametrize("d", [1, 9, 10, 99_999, 100_000])
def test_the_header_is_the_library_s_for_every_number_of_digits(d: int) -> None:
    vector = np.ones(d, dtype=np.float32)
    assert encode_vector(vector) == save({"vector": vector})


def test_a_blob_with_another_tensor_name_or_type_is_refused() -> None:
    for other in (
        save({"victor": a_vector()}),
        save({"vector": a_vector().astype(np.int32)}),
        save({"vector": a_vector().reshape(3, 3)}),
        save({"vector": a_vector()}, metadata={"a": "b"}),
    ):
        with pytest.raises(ModelRefused):
            decode_vector(other, 9)


def test_a_blob_of_the_right_length_with_another_header_is_refused() -> None:
    raw = encode_vector(a_vector())
    with pytest.raises(ModelRefused, match="not a safetensors file"):
        decode_vector(raw.replace(b"vector", b"victor"), 9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_neither_written_nor_read(value: float) -> None:
    vector = a_vector()
    vector[4] = value
    with pytest.raises(ModelRefused, match="not finite"):
        encode_vector(vector)
    with pytest.raises(ModelRefused, match="not finite"):
        decode_vector(save({"vector": vector}), 9)


def test_only_float32_vectors_are_written() -> None:
    with pytest.raises(ModelRefused, match="expected float32"):
        encode_vector(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ModelRefused, match="expected float32"):
        encode_vector(np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(ModelRefused, match="expected 1 to"):
        encode_vector(np.zeros(0, dtype=np.float32))


def test_a_written_model_is_named_by_the_sha256_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    digest = write_vector(path, a_vector())
    assert digest == hashlib.sha256(path.read_bytes()).digest()
    assert np.array_equal(read_vector(path, 9), a_vector())
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_is_handed_over_in_the_file_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "model"
    hand_over(path, a_vector(20))
    first = path.stat().st_ino
    hand_over(path, a_vector())
    assert path.read_bytes() == encode_vector(a_vector())
    assert path.stat().st_ino == first
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ModelRefused, match="not finite"):
        hand_over(path, np.full(9, np.nan, dtype=np.float32))
    assert np.array_equal(read_vector(path, 9), a_vector())


def test_a_missing_or_longer_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="cannot read"):
        read_vector(tmp_path / "none", 9)
    path = tmp_path / "model"
    path.write_bytes(encode_vector(a_vector()) + b"x")
    with pytest.raises(ModelRefused, match="has 108 bytes"):
        read_vector(path, 9)


def test_a_file_is_replaced_in_one_step_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.partial").write_bytes(b"left by a crash")
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
