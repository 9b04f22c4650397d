"""The signed heads that are held of one mirrored log, with their cosignatures.

Responsible for: which heads are kept (the newest, the one last cosigned, the one that confirms
the mirror, and those that the mirror has yet to reach), and for how many.
Must not know: what contradicts what, or how leaves are stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ledger.log.errors import LedgerError
from ledger.log.identity import LogId
from ledger.log.mirror_errors import WitnessStoreDamaged
from ledger.log.mirror_tables import MirrorTables
from ledger.log.notes import Checkpoint, VerifierKey, note_verify, note_with, stated_in

_COLUMNS = "size, root, note, vkey, seen_us, cosigned_us"
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class HeldHead:
    """A signed head of another site's log. `note` carries the log's own signature only.

    cosignatures: verified lines of other witnesses; seen_us: when it was first heard;
    cosigned_us: when this site cosigned it (both µs UTC), 0 if it did not.
    """

    log_id: LogId
    origin: str
    size: int
    root: bytes
    note: bytes
    cosignatures: tuple[bytes, ...]
    seen_us: int
    cosigned_us: int
    key: VerifierKey

    @property
    def checkpoint(self) -> Checkpoint:
        """The head itself."""
        return Checkpoint(self.origin, self.size, self.root)

    @property
    def full_note(self) -> bytes:
        """The note with all cosignatures."""
        return note_with(self.checkpoint.text, self.line, *self.cosignatures)

    @property
    def line(self) -> bytes:
        """The log's own signature line."""
        return self.note.removeprefix(self.checkpoint.text.encode() + b"\n")


class MirrorHeads:
    """The heads of the log that is number `log` in the tables."""

    __slots__ = ("_log", "_log_id", "_origin", "_tables")

    def __init__(self, tables: MirrorTables, log: int, log_id: LogId, origin: str) -> None:
        self._tables = tables
        self._log = log
        self._log_id = log_id
        self._origin = origin

    def newest(self) -> HeldHead | None:
        """The largest head heard of."""
        return self._first("ORDER BY size DESC LIMIT 1")

    def cosigned(self) -> HeldHead | None:
        """The largest head that this site has cosigned."""
        return self._first("AND cosigned_us > 0 ORDER BY size DESC LIMIT 1")

    def at(self, size: int) -> HeldHead | None:
        """The head of exactly this size, if it is held."""
        return self._first("AND size = ?", size)

    def between(self, above: int, upto: int) -> list[HeldHead]:
        """The heads of sizes (above, upto], smallest first."""
        return self._select("AND size > ? AND size <= ? ORDER BY size", above, upto)

    def verify_all(self) -> None:
        """Raises WitnessStoreDamaged unless every head is what its key signed."""
        for head in self._select("ORDER BY size"):
            try:
                text = note_verify(head.note, head.key).text
            except LedgerError as error:
                raise WitnessStoreDamaged(f"head of size {head.size}: {error}") from error
            if text != head.checkpoint.text:
                raise WitnessStoreDamaged(f"head of size {head.size}", actual=text)

    def keep(self, head: Checkpoint, key: VerifierKey, note: bytes, now_us: int) -> None:
        """Keep a head whose size is not held yet; one that is held stays as it is."""
        self._tables.write(
            """INSERT OR IGNORE INTO head(log, size, root, note, vkey, seen_us)
            VALUES (?, ?, ?, ?, ?, ?)""",
            self._log,
            head.size,
            head.root,
            note,
            str(key),
            now_us,
        )

    def keep_cosignatures(self, size: int, lines: Iterable[bytes]) -> None:
        """Keep verified cosignatures of the held head of `size`; the newest of each witness."""
        for line in lines:
            name, key_id, time_s = stated_in(line)
            self._tables.write(
                """INSERT INTO cosignature(log, size, name, key_id, time_s, line)
                VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                SET time_s = excluded.time_s, line = excluded.line
                WHERE excluded.time_s > time_s""",
                self._log,
                size,
                name,
                key_id,
                time_s,
                line,
            )

    def mark_cosigned(self, size: int, now_s: int) -> None:
        """This site cosigns the held head of `size`."""
        self._tables.write(
            "UPDATE head SET cosigned_us = ? WHERE log = ? AND size = ?",
            now_s * _US_PER_S,
            self._log,
            size,
        )

    def is_stored(self, head: Checkpoint) -> bool:
        """True if another connection reads `head` back as cosigned."""
        row = self._tables.reread(
            "SELECT root FROM head WHERE log = ? AND size = ? AND cosigned_us > 0",
            self._log,
            head.size,
        )
        return row is not None and row[0] == head.root

    def drop(self, size: int) -> None:
        """Forget the head of `size`: a proof holds it now."""
        self._tables.write("DELETE FROM head WHERE log = ? AND size = ?", self._log, size)

    def prune(self, confirmed: int, waiting_max: int) -> None:
        """Forget heads that can prove nothing any more, and thin those that wait for leaves."""
        newest, cosigned = self.newest(), self.cosigned()
        cosigned_size = cosigned.size if cosigned else -1
        self._tables.write(
            "DELETE FROM head WHERE log = ? AND size < ? AND size NOT IN (?, ?)",
            self._log,
            confirmed,
            newest.size if newest else -1,
            cosigned_size,
        )
        # The sizes alone: this happens for each head that anybody tells.
        rows = self._tables.all(
            "SELECT size FROM head WHERE log = ? AND size > ? ORDER BY size", self._log, confirmed
        )
        waiting = [size for (size,) in rows]
        spare = [size for size in waiting[:-1] if size != cosigned_size]
        # The first ones stay: whoever sends many heads cannot push an earlier one out.
        for size in spare[max(0, waiting_max - 1) :]:
            self.drop(size)
        self._tables.write(
            """DELETE FROM cosignature WHERE log = ? AND size NOT IN
            (SELECT size FROM head WHERE log = ?)""",
            self._log,
            self._log,
        )

    def _first(self, condition: str, *parameters: object) -> HeldHead | None:
        return next(iter(self._select(condition, *parameters)), None)

    def _select(self, condition: str, *parameters: object) -> list[HeldHead]:
        # Only constants of this file become part of the statement.
        query = f"SELECT {_COLUMNS} FROM head WHERE log = ? {condition}"  # noqa: S608 - as above
        return [self._held(row) for row in self._tables.all(query, self._log, *parameters)]

    def _held(self, row: tuple[Any, ...]) -> HeldHead:
        match row:
            case (int(size), bytes(root), bytes(note), str(vkey), int(seen_us), int(cosigned_us)):
                pass
            case _:
                raise WitnessStoreDamaged("a head has columns of the wrong type")
        lines = self._tables.all(
            "SELECT line FROM cosignature WHERE log = ? AND size = ? ORDER BY name, key_id",
            self._log,
            size,
        )
        try:
            key = VerifierKey.parse(vkey)
        except LedgerError as error:
            raise WitnessStoreDamaged(f"head of size {size}: {error}") from error
        cosignatures = tuple(line for (line,) in lines)
        return HeldHead(
            self._log_id, self._origin, size, root, note, cosignatures, seen_us, cosigned_us, key
        )
