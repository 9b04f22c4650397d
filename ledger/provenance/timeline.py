"""A log's entries, read and put in order for the rules.

Responsible for looking things up: all records of a kind, the last decision before an entry.
Judges nothing; what cannot be read is kept as a problem."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from ledger.log import Entry, LedgerError, Previous
from ledger.log.genesis import parse_genesis
from ledger.provenance.kinds import (
    GENESIS_KIND,
    DatasetRegistered,
    DatasetRevoked,
    KindError,
    Record,
    StudyApproved,
    StudyClosed,
    StudyRefused,
    StudyRevoked,
    parse,
)

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

Decision: TypeAlias = StudyApproved | StudyRefused | StudyRevoked | StudyClosed
"""What changes whether a study may train here; the last one counts."""
Standing: TypeAlias = DatasetRegistered | DatasetRevoked
"""What changes whether a dataset may be used; the last one counts."""


@dataclass(frozen=True, slots=True)
class Logged(Generic[R_co]):
    """A record and where it stands in the log."""

    seq: int
    time_us: int
    actor: str
    record: R_co


class Timeline:
    """Everything an audit knows from the entries. Does not change once built."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.size = 0
        self.log_id = b""
        self.first_us = 0
        self.last_us = 0
        self.leaves: list[bytes] = []
        self.previous: Logged[Previous] | None = None
        """The log that this one goes on from, as its first entry says."""
        self.times: dict[int, int] = {}
        """µs UTC by entry number, in the log's order."""
        self.problems: list[KindError] = []
        self.unreadable: LedgerError | None = None
        self.logged: list[Logged[Record]] = []
        self._by_kind: dict[type[Any], list[Logged[Any]]] = defaultdict(list)
        self._decisions: dict[bytes, list[Logged[Decision]]] = defaultdict(list)
        self._standings: dict[bytes, list[Logged[Standing]]] = defaultdict(list)
        try:
            for entry in entries:
                self._add(entry)
        except LedgerError as error:  # the store met damage while reading on
            self.unreadable = error

    def _add(self, entry: Entry) -> None:
        if not self.size:
            self.log_id, self.first_us = entry.log_id, entry.time_us
        self.size += 1
        self.leaves.append(entry.leaf)
        self.times[entry.seq] = entry.time_us
        self.last_us = entry.time_us
        if entry.kind == GENESIS_KIND and entry.seq == 0:
            self.previous = _goes_on_from(entry)
            return
        try:
            record = parse(entry)
        except KindError as problem:
            self.problems.append(problem)
            return
        logged = Logged(entry.seq, entry.time_us, entry.actor, record)
        self.logged.append(logged)
        self._by_kind[type(record)].append(logged)
        match record:
            case StudyApproved() | StudyRefused() | StudyRevoked() | StudyClosed():
                decided: Logged[Decision] = Logged(entry.seq, entry.time_us, entry.actor, record)
                self._decisions[record.study].append(decided)
            case DatasetRegistered() | DatasetRevoked():
                stands: Logged[Standing] = Logged(entry.seq, entry.time_us, entry.actor, record)
                self._standings[record.ds].append(stands)
            case _:
                pass  # other kinds are looked up by kind alone

    def of(self, kind: type[R]) -> tuple[Logged[R], ...]:
        """All records of a kind, in the log's order."""
        return tuple(self._by_kind.get(kind, ()))

    def at(self, seq: int, kind: type[R]) -> Logged[R] | None:
        """The record of a kind at a place in the log."""
        found = self._by_kind.get(kind, [])
        place = bisect_left(found, seq, key=_seq)
        return found[place] if place < len(found) and found[place].seq == seq else None

    def decision_before(self, study: bytes, seq: int) -> Logged[Decision] | None:
        """What the site had last decided on a study."""
        return _last_before(self._decisions.get(study, []), seq)

    def approval_before(self, study: bytes, seq: int) -> Logged[StudyApproved] | None:
        """The newest approval of a study, taken back since or not."""
        return _last_before([x for x in self.of(StudyApproved) if x.record.study == study], seq)

    def standing_before(self, ds: bytes, seq: int) -> Logged[Standing] | None:
        """Whether a dataset was registered or revoked last."""
        return _last_before(self._standings.get(ds, []), seq)

    def registration_before(self, ds: bytes, seq: int) -> Logged[DatasetRegistered] | None:
        """The newest registration of a dataset, revoked since or not."""
        return _last_before([x for x in self.of(DatasetRegistered) if x.record.ds == ds], seq)


def _goes_on_from(entry: Entry) -> Logged[Previous] | None:
    try:
        previous = parse_genesis(entry.raw).previous
    except LedgerError:
        return None  # the log's own verification tells of it
    return Logged(entry.seq, entry.time_us, entry.actor, previous) if previous else None


def _seq(logged: Logged[Any]) -> int:
    return logged.seq


def _last_before(found: list[Logged[R]], seq: int) -> Logged[R] | None:
    place = bisect_left(found, seq, key=_seq)
    return found[place - 1] if place else None
