"""Blobs: artefacts filed under the SHA-256 of their bytes, written durably, verified on reading.

A model is a safetensors file with exactly one vector of shape [d] and no metadata, as float32 or
in the encoding of its study; the same values give the same float32 file at every site. Files may
come from other sites: size, header and values are checked before anything believes them.
"""

from __future__ import annotations

import collections
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from gossip.identifiers import Digest
from p2pfl.core.encoding import ENCODINGS, Encoding, blob_size_bytes, header_of
from p2pfl.runtime.encoding import Rounding, require_finite
from p2pfl.runtime.errors import BlobDamaged, BlobError, BlobMissing, NotAVector
from p2pfl.runtime.home import sync_directory
from p2pfl.runtime.passed_files import PassedFiles
from p2pfl.runtime.vector_files import (
    HEADER_BYTES_MAX,
    Blocks,
    Hash,
    Layout,
    VectorFile,
    blocks_of,
    layout_of,
    write_blocks,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_BYTES: Final = 1 << 20
SOUND_MAX: Final = 1024
"""Files remembered as verified."""


class BlobStore:
    """The directory `blobs/` of a home."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sound: dict[bytes, tuple[int, int, int]] = {}
        self._passed = PassedFiles()
        self._folder = os.path.join(directory, "")

    def path(self, digest: bytes) -> Path:
        """Where the blob lies, or would lie."""
        return self.directory / digest.hex()

    def has(self, digest: bytes) -> bool:
        """Whether a blob is filed under this digest; its bytes are not verified."""
        # Asked for each chunk that is served: no Path is made for it.
        return os.path.isfile(f"{self._folder}{digest.hex()}")

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

    def copy_to(self, digest: bytes, target: Path) -> None:
        """Copy a blob out of the store, verified on the way: the whole file or none of it.

        Raises BlobMissing, BlobDamaged, OSError.
        """
        hasher = hashlib.sha256()
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with self.path(digest).open("rb") as source, temporary.open("wb") as file:
                os.chmod(file.fileno(), 0o600)
                while chunk := source.read(CHUNK_BYTES):
                    hasher.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if hasher.digest() != digest:
                raise BlobDamaged(expected=digest, actual=hasher.digest())
            temporary.replace(target)
            sync_directory(target.parent)
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        finally:
            temporary.unlink(missing_ok=True)

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
        """The model filed under `digest`, decoded: float32[expected_d], finite, writable.

        Raises BlobMissing, BlobDamaged, NotAVector, WrongLength or NotFinite.
        """
        import numpy as np

        vector: NDArray[np.float32] = np.empty(expected_d, dtype=np.float32)
        self.read_into(vector, digest)
        return vector

    def read_into(self, vector: NDArray[np.float32], digest: bytes) -> None:
        """The same into float32[d]. Nothing is believed before its bytes have their digest.

        They had it where `check` need not read them again.
        """
        size = self.size_bytes(digest)
        # Bounded before it is read: a peer may have announced anything.
        if size > max(blob_size_bytes(len(vector), encoding) for encoding in ENCODINGS):
            raise NotAVector(f"blob has {size} bytes, too many for {len(vector)} parameters")
        try:
            hasher = None if self._is_sound(digest) else hashlib.sha256()
            with self.path(digest).open("rb", buffering=0) as file:
                opened = _opened(file, digest, hasher)
                opened.require(len(vector))
                try:
                    collections.deque(opened.blocks(into=vector), maxlen=0)
                except BlobError:
                    _require_digest(self.path(digest), digest)
                    raise
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        if hasher is not None and hasher.digest() != digest:
            raise BlobDamaged(expected=digest, actual=hasher.digest())

    def check(self, digest: bytes) -> Layout:
        """How a model lies in its file, whose bytes have their digest.

        What this process has written or checked, and nobody has touched since, is not read again.
        Raises BlobMissing, BlobDamaged, NotAVector.
        """
        path = self.path(digest)
        try:
            with path.open("rb", buffering=0) as file:
                if not self._is_sound(digest):
                    _require_digest(path, digest)
                    self.vouch(digest)
                return _opened(file, digest, None).layout
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def _is_sound(self, digest: bytes) -> bool:
        """Raises FileNotFoundError."""
        return self._sound.get(digest) == _mark(self.path(digest))

    def vouch(self, digest: bytes) -> None:
        """The file's bytes were just verified: `check` need not read them again."""
        self._sound[digest] = _mark(self.path(digest))
        while len(self._sound) > SOUND_MAX:
            del self._sound[next(iter(self._sound))]

    def sync(self, digest: bytes) -> None:
        """Have the disk keep a file that was put here without; one that is gone is not missed.

        Raises OSError."""
        try:
            file = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fsync(file)
        finally:
            os.close(file)
        sync_directory(self.directory)

    def let_go(self, digest: bytes) -> None:
        """Nobody will read the file soon: its memory is for the next one. On disk it stays."""
        self._passed.add(self.path(digest))

    def make_room(self, size_bytes: int) -> None:
        """A file of so many bytes is about to be written, in this directory or beside it."""
        self._passed.make_room(size_bytes)

    def write_vector(
        self,
        vector: NDArray[np.float32],
        encoding: Encoding = "float32",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> tuple[Digest, int]:
        """File a model float32[d], finite. Returns its digest and its size in bytes.

        Raises NotAVector or NotFinite.
        """
        _require_vector(vector)
        return self.write_blocks(
            blocks_of(vector), Layout(encoding, len(vector)), Rounding(random_bytes)
        )

    def write_blocks(
        self, blocks: Blocks, layout: Layout, rounding: Rounding
    ) -> tuple[Digest, int]:
        """File a model that is never in memory as a whole. Raises NotFinite, OSError."""
        self.make_room(layout.size_bytes)
        descriptor, temporary = self._temporary()
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                digest = Digest(write_blocks(file, layout, blocks, rounding))
                os.fsync(file.fileno())
            self._file_under(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        self.vouch(digest)
        return digest, layout.size_bytes

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

    _require_vector(vector)
    require_finite(vector)
    return header_of(len(vector)) + np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_of(data: bytes, expected_d: int) -> NDArray[np.float32]:
    """Parse the bytes of a model file, of any encoding, into a writable float32[expected_d].

    Raises NotAVector, WrongLength or NotFinite.
    """
    import numpy as np

    opened = VectorFile(io.BytesIO(data), size_bytes=len(data))
    opened.require(expected_d)
    vector: NDArray[np.float32] = np.empty(expected_d, dtype=np.float32)
    collections.deque(opened.blocks(into=vector), maxlen=0)
    return vector


def vector_length(data: bytes) -> int:
    """The d of a model file's bytes. Raises NotAVector."""
    return layout_of(data[: 8 + HEADER_BYTES_MAX], len(data)).parameters


def _require_vector(vector: NDArray[np.float32]) -> None:
    import numpy as np

    if vector.dtype != np.float32 or vector.ndim != 1 or vector.size == 0:
        raise NotAVector(f"array is {vector.dtype}{list(vector.shape)}, expected float32[d]")


def _opened(file: BinaryIO, digest: bytes, hasher: Hash | None) -> VectorFile:
    """A stored model; one with a wrong header is damaged, or was no model."""
    try:
        return VectorFile(file, hasher)
    except NotAVector:
        _require_digest(Path(file.name), digest)
        raise


def _require_digest(path: Path, digest: bytes) -> None:
    """Raises BlobDamaged."""
    with path.open("rb", buffering=0) as file:
        actual = hashlib.file_digest(file, "sha256").digest()
    if actual != digest:
        raise BlobDamaged(expected=digest, actual=actual)


def _mark(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written again or replaced."""
    seen = path.stat()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
