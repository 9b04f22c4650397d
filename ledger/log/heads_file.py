"""heads.log: every head ever released, append-only, and the lock of the ledger.

Responsible for: fixed-size records with a checksum, the torn last one, fsync, the file lock.
Must not know: the database.

File: `dl-ledger heads v1\\n<origin>\\n`, then records of 108 bytes:
u64be size ‖ root (32) ‖ the head note's Ed25519 signature (64) ‖ u32be CRC-32 of what precedes.
A head's note is a function of origin, size, root and signature, so that nothing is lost.
"""

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ledger.log.errors import Corrupt, HeadsCut, LedgerExists, Locked, NoLedger
from ledger.log.identity import LogIdentity
from ledger.log.notes import Checkpoint, note_verify, signature_line
from ledger.log.ordinary import require_ordinary

HEADS_NAME = "heads.log"
RECORD_BYTES = 108
_CRC_BYTES = 4
_FILE_MODE = 0o600
_HEADER_BYTES_MAX = 256


class Disk(Protocol):
    """How bytes become durable. The tests' one stops, tears and reorders what is not synced."""

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Append `data`. Raises OSError if not all of it was written."""

    def truncate(self, file: BinaryIO, size: int) -> None:
        """Cut the file to `size` bytes."""

    def sync(self, file: BinaryIO) -> None:
        """Return once all written to `file` would survive a loss of power."""

    def sync_directory(self, directory: Path) -> None:
        """Return once the names of the files in `directory` would."""


class OsDisk:
    """The operating system's files."""

    __slots__ = ()

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Append `data` in one call, so that a crash leaves at most one torn record."""
        written = file.write(data)
        if written != len(data):
            raise OSError(f"wrote {written} of {len(data)} bytes to {HEADS_NAME}")

    def truncate(self, file: BinaryIO, size: int) -> None:
        """Cut the file to `size` bytes."""
        file.truncate(size)

    def sync(self, file: BinaryIO) -> None:
        """fsync."""
        os.fsync(file.fileno())

    def sync_directory(self, directory: Path) -> None:
        """fsync of a directory: a new file is durable only when its directory entry is."""
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


OS_DISK = OsDisk()


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """One released head. `signature` is that of its note, 64 bytes."""

    size: int
    root: bytes
    signature: bytes

    def checkpoint(self, identity: LogIdentity) -> Checkpoint:
        """The head as a checkpoint of the log `identity`."""
        return Checkpoint(identity.origin, self.size, self.root)

    def note(self, identity: LogIdentity) -> bytes:
        """The head as the signed note that was released."""
        line = signature_line(identity.origin, identity.key_at(self.size).key_id, self.signature)
        return self.checkpoint(identity).text.encode() + b"\n" + line

    def verify(self, identity: LogIdentity) -> None:
        """Raises a NoteError unless the log key signed this head."""
        note_verify(self.note(identity), identity.verifier_key_at(self.size))


@dataclass(frozen=True, slots=True)
class Tail:
    """How heads.log ends. `kept_bytes` is its length without the `torn_bytes` at the end."""

    last: HeadRecord | None
    kept_bytes: int
    torn_bytes: int


def file_header(origin: str) -> bytes:
    """What heads.log starts with."""
    return f"dl-ledger heads v1\n{origin}\n".encode()


def pack_record(record: HeadRecord) -> bytes:
    """The 108 bytes of `record`."""
    data = record.size.to_bytes(8, "big") + record.root + record.signature
    return data + zlib.crc32(data).to_bytes(_CRC_BYTES, "big")


def unpack_record(data: bytes) -> HeadRecord | None:
    """The record in `data`, or None if it is torn or altered."""
    content, checksum = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    if len(data) != RECORD_BYTES or zlib.crc32(content).to_bytes(_CRC_BYTES, "big") != checksum:
        return None
    return HeadRecord(int.from_bytes(content[:8], "big"), content[8:40], content[40:])


def read_tail(file: BinaryIO, origin: str) -> Tail:
    """How the open heads.log ends; a write that was torn by a crash is not part of it.

    Raises: Corrupt if more than the last write is damaged, or it is another log's file.
    """
    header = file_header(origin)
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = file.read(len(header))
    if len(found) < len(header) and header.startswith(found):
        return Tail(None, 0, length)
    if found != header:
        raise Corrupt("heads.log belongs to another log or was altered")
    count, torn = divmod(length - len(header), RECORD_BYTES)
    last = _record_at(file, len(header), count - 1) if count else None
    if count and last is None and not torn:
        # A whole record with a wrong checksum: its blocks were not all written before a crash.
        count, torn = count - 1, RECORD_BYTES
        last = _record_at(file, len(header), count - 1) if count else None
    if count and last is None:
        raise Corrupt(f"heads.log record {count - 1} was altered")
    return Tail(last, len(header) + count * RECORD_BYTES, torn)


def _record_at(file: BinaryIO, header_bytes: int, index: int) -> HeadRecord | None:
    file.seek(header_bytes + index * RECORD_BYTES)
    return unpack_record(file.read(RECORD_BYTES))


def read_tail_of(home: Path, origin: str) -> Tail:
    """`read_tail` without a lock. Raises also HeadsCut if the file is gone."""
    try:
        with (home / HEADS_NAME).open("rb") as file:
            return read_tail(file, origin)
    except FileNotFoundError:
        raise HeadsCut("the file is missing") from None


def holds_heads(home: Path) -> bool:
    """True if a head was ever written to the heads.log in `home`, whosever log it is."""
    try:
        with (home / HEADS_NAME).open("rb") as file:
            return _names_a_head(file.read(_HEADER_BYTES_MAX))
    except OSError:
        return False


def _names_a_head(start: bytes) -> bool:
    # Two whole lines and more: a record. Less was left by a creation that did not finish.
    lines = start.split(b"\n", 2)
    return len(lines) == 3 and bool(lines[2])


def scan_records(file: BinaryIO, origin: str, tail: Tail) -> Iterator[HeadRecord | None]:
    """Every record up to `tail`, oldest first; None for one that was altered."""
    start = len(file_header(origin))
    file.seek(start)
    for _ in range((tail.kept_bytes - start) // RECORD_BYTES):
        yield unpack_record(file.read(RECORD_BYTES))


class HeadsFile:
    """heads.log opened for appending; holding it open is holding the ledger's lock."""

    __slots__ = ("_disk", "_file", "_path")

    def __init__(self, home: Path, disk: Disk = OS_DISK) -> None:
        """Open (or create) the file and lock it. Raises Locked, NoLedger."""
        self._disk = disk
        self._path = home / HEADS_NAME
        require_ordinary(self._path)
        try:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE_MODE
            )
        except OSError as error:
            raise NoLedger(str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Locked(str(home)) from None
        self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)

    def start(self, origin: str) -> None:
        """Begin the file of a new log. Raises LedgerExists if a head was ever written to it."""
        self._file.seek(0)
        if _names_a_head(self._file.read(_HEADER_BYTES_MAX)):
            raise LedgerExists(f"{HEADS_NAME} holds heads")
        self._disk.truncate(self._file, 0)
        self._write(file_header(origin))
        self._sync_directories()

    def tail(self, origin: str) -> Tail:
        """How the file ends. Raises Corrupt."""
        return read_tail(self._file, origin)

    def repair(self, tail: Tail, origin: str) -> None:
        """Cut the torn end, and write the header if even that was torn."""
        if tail.torn_bytes:
            self._disk.truncate(self._file, tail.kept_bytes)
        if not tail.kept_bytes:
            self._write(file_header(origin))
            self._sync_directories()

    def append(self, record: HeadRecord) -> None:
        """Make `record` durable. Raises OSError."""
        self._write(pack_record(record))

    def _write(self, data: bytes) -> None:
        self._disk.write(self._file, data)
        self._disk.sync(self._file)

    def _sync_directories(self) -> None:
        home = self._path.parent.resolve()
        self._disk.sync_directory(home)
        # The home itself may have been made just now; then whoever made it may read what holds it.
        with suppress(PermissionError):
            self._disk.sync_directory(home.parent)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()
