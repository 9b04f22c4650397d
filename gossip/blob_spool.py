"""A blob on its way to disk: a `.part` file beside the target, resumed after a crash.

Only whole chunks are appended, in order, so the file's length says how far it came; on resume
what is there is hashed again and not fetched again. If the digest is wrong in the end, the part
is deleted, and nobody is blamed for bytes that were resumed: a power cut may have garbled them.
Blocking calls: use it in a thread, one at a time per spool. It knows nothing of the network.
"""

import hashlib
import os
import shutil
from pathlib import Path

from gossip.identifiers import Digest

_HASH_BLOCK_BYTES = 1024 * 1024
_CLOSED = -1


class SpoolError(Exception):
    """The blob cannot be kept or is not what was announced."""


class NoSpace(SpoolError):
    """The disk has too little room left."""


class DigestMismatch(SpoolError):
    """All bytes are there but they do not hash to the digest."""


class Spool:
    """One blob being written to `into` by way of `<into>.part`."""

    def __init__(self, into: Path, digest: Digest, size_bytes: int) -> None:
        self.into = into
        self.part = into.with_name(into.name + ".part")
        self.digest = digest
        self.size_bytes = size_bytes
        self.have_bytes = 0
        self.resumed_bytes = 0
        self._hash = hashlib.sha256()
        self._file = _CLOSED

    def open(self, *, reserve_bytes: int) -> None:
        """Open or resume the part and re-hash it. Raises NoSpace, OSError.

        reserve_bytes: what must remain free on the disk beside the blob.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.part, flags, 0o600)
        present = os.fstat(self._file).st_size
        if present > self.size_bytes:
            os.ftruncate(self._file, 0)
            present = 0
        free = shutil.disk_usage(self.part.parent).free
        needed = self.size_bytes - present + reserve_bytes
        if free < needed:
            self.close()
            raise NoSpace(f"{free} bytes free, {needed} needed")
        self._rehash(present)

    def _rehash(self, present: int) -> None:
        while block := os.pread(
            self._file, min(_HASH_BLOCK_BYTES, present - self.have_bytes), self.have_bytes
        ):
            self._hash.update(block)
            self.have_bytes += len(block)
        self.resumed_bytes = self.have_bytes

    def append(self, chunk: bytes | bytearray | memoryview) -> None:
        """Hash and write the next chunk. Raises OSError (disk full)."""
        view = memoryview(chunk)
        written = 0
        while written < len(view):
            written += os.pwrite(self._file, view[written:], self.have_bytes + written)
        self._hash.update(view)
        self.have_bytes += len(view)

    def finish(self) -> None:
        """Verify the digest and give the file its name. It is not synced: see `Transport.fetch`.

        Raises DigestMismatch and deletes the part; OSError.
        """
        if self.have_bytes != self.size_bytes or self._hash.digest() != self.digest:
            self.discard()
            raise DigestMismatch(
                f"expected {self.digest.hex()[:16]} of {self.size_bytes} bytes, "
                f"got {self._hash.hexdigest()[:16]} of {self.have_bytes}"
            )
        self.close()
        os.replace(self.part, self.into)

    def close(self) -> None:
        """Let go of the part and leave it for the next try."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def discard(self) -> None:
        """Let go of the part and delete it."""
        self.close()
        self.part.unlink(missing_ok=True)
