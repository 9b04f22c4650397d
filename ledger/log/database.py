"""The SQLite file of a ledger: entries, tree nodes, the head, peers' heads, erasable secrets.

Responsible for: tables, statements, durability settings, and turning SQLite's errors into ours.
Must not know: signatures, or whether what it stores is true.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.log.errors import (
    Corrupt,
    DatabaseLost,
    FormatUnknown,
    NoLedger,
    StoreError,
    WriteFailed,
)
from ledger.log.heads_file import HEADS_NAME, holds_heads
from ledger.log.ordinary import require_no_trap, require_ordinary
from ledger.log.own_kinds import OWN_KINDS
from ledger.log.tree import Node

DATABASE_NAME = "ledger.db"
_SIDE_FILES = (f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm")
SCHEMA_VERSION = 1
_FILE_MODE = 0o600
_BUSY_TIMEOUT_S = 5.0

# The few entries by which a log speaks of itself are read at every start.
_OWN_KINDS_SQL = ", ".join(f"'{kind}'" for kind in OWN_KINDS)
_OWN_INDEX = f"""CREATE INDEX IF NOT EXISTS entry_own ON entry(seq)
    WHERE kind IN ({_OWN_KINDS_SQL})"""

_SCHEMA = (
    """CREATE TABLE entry(
        seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL, kind TEXT NOT NULL, study BLOB,
        raw BLOB NOT NULL)""",
    "CREATE INDEX entry_study ON entry(study, seq) WHERE study IS NOT NULL",
    _OWN_INDEX,
    """CREATE TABLE node(
        lvl INTEGER NOT NULL, idx INTEGER NOT NULL, h BLOB NOT NULL,
        PRIMARY KEY(lvl, idx)) WITHOUT ROWID""",
    """CREATE TABLE head(
        id INTEGER PRIMARY KEY CHECK(id = 0), size INTEGER NOT NULL, root BLOB NOT NULL,
        signature BLOB NOT NULL, previous_size INTEGER NOT NULL)""",
    """CREATE TABLE secret(
        seq INTEGER NOT NULL, field TEXT NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY(seq, field)) WITHOUT ROWID""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


_KEEP_IN_TABLE = "INSERT OR REPLACE INTO secret(seq, field, salt, value) VALUES (?, ?, ?, ?)"
_ERASE_FROM_TABLE = "DELETE FROM secret WHERE seq = ? AND field = ?"

StoredSecret = tuple[int, str, bytes, bytes]
"""(entry number, field, salt, value)"""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored entry: the index columns beside the bytes they were taken from."""

    seq: int
    leaf: bytes
    kind: str
    study: bytes | None
    raw: bytes


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The head that the last commit wrote, and the size before that commit."""

    size: int
    root: bytes
    signature: bytes
    previous_size: int


