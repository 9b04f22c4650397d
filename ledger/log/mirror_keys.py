"""Which logs are mirrored, and under which keys: from the roster, and from their own rotations.

Responsible for: a log's number in the tables, the key in force at a size, and the entries that
prove a change of keys.
Must not know: heads, trees, or what the keys sign.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.log.entries import parse_entry, verify_entry
from ledger.log.errors import LedgerError
from ledger.log.genesis import parse_genesis
from ledger.log.identity import LogId, LogIdentity
from ledger.log.mirror_errors import LogUnknown, MirrorFull, RotationRefused
from ledger.log.mirror_tables import MirrorTables, Row
from ledger.log.notes import KeyType, VerifierKey
from ledger.log.own_kinds import (
    Compromised,
    changes_keys,
    compromised_by,
    follow,
    identity_from,
    is_log_rotation,
)

_KEYS_PER_LOG_MAX = 16
_LINEAGE_ENTRIES_MAX = 4 * _KEYS_PER_LOG_MAX


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

    def told_lineage(self, number: int) -> tuple[bytes, ...]:
        """The genesis entry and everything held that changed the log's keys, by entry number."""
        lineage = self.lineage(number)
        rows = self._tables.all(
            """SELECT raw FROM disowned WHERE log = ?
            UNION ALL SELECT raw FROM witness_change WHERE log = ?""",
            number,
            number,
        )
        changes = [*lineage[1:], *(raw for (raw,) in rows)]
        return (*lineage[:1], *sorted(changes, key=lambda raw: parse_entry(raw).seq))

    def identity(self, number: int) -> LogIdentity | None:
        """The log's own, as far as its genesis entry and changes of keys are held."""
        return identity_from(self.told_lineage(number))

    def in_force(self, number: int) -> tuple[tuple[int, VerifierKey], ...]:
        """(smallest size, key that signs heads from that size on), ascending."""
        rows = self._tables.all(
            "SELECT first_size, vkey FROM log_key WHERE log = ? ORDER BY first_size", number
        )
        return tuple((first_size, VerifierKey.parse(vkey)) for first_size, vkey in rows)

    def disowned(self, number: int) -> Mapping[bytes, int]:
        """Log keys that somebody else may have, and since when, in µs UTC."""
        return dict(
            self._tables.all("SELECT public_key, since_us FROM disowned WHERE log = ?", number)
        )

    def admit_lineage(self, log_id: LogId, entries: Sequence[bytes]) -> bool:
        """Take over a log's keys from its genesis entry and the entries that changed them, raw.

        Whoever brings them: each is signed by the log key of its time, and each new key by the
        identity key. True if anything in them was new.
        Raises: LogUnknown, RotationRefused, MirrorFull.
        """
        number = self.number(log_id)
        held = self.told_lineage(number)
        try:
            proven = _proven(log_id, {parse_entry(raw).seq: raw for raw in held}, entries)
        except LedgerError as error:
            raise RotationRefused(str(error)) from error
        identity = proven.identity
        if max(len(identity.keys), len(identity.witnesses)) > _KEYS_PER_LOG_MAX:
            raise MirrorFull("keys", expected=f"at most {_KEYS_PER_LOG_MAX}")
        if proven.entries == held:
            return False
        with self._tables.transaction():
            self._replace(number, proven)
        return True

    def _replace(self, number: int, proven: "_Proven") -> None:
        self._tables.write(
            "INSERT OR REPLACE INTO entry(log, seq, form, data) VALUES (?, 0, 'plain', ?)",
            number,
            proven.entries[0],
        )
        for key in proven.identity.keys:
            named = VerifierKey(proven.identity.origin, KeyType.ED25519, key.public_key)
            self._tables.write("DELETE FROM log_key WHERE log = ? AND vkey = ?", number, str(named))
            self._put(number, key.first_seq, named, proven.rotations.get(key.public_key, b""))
        for disowned, raw in proven.disowned:
            self._tables.write(
                """INSERT OR REPLACE INTO disowned(log, public_key, since_us, raw)
                VALUES (?, ?, ?, ?)""",
                number,
                disowned.public_key,
                disowned.since_us,
                raw,
            )
        for seq, raw in proven.witness_changes:
            self._tables.write(
                "INSERT OR REPLACE INTO witness_change(log, seq, raw) VALUES (?, ?, ?)",
                number,
                seq,
                raw,
            )


@dataclass(frozen=True, slots=True)
class _Proven:
    """What a log's own entries prove of its keys. rotations: by the log key they put in force.
    witness_changes: (entry number, raw) of those about keys with which its site cosigns."""

    identity: LogIdentity
    entries: tuple[bytes, ...]
    rotations: Mapping[bytes, bytes]
    disowned: tuple[tuple[Compromised, bytes], ...]
    witness_changes: tuple[tuple[int, bytes], ...]


def _proven(log_id: LogId, held: Mapping[int, bytes], told: Sequence[bytes]) -> _Proven:
    """The keys of a log, after the entries that are held and those that are told.

    Raises: a LedgerError naming what does not hold.
    """
    known = dict(held)
    for raw in told[:_LINEAGE_ENTRIES_MAX]:
        seq = parse_entry(raw).seq
        if known.setdefault(seq, raw) != raw:
            raise RotationRefused(f"entry {seq} is held as another one")
    entries = tuple(known[seq] for seq in sorted(known))
    if not entries:
        raise RotationRefused("the genesis entry is missing")
    identity = parse_genesis(entries[0])
    if identity.log_id != log_id:
        raise RotationRefused("the genesis entry", expected=log_id, actual=identity.log_id)
    rotations, disowned = dict[bytes, bytes](), list[tuple[Compromised, bytes]]()
    witness_changes: list[tuple[int, bytes]] = []
    for raw in entries[1:]:
        entry = parse_entry(raw)
        verify_entry(entry, identity)
        identity = follow(identity, entry)
        if not changes_keys(identity, entry):
            raise RotationRefused(f"entry {entry.seq} changes no key", actual=entry.kind)
        if is_log_rotation(entry.kind, entry.body):
            rotations[identity.log_pk] = raw
        elif lost := compromised_by(identity, entry):
            disowned.append((lost, raw))
        else:
            witness_changes.append((entry.seq, raw))
    return _Proven(identity, entries, rotations, tuple(disowned), tuple(witness_changes))
