"""Cosignatures that other sites gave for this site's own heads.

Responsible for: the newest of each witness for each head, in bounded number.
Must not know: the own log, or whether the lines verify (whoever puts them has checked).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ledger.log.mirror_tables import MirrorTables
from ledger.log.notes import stated_in


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One witness's line over one head. time_s: what it states, unix time."""

    witness: str
    key_id: bytes
    time_s: int
    line: bytes


@dataclass(frozen=True, slots=True)
class OwnHead:
    """An own head and who cosigned it, by name."""

    size: int
    root: bytes
    cosignatures: tuple[Cosignature, ...]

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The signature lines, to put under the head's note."""
        return tuple(cosignature.line for cosignature in self.cosignatures)


class OwnCosignatures:
    """The table `own_cosignature`."""

    __slots__ = ("_heads_max", "_tables")

    def __init__(self, tables: MirrorTables, heads_max: int) -> None:
        self._tables = tables
        self._heads_max = heads_max

    def put(self, size: int, root: bytes, line: bytes, time_s: int) -> None:
        """Keep a line; an older one of the same witness and head gives way."""
        name, key_id, _ = stated_in(line)
        with self._tables.transaction():
            self._tables.write(
                """INSERT INTO own_cosignature(size, root, name, key_id, time_s, line)
                VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                SET root = excluded.root, time_s = excluded.time_s, line = excluded.line
                WHERE excluded.time_s >= time_s""",
                size,
                root,
                name,
                key_id,
                time_s,
                line,
            )
            sizes = self._sizes()
            if len(sizes) > self._heads_max:
                # Every second one of the older half: bounds in time grow coarser with age.
                for old in sizes[1 : self._heads_max // 2 : 2]:
                    self._tables.write("DELETE FROM own_cosignature WHERE size = ?", old)

    def newest(self) -> OwnHead | None:
        """The largest head that has a cosignature."""
        sizes = self._sizes()
        return self._at(sizes[-1]) if sizes else None

    def all(self) -> Iterator[OwnHead]:
        """Every head that has one, smallest first."""
        return map(self._at, self._sizes())

    def _sizes(self) -> list[int]:
        rows = self._tables.all("SELECT DISTINCT size FROM own_cosignature ORDER BY size")
        return [size for (size,) in rows]

    def _at(self, size: int) -> OwnHead:
        rows = self._tables.all(
            """SELECT root, name, key_id, time_s, line FROM own_cosignature
            WHERE size = ? ORDER BY name, key_id""",
            size,
        )
        return OwnHead(size, rows[0][0], tuple(Cosignature(*row[1:]) for row in rows))
