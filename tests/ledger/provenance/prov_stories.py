"""A log told as a list of records: how to write it for real, audit it, and tell it wrongly.

Entry numbers are known beforehand: record i is entry i + 1, after the genesis entry."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ledger.log import ExitCode, Log, LogReader, SigCheck, Signer, verify_log
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import AuditContext, DpEvent
from ledger.provenance.kinds import AggDone, ClockAnomaly, DpTerms, Record, UpdatePublished

START_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
MICRO = 1_000_000
ME = hashlib.sha256(b"site 0").digest()
PEERS = tuple(hashlib.sha256(b"site %d" % number).digest() for number in range(1, 5))
NAMES = {ME: "Basel", **dict(zip(PEERS, ("Bern", "Chur", "Genf", "Zug"), strict=True))}


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def epsilon_of(events: Sequence[DpEvent], delta: float) -> float:
    """ε by zero-concentrated privacy: simple, monotone, an upper bound for full batches.

    Source: Bun and Steinke 2016, Proposition 1.3."""
    rho = sum(event.steps * (event.q / event.sigma) ** 2 / 2 for event in events)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def epsilon_u(terms: Sequence[DpTerms], delta: str) -> int:
    events = [
        DpEvent(dp.mech, float(dp.sigma), float(dp.q), dp.steps)
        for dp in terms
        if dp.mech != "none"
    ]
    return math.ceil(epsilon_of(events, float(delta)) * MICRO)


@dataclass(frozen=True, slots=True)
class Told:
    """One record with its time."""

    record: Record
    time_us: int


@dataclass(frozen=True, slots=True)
class Story:
    """The records of one log, in order."""

    told: tuple[Told, ...]

    def place(self, kind: type[Record], nth: int = 0) -> int:
        """Where the nth record of a kind stands (negative: from the end)."""
        return [at for at, told in enumerate(self.told) if type(told.record) is kind][nth]

    def seq(self, kind: type[Record], nth: int = 0) -> int:
        """Its entry number."""
        return self.place(kind, nth) + 1

    def record(self, kind: type[Record], nth: int = 0) -> Any:
        return self.told[self.place(kind, nth)].record

    def change(self, kind: type[Record], nth: int = 0, **changes: object) -> "Story":
        """The same story with one record told differently."""
        return self.instead(kind, nth, replace(self.record(kind, nth), **changes))

    def instead(self, kind: type[Record], nth: int, record: Record) -> "Story":
        """The same story with another record in one place."""
        place = self.place(kind, nth)
        told = replace(self.told[place], record=record)
        return Story((*self.told[:place], told, *self.told[place + 1 :]))

    def leave_out(self, kind: type[Record], nth: int = 0) -> "Story":
        """The same story without one record; its place is taken by a harmless one."""
        return self.instead(kind, nth, ClockAnomaly(1))

    def insert(self, place: int, record: Record) -> "Story":
        """The same story with one record more; references to later entries move along."""
        told = Told(record, self.told[min(place, len(self.told) - 1)].time_us)
        moved = tuple(replace(x, record=_moved(x.record, place + 1)) for x in self.told)
        return Story((*moved[:place], told, *moved[place:]))

    def add(self, record: Record) -> "Story":
        return Story((*self.told, Told(record, self.told[-1].time_us)))

    def delay(self, kind: type[Record], nth: int, by_us: int) -> "Story":
        """The same story with everything from one record on happening later."""
        place = self.place(kind, nth)
        later = tuple(replace(x, time_us=x.time_us + by_us) for x in self.told[place:])
        return Story((*self.told[:place], *later))


def _moved(record: Record, seq: int) -> Record:
    match record:
        case UpdatePublished(train_seq=train_seq) if train_seq >= seq:
            return replace(record, train_seq=train_seq + 1)
        case AggDone(own=own) if own.seq >= seq:
            return replace(record, own=replace(own, seq=own.seq + 1))
        case _:
            return record


def write(home: Path, story: Story) -> Path:
    """A real log with this story; records of the same time share a commit."""
    log = Log.create(
        home,
        deployment="test",
        identity=Signer(digest("identity")),
        log=Signer(digest("log")),
        witness_pk=Signer(digest("witness")).public_key,
        nonce=digest("nonce"),
        now_us=START_US,
    )
    try:
        told = list(story.told)
        while told:
            now_us = told[0].time_us
            count = next((i for i, x in enumerate(told) if x.time_us != now_us), len(told))
            log.append([x.record.draft("node") for x in told[:count]], now_us)
            del told[:count]
    finally:
        log.close()
    return home


def context_of(home: Path, **changes: Any) -> AuditContext:
    """What an audit of a home written here needs."""
    verification = verify_log(home, sigs=SigCheck.ALL)
    context = AuditContext(
        site=ME, verification=verification, now_us=START_US + 400 * DAY_US, names=NAMES
    )
    return replace(context, **changes)


def audited(home: Path, story: Story, **changes: Any) -> AuditReport:
    """Write the story and audit it."""
    write(home, story)
    replay = changes.pop("replay", None)
    accountant = changes.pop("epsilon_of", epsilon_of)
    context = context_of(home, **changes)
    reader = LogReader.open(home)
    try:
        return audit(reader.entries(), context, epsilon_of=accountant, replay=replay)
    finally:
        reader.close()


def codes(report: AuditReport) -> set[str]:
    return {found.code for found in report.findings}


def is_clean(report: AuditReport) -> bool:
    return report.exit_code is ExitCode.CLEAN and not report.findings
