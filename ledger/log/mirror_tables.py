"""The SQLite file of what a site holds about others' logs: tables, transactions, durability.

Responsible for: the schema, one connection, and turning SQLite's errors into ours.
Must not know: signatures, trees, or what may be stored.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.log.errors import FormatUnknown, StoreError, WriteFailed
from ledger.log.mirror_errors import WitnessStoreDamaged
from ledger.log.ordinary import require_ordinary

SCHEMA_VERSION = 1
_FILE_MODE = 0o600
_BUSY_TIMEOUT_S = 5.0

# IF NOT EXISTS: two programs may find the file new at the same moment.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS log(
        id INTEGER PRIMARY KEY, log_id BLOB NOT NULL UNIQUE, origin TEXT NOT NULL UNIQUE,
        leaves INTEGER NOT NULL DEFAULT 0, confirmed INTEGER NOT NULL DEFAULT 0,
        entry_bytes INTEGER NOT NULL DEFAULT 0)""",
    # The keys a log was known under, with the entry that put each in force (empty: the roster).
    """CREATE TABLE IF NOT EXISTS log_key(
        log INTEGER NOT NULL, first_size INTEGER NOT NULL, vkey TEXT NOT NULL,
        rotation BLOB NOT NULL, PRIMARY KEY(log, vkey)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS head(
        log INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL,
        vkey TEXT NOT NULL, seen_us INTEGER NOT NULL, cosigned_us INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY(log, size)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS cosignature(
        log INTEGER NOT NULL, size INTEGER NOT NULL, name TEXT NOT NULL, key_id BLOB NOT NULL,
        time_s INTEGER NOT NULL, line BLOB NOT NULL, PRIMARY KEY(log, size, name, key_id))
        WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS node(
        log INTEGER NOT NULL, lvl INTEGER NOT NULL, idx INTEGER NOT NULL, h BLOB NOT NULL,
        PRIMARY KEY(log, lvl, idx)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS entry(
        log INTEGER NOT NULL, seq INTEGER NOT NULL, form TEXT NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY(log, seq))""",
    """CREATE TABLE IF NOT EXISTS evidence(
        id INTEGER PRIMARY KEY, log INTEGER NOT NULL, request BLOB NOT NULL UNIQUE)""",
    """CREATE TABLE IF NOT EXISTS fork(
        digest BLOB PRIMARY KEY, log INTEGER NOT NULL, kind TEXT NOT NULL,
        proof BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS own_cosignature(
        size INTEGER NOT NULL, root BLOB NOT NULL, name TEXT NOT NULL, key_id BLOB NOT NULL,
        time_s INTEGER NOT NULL, line BLOB NOT NULL, PRIMARY KEY(size, name, key_id))
        WITHOUT ROWID""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# A file of before lacks these two. Log keys that their site declared stolen, with the entry that
# says so; entries by which a log's site replaced or disowned a key with which it cosigns.
_DISOWNED = """CREATE TABLE IF NOT EXISTS disowned(
    log INTEGER NOT NULL, public_key BLOB NOT NULL, since_us INTEGER NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY(log, public_key)) WITHOUT ROWID"""
_WITNESS_CHANGE = """CREATE TABLE IF NOT EXISTS witness_change(
    log INTEGER NOT NULL, seq INTEGER NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY(log, seq)) WITHOUT ROWID"""

Row = tuple[Any, ...]


class MirrorTables:
    """One connection that writes, one that reads back. Used by one thread at a time."""

    __slots__ = ("_connection", "_depth", "_path", "_reading")

    def __init__(
        self, path: Path, connection: sqlite3.Connection, reading: sqlite3.Connection
    ) -> None:
        self._path = path
        self._connection = connection
        self._reading = reading
        self._depth = 0

    @classmethod
    def open(cls, path: Path) -> "MirrorTables":
        """Open the file, making it if there is none.

        Raises: StoreError, FormatUnknown, WitnessStoreDamaged.
        """
        require_ordinary(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
        except OSError as error:
            raise StoreError(str(error)) from error
        uri = path.resolve().as_uri()
        with _named_errors():
            connection = _connect(f"{uri}?mode=rw")
            try:
                return cls(path, connection, _prepared(connection, uri))
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; inside another one, part of that."""
        with _named_errors():
            if self._depth:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._connection.rollback()
                raise
            else:
                self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    @property
    def is_in_transaction(self) -> bool:
        """True while what was written may still be taken back."""
        return self._depth > 0

    def free_bytes(self) -> int:
        """What the disk of this file still has room for."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    def write(self, statement: str, *parameters: object) -> int:
        """Run one statement inside a transaction; the number of rows it touched."""
        with self.transaction():
            return self._connection.execute(statement, parameters).rowcount

    def write_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of `rows`, inside a transaction."""
        with self.transaction():
            self._connection.executemany(statement, rows)

    def one(self, query: str, *parameters: object) -> Row | None:
        """The first row of a query."""
        with _named_errors():
            row: Row | None = self._connection.execute(query, parameters).fetchone()
            return row

    def all(self, query: str, *parameters: object) -> list[Row]:
        """Every row of a query."""
        with _named_errors():
            return self._connection.execute(query, parameters).fetchall()

    def reread(self, query: str, *parameters: object) -> Row | None:
        """The first row of a query as another connection sees it: what was really stored."""
        with _named_errors():
            row: Row | None = self._reading.execute(query, parameters).fetchone()
            return row

    def close(self) -> None:
        """Close the file; the connection that writes last, so that it empties the log."""
        self._reading.close()
        self._connection.close()


def _prepared(connection: sqlite3.Connection, uri: str) -> sqlite3.Connection:
    """Set the file up if it is new; a second connection to read it."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    elif version != SCHEMA_VERSION:
        raise FormatUnknown(expected=SCHEMA_VERSION, actual=version)
    connection.execute(_DISOWNED)
    connection.execute(_WITNESS_CHANGE)
    return _connect(f"{uri}?mode=ro")


def _connect(uri: str) -> sqlite3.Connection:
    # Autocommit: transactions are written out. One thread at a time is the owner's promise.
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S
    )


@contextmanager
def _named_errors() -> Iterator[None]:
    """A disk that refuses is WriteFailed; a file that is no longer ours is WitnessStoreDamaged."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
            raise WitnessStoreDamaged(str(error)) from error
        raise WriteFailed(str(error)) from error
    except sqlite3.DatabaseError as error:
        raise WitnessStoreDamaged(str(error)) from error
