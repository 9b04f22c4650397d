"""Verifying what a log's entries say about the log itself: keys, redactions and secrets.

Responsible for: the findings that need more than one entry at a time.
Must not know: heads, the tree, or how an entry's bytes are checked (see `entry_checks`).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from ledger.log.commitments import opens
from ledger.log.database import Database
from ledger.log.entries import Entry, parse_entry
from ledger.log.entry_checks import Columns
from ledger.log.errors import KeyChangeInvalid, LedgerError, SecretRefused
from ledger.log.findings import FindingCode, Findings
from ledger.log.opening import History
from ledger.log.own_kinds import OWN_KINDS, Compromised, commitment_in

Erasable = Mapping[str, Sequence[str]]
"""For each kind of entry the fields whose secrets are kept until a redaction erases them."""

NOTHING_ERASABLE: Erasable = MappingProxyType({})

_ROWS_PER_READ = 256
_BEFORE_ALL = -(2**63)


class Watch:
    """Looks at the entries of some kinds as the stream passes them."""

    __slots__ = ("_database", "_erasable", "_findings", "_history", "_own_seqs", "kinds")

    def __init__(
        self, database: Database, history: History, erasable: Erasable, findings: Findings
    ) -> None:
        self._database = database
        self._history = history
        self._erasable = erasable
        self._findings = findings
        self._own_seqs: set[object] = set()
        self.kinds = frozenset({*OWN_KINDS, *erasable})

    def see(self, row: Columns) -> None:
        """Look at one entry whose kind column is one of `kinds`."""
        seq, _, kind, _, raw = row
        if kind in OWN_KINDS:
            self._own_seqs.add(seq)
        entry = _parsed(raw)
        for field in self._erasable.get(kind, ()) if entry else ():
            if (
                entry
                and commitment_in(entry.body, field) is not None
                and (seq, field) not in self._history.redacted
                and self._database.secret(seq, field) is None
            ):
                detail = f"the secret {field} is gone, and no entry says that it was erased"
                self._findings.report(FindingCode.REDACTION_UNLOGGED, detail, seq)

    def finish(self, start: int) -> None:
        """Report entries from `start` on that an index hid from whoever opened the log."""
        expected = {seq for seq in self._history.seqs if seq >= start}
        for seq in sorted(expected ^ self._own_seqs, key=str):
            detail = "the index of the log's entries about itself"
            self._findings.report(FindingCode.INDEX_ALTERED, detail, int(str(seq)))


def report_key_changes(history: History, findings: Findings) -> None:
    """Report rotations that the identity key did not sign."""
    for seq, error in history.problems:
        # Whatever else is wrong with such an entry is found as in every other one.
        if isinstance(error, KeyChangeInvalid):
            findings.report(FindingCode.KEY_CHANGE_INVALID, str(error), seq)


def check_compromised(database: Database, history: History, size: int, findings: Findings) -> None:
    """Report the entries that a key signed after it was in other hands.

    Entries follow each other: once one of them states a time after the compromise, a later one
    under the same key does not become good by stating an earlier time.
    """
    keys = history.identity.keys
    # The last entry under a key is its rotation, which the identity key vouches for.
    ends = [key.first_seq - 1 for key in keys[1:]] + [size]
    for disowned in history.compromised:
        for key, end in zip(keys, ends, strict=True):
            if key.public_key == disowned.public_key:
                first = _first_doubtful(database, disowned, key.first_seq, end)
                if first is not None:
                    detail = f"entries {first} … {end - 1} are signed by a key disowned since then"
                    findings.report(FindingCode.KEY_COMPROMISED, detail, first)


def _first_doubtful(database: Database, disowned: Compromised, start: int, stop: int) -> int | None:
    for first in range(start, stop, _ROWS_PER_READ):
        for columns in database.columns(first, min(first + _ROWS_PER_READ, stop)):
            entry = _parsed(columns[4])
            if entry and entry.time_us >= disowned.since_us:
                return int(columns[0])
    return None


def check_secrets(database: Database, history: History, findings: Findings) -> None:
    """Report secrets that do not open their commitment, and those that outlived a redaction."""
    for seq, field, salt, value in _secrets(database):
        if (seq, field) in history.redacted:
            detail = f"{str(field)[:80]} was redacted and is still stored"
            findings.report(FindingCode.REDACTION_UNDONE, detail, seq)
        elif not _fits(database, seq, field, salt, value):
            detail = f"the secret {str(field)[:80]} is not what the entry commits to"
            number = seq if isinstance(seq, int) else None
            findings.report(FindingCode.COMMITMENT_BROKEN, detail, number)


def _secrets(database: Database) -> Iterator[Columns]:
    seq, field = _BEFORE_ALL, ""
    while rows := database.secrets_after(seq, field, _ROWS_PER_READ):
        yield from rows
        seq, field = rows[-1][:2]


def _fits(database: Database, seq: object, field: object, salt: object, value: object) -> bool:
    match seq, field, salt, value:
        case int(number), str(name), bytes(salt_), bytes(value_):
            rows = database.columns(number, number + 1)
            entry = _parsed(rows[0][4]) if rows else None
            if entry is None:
                # An entry that is damaged is found as such; one that never was has no secrets.
                return bool(rows)
            commitment = commitment_in(entry.body, name)
            try:
                return commitment is None or opens(commitment, name, salt_, value_)
            except SecretRefused:
                return False
        case _:
            return False


def _parsed(raw: object) -> Entry | None:
    try:
        return parse_entry(raw) if isinstance(raw, bytes) else None
    except LedgerError:
        return None
