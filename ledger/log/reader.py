"""A read-only snapshot of a log, taken while a node may be writing it.

Responsible for: seeing one released head and everything under it, without a lock.
Must not know: how to write or repair.
"""

from enum import Enum
from pathlib import Path

from ledger.log.database import Database
from ledger.log.errors import Corrupt, HeadsCut, LedgerError, Rollback
from ledger.log.heads_file import HeadRecord, read_tail_of
from ledger.log.identity import LogIdentity
from ledger.log.opening import (
    History,
    check_released,
    read_history,
    read_identity,
    record_of,
    sound_history,
)
from ledger.log.view import LogView


class OnDamage(Enum):
    """What to do when the files contradict each other."""

    RAISE = "raise the named error"
    SHOW = "read what is there and keep the error in `damage`"


class LogReader(LogView):
    """A consistent snapshot under the last released head.

    Close it soon: it holds back the emptying of the write-ahead log. With `damage` set, the
    checkpoint and note are those found in the files and prove nothing.
    """

    def __init__(
        self,
        database: Database,
        history: History,
        released: HeadRecord,
        damage: LedgerError | None,
    ) -> None:
        super().__init__(database, history, released)
        self.damage = damage

    @classmethod
    def open(cls, home: Path, *, on_damage: OnDamage = OnDamage.RAISE) -> "LogReader":
        """Open a snapshot of the log in `home`; works while a node runs and on read-only media.

        Raises: NoLedger, DatabaseLost, FormatUnknown, StoreError, Corrupt (no readable genesis
        entry); with OnDamage.RAISE also Rollback, HeadsCut and every other Corrupt.
        """
        database = Database.open_for_reading(home)
        try:
            genesis = read_identity(database)
            try:
                history, released = _pinned(home, database, genesis)
                return cls(database, history, released, None)
            except (Rollback, HeadsCut, Corrupt) as damage:
                if on_damage is OnDamage.RAISE:
                    raise
                return cls(database, read_history(database, genesis), _shown(database), damage)
        except BaseException:
            database.close()
            raise


def _pinned(home: Path, database: Database, genesis: LogIdentity) -> tuple[History, HeadRecord]:
    """Pin the snapshot; return what the log is and the released head that it is sure to contain.

    Without a lock a writer may commit between any two lines. What a head of heads.log covers is
    stored before the head is, so the head is read first and the snapshot pinned after it.
    """
    last = read_tail_of(home, genesis.origin).last
    database.pin_snapshot()
    head, size = database.head(), database.size()
    if last and size < last.size:
        raise Rollback(expected=f"{last.size} entries", actual=size)
    if head is None or head.size != size:
        raise Corrupt("entries and head", expected=size, actual=head.size if head else None)
    # Read once more: whatever preceded the commit of the snapshot has been released by now.
    newest = read_tail_of(home, genesis.origin).last
    if (newest.size if newest else 0) < head.previous_size:
        raise HeadsCut(expected=f"a head of size {head.previous_size}")
    if last is None:
        # The genesis commit is durable and its release is being written, or was cut by a crash.
        last = record_of(head)
    # Keys are read inside the snapshot: a rotation may just have been committed.
    history = sound_history(database, genesis, last.size)
    check_released(database, history.identity, last)
    return history, last


def _shown(database: Database) -> HeadRecord:
    """A head to read damaged files under: everything that is there, under no valid signature."""
    head, size = database.head(), database.size()
    if head and head.size == size:
        return record_of(head)
    return HeadRecord(size, bytes(32), bytes(64))