@contextmanager
def corrupt_if_unreadable() -> Iterator[None]:
    """A database that SQLite cannot read is Corrupt; a disk that fails is a StoreError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # A statement of ours that is wrong for this file (SQLITE_ERROR) or text that is none
        # (no code at all) means that somebody changed the tables.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
            raise StoreError(str(error)) from error
        raise Corrupt(f"{DATABASE_NAME}: {error}") from error


class Database:
    """One connection. The caller makes sure that one thread uses it at a time."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def create(cls, home: Path) -> "Database":
        """Open the file for writing, making it if there is none. Raises StoreError."""
        path = home / DATABASE_NAME
        with _store_error():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, _FILE_MODE))
        with corrupt_if_unreadable():
            database = cls(_connect(f"{path.resolve().as_uri()}?mode=rw"))
            database._set_durability()
            if database._user_version() == 0:
                with database._transaction():
                    for statement in _SCHEMA:
                        database._connection.execute(statement)
        return database

    @classmethod
    def open_for_writing(cls, home: Path) -> "Database":
        """Open an existing ledger. Raises NoLedger, FormatUnknown, Corrupt."""
        database = cls._open(home, "mode=rw")
        with corrupt_if_unreadable():
            database._set_durability()
            # Ledgers made before this index existed get it now.
            database._connection.execute(_OWN_INDEX)
        return database

    @classmethod
    def open_for_reading(cls, home: Path) -> "Database":
        """Open an existing ledger read-only. Raises NoLedger, FormatUnknown, Corrupt."""
        try:
            return cls._open(home, "mode=ro")
        except (NoLedger, FormatUnknown):
            raise
        except StoreError:
            # Without a WAL file, on a read-only medium, SQLite must be told that nobody writes.
            wal = home / f"{DATABASE_NAME}-wal"
            if wal.exists() and wal.stat().st_size:
                raise
            return cls._open(home, "mode=ro&immutable=1")

    @classmethod
    def _open(cls, home: Path, options: str) -> "Database":
        path = home / DATABASE_NAME
        require_ordinary(home / DATABASE_NAME, home / HEADS_NAME)
        require_no_trap(*(home / name for name in _SIDE_FILES))
        if not path.exists():
            raise DatabaseLost(str(home)) if holds_heads(home) else NoLedger(str(home))
        with corrupt_if_unreadable():
            database = cls(_connect(f"{path.resolve().as_uri()}?{options}"))
            version = database._user_version()
        if version == 0:
            raise NoLedger("its creation did not finish")
        if version != SCHEMA_VERSION:
            raise FormatUnknown(expected=SCHEMA_VERSION, actual=version)
        return database

    def _user_version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _set_durability(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "trusted_schema = OFF",
        ):
            self._connection.execute(f"PRAGMA {pragma}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.execute("COMMIT")

    def pin_snapshot(self) -> None:
        """From now on read the state of this moment, whatever others write."""
        with corrupt_if_unreadable():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT size FROM head").fetchone()

    def close(self) -> None:
        """Close the connection; the last one to close empties the write-ahead log."""
        self._connection.close()

    # --- the log ----------------------------------------------------------------------------

    def write_commit(
        self,
        rows: Iterable[Row],
        nodes: Iterable[Node],
        head: StoredHead,
        *,
        kept: Iterable[StoredSecret] = (),
        erased: Iterable[tuple[int, str]] = (),
    ) -> None:
        """One durable transaction: entries, nodes, the new head, secrets kept and erased with it.

        erased: (entry number, field). Raises WriteFailed.
        """
        try:
            with self._transaction():
                self._connection.executemany(
                    "INSERT INTO entry(seq, leaf, kind, study, raw) VALUES (?, ?, ?, ?, ?)",
                    ((row.seq, row.leaf, row.kind, row.study, row.raw) for row in rows),
                )
                self._connection.executemany(
                    "INSERT INTO node(lvl, idx, h) VALUES (?, ?, ?)", nodes
                )
                self._connection.execute(
                    """INSERT OR REPLACE INTO head(id, size, root, signature, previous_size)
                    VALUES (0, ?, ?, ?, ?)""",
                    (head.size, head.root, head.signature, head.previous_size),
                )
                self._connection.executemany(_KEEP_IN_TABLE, kept)
                self._connection.executemany(_ERASE_FROM_TABLE, erased)
        except sqlite3.Error as error:
            raise WriteFailed(str(error)) from error

    def head(self) -> StoredHead | None:
        """The head of the last commit; None before the first. Raises Corrupt."""
        match self._one("SELECT size, root, signature, previous_size FROM head"):
            case None:
                return None
            case (int(size), bytes(root), bytes(signature), int(previous_size)):
                return StoredHead(size, root, signature, previous_size)
            case _:
                raise Corrupt("the stored head has columns of the wrong type")

    def size(self) -> int:
        """One more than the highest entry number."""
        row = self._one("SELECT max(seq) FROM entry")
        return 0 if row is None or row[0] is None else int(row[0]) + 1

    def rows(self, start: int, stop: int) -> list[Row]:
        """The entries numbered [start, stop) that exist, in order. Raises Corrupt."""
        return [row_from(columns) for columns in self.columns(start, stop)]

    def columns(self, start: int, stop: int) -> list[tuple[Any, ...]]:
        """(seq, leaf, kind, study, raw) of [start, stop) as stored, whatever their types."""
        query = """SELECT seq, leaf, kind, study, raw FROM entry
            WHERE seq >= ? AND seq < ? ORDER BY seq"""
        try:
            return self._all(query, (start, stop))
        except Corrupt:
            # Perhaps a text column that is not UTF-8: show it rather than nothing.
            self._connection.text_factory = _readable_text
            return self._all(query, (start, stop))

    def rows_of_study(self, study: bytes, start: int, stop: int, count_max: int) -> list[Row]:
        """The first `count_max` entries of [start, stop) that carry `study`. Raises Corrupt."""
        return [
            row_from(columns)
            for columns in self._all(
                """SELECT seq, leaf, kind, study, raw FROM entry
                WHERE study = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?""",
                (study, start, stop, count_max),
            )
        ]

    def own_columns(self, stop: int) -> list[tuple[Any, ...]]:
        """(seq, leaf, kind, study, raw) of the log's entries about itself before `stop`."""
        query = f"""SELECT seq, leaf, kind, study, raw FROM entry
            WHERE kind IN ({_OWN_KINDS_SQL}) AND seq < ? ORDER BY seq"""  # noqa: S608 -- ours
        return self._all(query, (stop,))

    def node_at(self, level: int, index: int) -> bytes:
        """The stored hash of one complete subtree. Raises Corrupt if there is none."""
        if level == 0:
            row = self._one("SELECT leaf FROM entry WHERE seq = ?", (index,))
        else:
            row = self._one("SELECT h FROM node WHERE lvl = ? AND idx = ?", (level, index))
        if row is None or not isinstance(row[0], bytes):
            raise Corrupt(f"tree node ({level}, {index}) is missing")
        return row[0]

    def nodes(self, level: int, start: int, stop: int) -> list[bytes]:
        """The stored inner nodes of `level` with index in [start, stop), in order."""
        return [
            row[0]
            for row in self._all(
                "SELECT h FROM node WHERE lvl = ? AND idx >= ? AND idx < ? ORDER BY idx",
                (level, start, stop),
            )
        ]

    def has_stray_rows(self, size: int) -> bool:
        """True if there are entries or nodes that a log of `size` entries does not have."""
        # One query each, so that every one of them is a single step in an index.
        queries: list[tuple[str, Sequence[int]]] = [
            ("SELECT 1 FROM entry WHERE seq < 0 LIMIT 1", ()),
            ("SELECT 1 FROM node WHERE lvl < 1 LIMIT 1", ()),
            ("SELECT 1 FROM node WHERE lvl > 62 LIMIT 1", ()),
        ]
        for level in range(1, 63):
            queries += [
                ("SELECT 1 FROM node WHERE lvl = ? AND idx < 0 LIMIT 1", (level,)),
                ("SELECT 1 FROM node WHERE lvl = ? AND idx >= ? LIMIT 1", (level, size >> level)),
            ]
        return any(self._one(query, parameters) for query, parameters in queries)

    # --- secrets ------------------------------------------------------------------------------

    def write_secret(self, seq: int, field: str, salt: bytes, value: bytes) -> None:
        """Store or replace a secret, durably. Raises WriteFailed."""
        self._write(_KEEP_IN_TABLE, (seq, field, salt, value))

    def secret(self, seq: int, field: str) -> tuple[bytes, bytes] | None:
        """(salt, value), or None."""
        row = self._one("SELECT salt, value FROM secret WHERE seq = ? AND field = ?", (seq, field))
        return (row[0], row[1]) if row else None

    def secrets_after(self, seq: int, field: str, count_max: int) -> list[tuple[Any, ...]]:
        """The next `count_max` secrets after (seq, field), whatever their types."""
        return self._all(
            """SELECT seq, field, salt, value FROM secret WHERE (seq, field) > (?, ?)
            ORDER BY seq, field LIMIT ?""",
            (seq, field, count_max),
        )

    def empty_wal(self) -> bool:
        """Empty the write-ahead log of what was erased; False if a reader kept that from us."""
        with corrupt_if_unreadable():
            row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            _, _, path = self._connection.execute("PRAGMA database_list").fetchone()
        if row[0]:
            return False
        # SQLite truncates without a sync: after a loss of power the old frames would be back.
        with _store_error():
            descriptor = os.open(f"{path}-wal", os.O_RDWR | os.O_CREAT, _FILE_MODE)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return True

    # --- statements ---------------------------------------------------------------------------

    def _write(self, statement: str, parameters: Sequence[object]) -> None:
        try:
            with self._transaction():
                self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise WriteFailed(str(error)) from error

    def _one(self, query: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        with corrupt_if_unreadable():
            row: tuple[Any, ...] | None = self._connection.execute(query, parameters).fetchone()
            return row

    def _all(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with corrupt_if_unreadable():
            return self._connection.execute(query, parameters).fetchall()


def _readable_text(data: bytes) -> str:
    return data.decode(errors="replace")


def row_from(columns: tuple[Any, ...]) -> Row:
    """The row in these columns, which may hold any type. Raises Corrupt."""
    match columns:
        case (int(seq), bytes(leaf), str(kind), bytes() | None as study, bytes(raw)):
            return Row(seq, leaf, kind, study, raw)
        case _:
            raise Corrupt(f"entry {columns[0]} has columns of the wrong type")


def _connect(uri: str) -> sqlite3.Connection:
    # Autocommit: transactions are written out. The owner's lock replaces the thread check.
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S
    )


@contextmanager
def _store_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(str(error)) from error
