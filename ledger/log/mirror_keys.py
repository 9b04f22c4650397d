"""Which logs are mirrored, and under which keys: from the roster, and from their own rotations.

Responsible for: a log's number in the tables, the key in force at a size, and the entries that
prove a change of keys.
Must not know: heads, trees, or what the keys sign.
"""

from collections.abc import Mapping

from ledger.log.entries import parse_entry
from ledger.log.errors import LedgerError
from ledger.log.genesis import parse_genesis
from ledger.log.identity import LogId
from ledger.log.mirror_errors import LogUnknown, MirrorFull, RotationRefused
from ledger.log.mirror_tables import MirrorTables, Row
from ledger.log.notes import KeyType, VerifierKey
from ledger.log.own_kinds import is_log_rotation, rotated

_KEYS_PER_LOG_MAX = 16


class MirrorKeys:
    """The logs of the roster and their keys."""

    __slots__ = ("_tables", "_witnessed")

    def __init__(self, tables: MirrorTables) -> None:
        self._tables = tables
        self._witnessed: frozenset[LogId] = frozenset()

    def set_logs(self, keys: Mapping[LogId, VerifierKey], logs_max: int) -> None:
        """Whom to witness from now on. Logs that are left out stay readable."""
        with self._tables.transaction():
            for log_id, key in sorted(keys.items()):
                self._add(log_id, key, logs_max)
        self._witnessed = frozenset(keys)

    def _add(self, log_id: LogId, key: VerifierKey, logs_max: int) -> None:
        known = {log for log, _ in self.logs()}
        if log_id not in known:
            if len(known) >= logs_max:
                raise MirrorFull("logs", expected=f"at most {logs_max}")
            self._tables.write("INSERT INTO log(log_id, origin) VALUES (?, ?)", log_id, key.name)
        number = self.number(log_id)
        if key not in self.keys(number):
            # A key that the roster changed by itself counts for heads not heard of so far.
            row = self._tables.one("SELECT max(size) FROM head WHERE log = ?", number)
            first_size = 0 if row is None or row[0] is None else int(row[0]) + 1
            self._put(number, first_size, key, b"")

    def _put(self, number: int, first_size: int, key: VerifierKey, rotation: bytes) -> None:
        if len(self.keys(number)) >= _KEYS_PER_LOG_MAX:
            raise MirrorFull("keys", expected=f"at most {_KEYS_PER_LOG_MAX}")
        self._tables.write(
            """INSERT OR REPLACE INTO log_key(log, first_size, vkey, rotation)
            VALUES (?, ?, ?, ?)""",
            number,
            first_size,
            str(key),
            rotation,
        )

    def logs(self) -> list[tuple[LogId, str]]:
        """(log id, origin) of every log that anything is held of, by log id."""
        rows = self._tables.all("SELECT log_id, origin FROM log ORDER BY log_id")
        return [(LogId(log_id), origin) for log_id, origin in rows]

    def number(self, log_id: bytes) -> int:
        """A log's number in the tables. Raises LogUnknown."""
        return int(self._row(log_id)[0])

    def origin(self, log_id: bytes) -> str:
        """A log's name. Raises LogUnknown."""
        return str(self._row(log_id)[1])

    def _row(self, log_id: bytes) -> Row:
        row = self._tables.one("SELECT id, origin FROM log WHERE log_id = ?", log_id)
        if row is None:
            raise LogUnknown(actual=log_id)
        return row

    def witnessed(self, origin: str) -> LogId | None:
        """The log called `origin` if the roster says to witness it."""
        row = self._tables.one("SELECT log_id FROM log WHERE origin = ?", origin)
        return LogId(row[0]) if row and row[0] in self._witnessed else None

    def keys(self, number: int) -> tuple[VerifierKey, ...]:
        """Every key the log was known under, oldest first."""
        rows = self._tables.all(
            "SELECT vkey FROM log_key WHERE log = ? ORDER BY first_size", number
        )
        return tuple(VerifierKey.parse(vkey) for (vkey,) in rows)

    def key_at(self, number: int, size: int) -> VerifierKey | None:
        """The key that signs the head of `size`."""
        row = self._tables.one(
            """SELECT vkey FROM log_key WHERE log = ? AND first_size <= ?
            ORDER BY first_size DESC LIMIT 1""",
            number,
            size,
        )
        return VerifierKey.parse(row[0]) if row else None

    def lineage(self, number: int) -> tuple[bytes, ...]:
        """The raw genesis entry and rotations held of a log; empty without the genesis entry."""
        genesis = self._tables.one(
            "SELECT data FROM entry WHERE log = ? AND seq = 0 AND form = 'plain'", number
        )
        if genesis is None:
            return ()
        rotations = self._tables.all(
            "SELECT rotation FROM log_key WHERE log = ? AND rotation <> x'' ORDER BY first_size",
            number,
        )
        return (genesis[0], *(raw for (raw,) in rotations))

    def admit_rotation(self, log_id: LogId, raw: bytes) -> VerifierKey:
        """Take over a log's new key from its entry `key.rotated`, signed by the identity key.

        The genesis entry must be held (it names the identity key). Returns the new key.
        Raises: LogUnknown, RotationRefused, MirrorFull.
        """
        number = self.number(log_id)
        lineage = self.lineage(number)
        if not lineage:
            raise RotationRefused("the genesis entry is not held yet")
        try:
            identity = parse_genesis(lineage[0])
            for known in lineage[1:]:
                entry = parse_entry(known)
                identity = rotated(identity, entry.seq, entry.body)
            entry = parse_entry(raw)
            if entry.log_id != log_id or not is_log_rotation(entry.kind, entry.body):
                raise RotationRefused(actual=entry.kind)
            if raw in lineage:
                return identity.verifier_key
            identity = rotated(identity, entry.seq, entry.body)
        except LedgerError as error:
            raise RotationRefused(str(error)) from error
        key = VerifierKey(identity.origin, KeyType.ED25519, identity.log_pk)
        self._put(number, entry.seq + 1, key, raw)
        return key
