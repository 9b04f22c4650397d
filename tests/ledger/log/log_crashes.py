"""What a loss of power may leave of a ledger's files: writes are recorded, then replayed in part.

A recording holds every change of a database (`ledger.db` where nothing else is said), its
write-ahead log and `heads.log` in order, and every sync between them. heads.log's are told by its
`Disk`. Python shows no file layer of SQLite: its writes are found by comparing the files after
every statement, page by page and frame by frame, and put in the order SQLite documents (frames,
sync, pages, sync; a restarted log's header first).

Until a file is synced, its writes may be there or not, in any combination, and each may be torn.
"""

import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ledger.log.heads_file import OS_DISK

DB, WAL, HEADS = "ledger.db", "ledger.db-wal", "heads.log"
PAGE, WAL_HEADER, FRAME_HEADER, SECTOR = 4_096, 32, 24, 512

Files = dict[str, bytes]

_CONNECT = sqlite3.connect


@dataclass(frozen=True)
class Write:
    """Some bytes at an offset, or the end of a file (None: the file is deleted)."""

    name: str
    offset: int
    data: bytes
    end: int | None = -1

    def on(self, files: Files) -> Files:
        content = files.get(self.name, b"")
        if self.end is None:
            return {name: found for name, found in files.items() if name != self.name}
        if self.end >= 0:
            return files | {self.name: content[: self.end]}
        padded = content.ljust(self.offset, b"\0")
        after = padded[self.offset + len(self.data) :]
        return files | {self.name: padded[: self.offset] + self.data + after}

    def torn(self, chance: random.Random) -> Iterator["Write"]:
        """What may be on the disk when the power fails during this very write."""
        if len(self.data) > 1:
            cut = chance.randrange(1, len(self.data))
            yield Write(self.name, self.offset, self.data[:cut])
            # The file grew, but its new blocks were not written.
            yield Write(self.name, self.offset, bytes(len(self.data)))
        if len(self.data) > SECTOR:
            at = SECTOR * chance.randrange(1, len(self.data) // SECTOR)
            yield Write(self.name, self.offset + at, self.data[at:])


@dataclass(frozen=True)
class Sync:
    name: str


@dataclass(frozen=True)
class Released:
    """From here on others may know of the head of this size and root."""

    size: int
    root: bytes


@dataclass(frozen=True)
class Whole:
    """Files that change at once: SQLite's rollback journal keeps its first pages whole."""

    files: Files


@dataclass
class Recording:
    """Use as the `disk` of a log, and `connect` in the place of `sqlite3.connect`."""

    home: Path
    database: str = DB
    events: list[Write | Sync | Released | Whole] = field(default_factory=list)
    seen: Files = field(default_factory=dict)

    @property
    def wal(self) -> str:
        return f"{self.database}-wal"

    def now(self) -> Files:
        names = (self.database, self.wal, HEADS)
        return {
            name: (self.home / name).read_bytes() for name in names if (self.home / name).exists()
        }

    # --- heads.log --------------------------------------------------------------------------

    def write(self, file: BinaryIO, data: bytes) -> None:
        offset = file.seek(0, 2)
        OS_DISK.write(file, data)
        self.events.append(Write(HEADS, offset, data))

    def truncate(self, file: BinaryIO, size: int) -> None:
        OS_DISK.truncate(file, size)
        self.events.append(Write(HEADS, 0, b"", size))

    def sync(self, file: BinaryIO) -> None:
        OS_DISK.sync(file)
        self.events.append(Sync(HEADS))

    def sync_directory(self, directory: Path) -> None:
        OS_DISK.sync_directory(directory)

    # --- SQLite -----------------------------------------------------------------------------

    def connect(self, *arguments, **options):
        recording = self

        class Connection(sqlite3.Connection):
            def execute(self, *what):
                cursor = super().execute(*what)
                recording.compare(in_transaction=self.in_transaction, statement=what[0])
                return cursor

            def executemany(self, *what):
                cursor = super().executemany(*what)
                recording.compare(in_transaction=self.in_transaction, statement=what[0])
                return cursor

            def close(self):
                super().close()
                recording.compare(in_transaction=False, statement="close")

        return _CONNECT(*arguments, **options, factory=Connection)

    def compare(self, *, in_transaction: bool, statement: str) -> None:
        """Record what a statement changed."""
        db, wal = self.database, self.wal
        before, after = self.seen, self.now()
        self.seen = after
        changed = {name for name in (db, wal) if before.get(name) != after.get(name)}
        if not changed:
            return
        if "journal_mode" in statement or (wal not in before and wal not in after):
            self.events.append(Whole({db: after[db]}))
            return
        self._compare_wal(before.get(wal), after.get(wal), in_transaction=in_transaction)
        pages = _differences(before.get(db, b""), after.get(db, b""), range(0, 1 << 30, PAGE))
        self.events += [Write(db, offset, data) for offset, data in pages]
        if len(after[db]) < len(before.get(db, b"")):
            self.events.append(Write(db, 0, b"", len(after[db])))
        if not in_transaction:
            self.events.append(Sync(db))
        if before.get(wal) and not after.get(wal):
            # Only now that the pages are safe.
            self.events.append(Write(wal, 0, b"", 0 if wal in after else None))
            self.events.append(Sync(wal))

    def _compare_wal(self, before: bytes | None, after: bytes | None, *, in_transaction) -> None:
        if not after:
            return
        for offset, data in _differences(before or b"", after, _frame_parts()):
            self.events.append(Write(self.wal, offset, data))
            if offset == 0:
                self.events.append(Sync(self.wal))
        if not in_transaction:
            self.events.append(Sync(self.wal))


def _frame_parts() -> Iterator[int]:
    yield 0
    at = WAL_HEADER
    while True:
        yield at
        yield at + FRAME_HEADER
        at += FRAME_HEADER + PAGE


def _differences(before: bytes, after: bytes, starts) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of every part that a file has anew; starts: where parts begin."""
    marks = iter(starts)
    start = next(marks)
    while start < len(after):
        stop = next(marks)
        part = after[start:stop]
        if part != before[start:stop]:
            yield start, part
        start = stop


@dataclass(frozen=True)
class Wreck:
    """What the power left, and what others had been told by then."""

    files: Files
    released: tuple[Released, ...]
    number: int
    what: str

    def lay_out(self, home: Path) -> Path:
        home.mkdir()
        for name, content in self.files.items():
            (home / name).write_bytes(content)
        return home


def wrecks(events, seed: int = 1) -> Iterator[Wreck]:
    """Every stop of a recording: at each write, in order, torn, alone, without it, and mixed."""
    chance = random.Random(seed)  # noqa: S311 -- which bytes are torn is no secret
    durable: Files = {}
    pending: list[Write] = []
    released: tuple[Released, ...] = ()
    for number, event in enumerate(events):
        match event:
            case Released():
                released = (*released, event)
            case Whole():
                durable = durable | event.files
            case Sync():
                for write in pending:
                    if write.name == event.name:
                        durable = write.on(durable)
                pending = [write for write in pending if write.name != event.name]
            case Write():
                for what, written in _partial(pending, event, chance):
                    files = durable
                    for write in written:
                        files = write.on(files)
                    yield Wreck(files, released, number, f"{number}, {event.name}: {what}")
                pending.append(event)
        yield Wreck(durable, released, number, f"{number}: all that was synced")


def _partial(pending: list[Write], last: Write, chance: random.Random):
    yield "all so far", [*pending, last]
    for torn in last.torn(chance):
        yield "the last one torn", [*pending, torn]
        yield "the last one torn, those before it lost", [torn]
    if pending:
        yield "the last one alone", [last]
        lost = chance.randrange(len(pending))
        yield "one lost", [*pending[:lost], *pending[lost + 1 :], last]
        some = [write for write in pending if chance.random() < 0.5]
        yield "some of them", [*some, last]
        yield "some of them in another order", [*chance.sample(some, len(some)), last]
