"""The old files of a log that is recovered: reading what is left of them, and replacing them.

Responsible for: taking damage as absence, and an exchange that loses nothing.
Must not know: which entries count.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ledger.log.database import DATABASE_NAME, Database, StoredSecret
from ledger.log.errors import LedgerError, StoreError
from ledger.log.heads_file import (
    HEADS_NAME,
    RECORD_BYTES,
    HeadRecord,
    file_header,
    unpack_record,
)
from ledger.log.identity import LogId

ROWS_PER_READ = 1_000
_LINE_BYTES_MAX = 256


class Remains:
    """What is left of the old files; whatever cannot be read is not there."""

    def __init__(self, home: Path) -> None:
        self._heads = home / HEADS_NAME
        self._database: Database | None = None
        try:
            self._database = Database.open_for_reading(home)
        except LedgerError:
            return

    def entries(self) -> Iterator[bytes]:
        """Raw entries from the first on, up to where the database cannot be read."""
        seq = 0
        while self._database is not None:
            try:
                rows = self._database.rows(seq, seq + ROWS_PER_READ)
            except LedgerError:
                return
            if not rows:
                return
            yield from (row.raw for row in rows)
            seq = rows[-1].seq + 1

    def heads(self, log_id: LogId) -> Iterator[HeadRecord]:
        """The intact records of heads.log, if that is of this log."""
        with self._heads.open("rb") as file:
            header = file.readline(_LINE_BYTES_MAX) + file.readline(_LINE_BYTES_MAX)
            origin = header.decode(errors="replace").split("\n")[1:2]
            if not origin or not origin[0].endswith(f"/{log_id.hex()}"):
                return
            if header != file_header(origin[0]):
                return
            while len(data := file.read(RECORD_BYTES)) == RECORD_BYTES:
                record = unpack_record(data)
                if record is not None:
                    yield record

    def secrets(self, stop: int, redacted: frozenset[tuple[int, str]]) -> Iterator[StoredSecret]:
        """The erasable values of entries before `stop` that no entry says are erased."""
        seq, field = -1, ""
        while self._database is not None:
            try:
                found = self._database.secrets_after(seq, field, ROWS_PER_READ)
            except LedgerError:
                return
            if not found:
                return
            for secret in found:
                seq, field = secret[0], secret[1]
                # Whoever altered the table may have put anything into its columns.
                if tuple(map(type, secret)) != (int, str, bytes, bytes):
                    return
                if seq < stop and (seq, field) not in redacted:
                    yield secret

    def close(self) -> None:
        """Close the database; closing twice is fine."""
        if self._database is not None:
            self._database.close()
            self._database = None


def put_in_place(home: Path, building: Path) -> Path:
    """Keep the old files aside, then replace them; after a crash in between, recover again.

    building: a folder with the new ledger.db and heads.log, closed. Returns where the old ones
    are. Raises StoreError.
    """
    damaged = next(
        folder for number in range(1_000_000) if not (folder := home / f"damaged-{number}").exists()
    )
    try:
        damaged.mkdir(mode=0o700)
        names = (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", HEADS_NAME)
        for name in names:
            if (home / name).exists():
                os.link(home / name, damaged / name)
        _sync(damaged)
        # An old write-ahead log must never be applied to the new database.
        for name in names[1:3]:
            (home / name).unlink(missing_ok=True)
        os.replace(building / DATABASE_NAME, home / DATABASE_NAME)
        os.replace(building / HEADS_NAME, home / HEADS_NAME)
        _sync(home)
    except OSError as error:
        raise StoreError(str(error)) from error
    return damaged


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
