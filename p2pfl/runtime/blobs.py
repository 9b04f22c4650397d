"""Blobs: artefacts filed under the SHA-256 of their bytes, written durably, verified on reading.

A model is a safetensors file with exactly one tensor `vector`, float32, shape [d], no metadata;
the same vector gives the same bytes at every site. Files may come from other sites: size, header
and values are checked before anything believes them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gossip.identifiers import Digest
from p2pfl.runtime.errors import BlobDamaged, BlobMissing, NotAVector, NotFinite, WrongLength
from p2pfl.runtime.home import sync_directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_BYTES: Final = 1 << 20
HEADER_BYTES_MAX: Final = 1024
"""A file with one tensor and no metadata needs about 80."""


class BlobStore:
    """The directory `blobs/` of a home."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: bytes) -> Path:
        """Where the blob lies, or would lie."""
        return self.directory / digest.hex()

    def has(self, digest: bytes) -> bool:
        """Whether a blob is filed under this digest; its bytes are not verified."""
        return self.path(digest).is_file()

    def size_bytes(self, digest: bytes) -> int:
        """Raises BlobMissing."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def digests(self) -> frozenset[Digest]:
        """Everything that is filed here."""
        return frozenset(
            Digest(bytes.fromhex(path.name))
            for path in self.directory.iterdir()
            if len(path.name) == 64 and not path.name.startswith(".")
        )

    def put_bytes(self, data: bytes) -> Digest:
        """File `data` durably and return its digest. Filing twice is harmless."""
        digest = Digest(hashlib.sha256(data).digest())
        descriptor, temporary = self._temporary()
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._file_under(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def put_file(self, source: Path) -> Digest:
        """Copy the file `source` into the store durably; the source stays where it is."""
        hasher = hashlib.sha256()
        descriptor, temporary = self._temporary()
        try:
            with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
                while chunk := original.read(CHUNK_BYTES):
                    hasher.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            digest = Digest(hasher.digest())
            self._file_under(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def read_bytes(self, digest: bytes) -> bytes:
        """The verified bytes. Raises BlobMissing or BlobDamaged."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        actual = hashlib.sha256(data).digest()
        if actual != digest:
            raise BlobDamaged(expected=digest, actual=actual)
        return data

    def read_vector(self, digest: bytes, expected_d: int) -> NDArray[np.float32]:
        """The model filed under `digest`, float32[expected_d], finite, writable.

        Raises BlobMissing, BlobDamaged, NotAVector, WrongLength or NotFinite.
        """
        size = self.size_bytes(digest)
        # Bounded before it is read: a peer may have announced anything.
        if size > 8 + HEADER_BYTES_MAX + 4 * expected_d:
            raise NotAVector(f"blob has {size} bytes, too many for {expected_d} parameters")
        return vector_of(self.read_bytes(digest), expected_d)

    def write_vector(self, vector: NDArray[np.float32]) -> tuple[Digest, int]:
        """File a model float32[d], finite. Returns its digest and its size in bytes.

        Raises NotAVector or NotFinite.
        """
        data = bytes_of_vector(vector)
        return self.put_bytes(data), len(data)

    def _temporary(self) -> tuple[int, Path]:
        # In the same directory, so that the rename cannot cross file systems.
        descriptor, name = tempfile.mkstemp(prefix=".part-", dir=self.directory)
        return descriptor, Path(name)

    def _file_under(self, temporary: Path, digest: Digest) -> None:
        temporary.replace(self.path(digest))
        sync_directory(self.directory)


def bytes_of_vector(vector: NDArray[np.float32]) -> bytes:
    """Serialise float32[d] deterministically. Raises NotAVector or NotFinite."""
    import numpy as np
    from safetensors.numpy import save

    if vector.dtype != np.float32 or vector.ndim != 1 or vector.size == 0:
        raise NotAVector(f"array is {vector.dtype}{list(vector.shape)}, expected float32[d]")
    _require_finite(vector)
    return save({"vector": np.ascontiguousarray(vector)})


def vector_of(data: bytes, expected_d: int) -> NDArray[np.float32]:
    """Parse the bytes of a model file into a writable float32[expected_d].

    Raises NotAVector, WrongLength or NotFinite.
    """
    import numpy as np

    length = vector_length(data)
    if length != expected_d:
        raise WrongLength(expected=expected_d, actual=length)
    vector = np.frombuffer(data, dtype="<f4", offset=len(data) - 4 * length).astype(np.float32)
    _require_finite(vector)
    return vector


def vector_length(data: bytes | mmap.mmap) -> int:
    """The d of a safetensors file that holds `vector` and nothing else. Raises NotAVector.

    The header is compared with the only one the serialiser writes for d values, byte for byte:
    equal vectors then have equal digests, nothing can hide in metadata, and no parser sees
    foreign bytes. Source: safetensors format: u64 header length, JSON padded to 8 bytes, data.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    body = len(data) - 8 - header_bytes
    if len(data) < 8 or header_bytes > HEADER_BYTES_MAX or body <= 0 or body % 4:
        raise NotAVector(f"{len(data)} bytes with a header of {header_bytes} hold no vector")
    if data[8 : 8 + header_bytes] != _header(body // 4):
        raise NotAVector("header is not that of exactly one float32 tensor called vector")
    return body // 4


def _header(d: int) -> bytes:
    text = f'{{"vector":{{"dtype":"F32","shape":[{d}],"data_offsets":[0,{4 * d}]}}}}'
    return text.encode().ljust(-(-len(text) // 8) * 8)


def _require_finite(vector: NDArray[np.float32]) -> None:
    import numpy as np

    bad = int(vector.size - np.count_nonzero(np.isfinite(vector)))
    if bad:
        raise NotFinite(count=bad)
