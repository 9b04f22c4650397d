"""A model as one float32 vector, and the vector as safetensors bytes.

Responsible for the order of parameters in the vector and for the blob format every site agrees
on: a safetensors file with exactly one tensor `vector`, F32, shape [d], no metadata. The same
vector gives the same bytes at every site, so that their SHA-256 can name it.
Knows numpy only: neither torch nor what the numbers mean.

Source: the safetensors format, https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.errors import ModelRefused

Vector = NDArray[np.float32]

PARAMETERS_MAX: Final = 500_000_000
"""2 GB; the largest file that sites exchange."""

_BLOCK: Final = 1 << 18
_ALIGNMENT: Final = 8  # safetensors pads its header to a multiple of this with spaces


@dataclass(frozen=True, slots=True)
class NamedShape:
    """One tensor of a model: its name and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tensors of a model in the order in which they lie in the vector."""

    tensors: tuple[NamedShape, ...]

    @property
    def parameters(self) -> int:
        """d, the length of the vector."""
        return sum(tensor.size for tensor in self.tensors)


def flatten(named: Mapping[str, NDArray[np.float32]], schema: Schema) -> Vector:
    """Lay named tensors one after the other in the schema's order.

    Returns float32[d]. Raises ModelRefused if a name or a shape differs from the schema.
    """
    names = [tensor.name for tensor in schema.tensors]
    if sorted(named) != sorted(names):
        raise ModelRefused(f"expected the tensors {names}, got {sorted(named)}")
    vector = np.empty(schema.parameters, dtype=np.float32)
    start = 0
    for tensor in schema.tensors:
        values = named[tensor.name]
        if values.shape != tensor.shape:
            raise ModelRefused(
                f"tensor {tensor.name}: expected shape {tensor.shape}, got {values.shape}"
            )
        vector[start : start + tensor.size] = values.reshape(-1)
        start += tensor.size
    return vector


def unflatten(vector: Vector, schema: Schema) -> dict[str, Vector]:
    """Cut a vector into named tensors; they are views, not copies.

    vector: float32[d]. Raises ModelRefused if its length is not the schema's.
    """
    if vector.shape != (schema.parameters,):
        raise ModelRefused(f"expected shape ({schema.parameters},), got {vector.shape}")
    named: dict[str, Vector] = {}
    start = 0
    for tensor in schema.tensors:
        named[tensor.name] = vector[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    return named


def encode_vector(vector: Vector) -> bytes:
    """Write a finite vector as the safetensors blob whose SHA-256 names it.

    >>> encode_vector(np.zeros(2, dtype=np.float32))[8:70]
    b'{"vector":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    '[:62]
    """
    _check_vector(vector)
    return _prefix(vector.size) + vector.astype("<f4").tobytes()


def decode_vector(raw: bytes, parameters: int) -> Vector:
    """Read a blob of the agreed length; anything else than our own bytes is refused.

    The header is compared, not parsed: there is exactly one right one. Returns float32[d] as a
    copy. Raises ModelRefused.
    """
    _check_size(parameters, len(raw))
    offset = len(_prefix(parameters))
    _check_prefix(raw[:offset], parameters)
    vector = np.frombuffer(raw, dtype="<f4", offset=offset).astype(np.float32)
    _check_finite(vector)
    return vector


def read_vector(path: Path, parameters: int) -> Vector:
    """Read a model file. Raises ModelRefused, also when the file is missing or too large."""
    prefix = _prefix(parameters)
    vector = np.empty(parameters, dtype="<f4")
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(parameters, size)
            _check_prefix(file.read(len(prefix)), parameters)
            room, done = vector.data.cast("B"), 0
            while done < len(room) and (got := file.readinto(room[done:])):
                done += got
    except OSError as error:
        raise ModelRefused(f"cannot read the model file: {error.strerror}") from error
    _check_size(parameters, len(prefix) + done)
    _check_finite(vector)
    return vector


def hand_over(path: Path, vector: Vector) -> None:
    """Hand a model over in a file of this process's own, in place of the one before.

    The same file each time: memory that holds the last round's values takes the new ones for a
    tenth of what new memory costs. Its first bytes are written last, so that half a file is no
    model. Not synced: the node's blob store verifies and stores it durably before anything is
    released. Raises ModelRefused for a vector that is not finite (nothing is written), OSError.
    """
    _check_vector(vector)
    prefix, values = _parts(vector)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        _write_all(file, bytes(len(prefix)))
        _write_all(file, values)
        file.truncate()
        file.seek(0)
        _write_all(file, prefix)


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def write_vector(path: Path, vector: Vector) -> bytes:
    """Write a model as a file that is there completely or not at all; returns its SHA-256.

    Raises ModelRefused for a vector that is not finite (nothing is written), OSError.
    """
    _check_vector(vector)
    partial = _partial(path)
    hasher = hashlib.sha256()
    with partial.open("wb") as file:
        for part in _parts(vector):
            hasher.update(part)
            file.write(part)
    partial.replace(path)
    return hasher.digest()


def replace_file(path: Path, raw: bytes) -> None:
    """Put `raw` at `path` in one step, durable before it is visible, readable by the owner only.

    Raises OSError.
    """
    partial = _partial(path)
    partial.unlink(missing_ok=True)  # what a crash left may have another mode
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _parts(vector: Vector) -> tuple[bytes, memoryview]:
    """Header and values."""
    return _prefix(vector.size), np.ascontiguousarray(vector, dtype="<f4").data.cast("B")


def _check_vector(vector: Vector) -> None:
    if vector.ndim != 1 or vector.dtype != np.float32:
        raise ModelRefused(f"expected float32[d], got {vector.dtype}{list(vector.shape)}")
    _check_finite(vector)


def _check_finite(vector: Vector) -> None:
    # In blocks that stay in the processor's memory with what is known of them.
    blocks = (vector[first : first + _BLOCK] for first in range(0, vector.size, _BLOCK))
    if not all(np.isfinite(block).all() for block in blocks):
        raise ModelRefused("the vector holds values that are not finite")


def _check_size(parameters: int, size_bytes: int) -> None:
    expected = len(_prefix(parameters)) + 4 * parameters
    if size_bytes != expected:
        raise ModelRefused(
            f"a model of {parameters} parameters has {expected} bytes, this one {size_bytes}"
        )


def _check_prefix(start: bytes, parameters: int) -> None:
    if start != _prefix(parameters):
        raise ModelRefused(f"not a safetensors file with one tensor vector of F32 [{parameters}]")


def _prefix(parameters: int) -> bytes:
    header = _header(parameters)
    return len(header).to_bytes(8, "little") + header


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _header(parameters: int) -> bytes:
    if not 0 < parameters <= PARAMETERS_MAX:
        raise ModelRefused(f"expected 1 to {PARAMETERS_MAX} parameters, got {parameters}")
    text = (
        f'{{"vector":{{"dtype":"F32","shape":[{parameters}],"data_offsets":[0,{4 * parameters}]}}}}'
    ).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)
