"""What the entries of a site's ledger mean: one class per kind, and who may read each.

The place to add a kind: write its class in the `records_*` file of its family, add it to `Record`
and to `READERS` here, add an audit rule in `rules/`. No personal data and no free text enters a
record: codes, pseudonyms, digests. Digests are 32 raw bytes, ε counts in millionths rounded up,
decimals are text, times are microseconds UTC. A record is checked when it is made (FieldError)
and when it is read (KindError)."""

from collections.abc import Mapping
from enum import Enum
from typing import get_args

from ledger.log import Entry
from ledger.provenance.fields import FieldError
from ledger.provenance.records_round import (
    AggDone,
    ModelReleased,
    PrivacySpent,
    RoundSkipped,
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.records_site import (
    AuditRun,
    ClockAnomaly,
    ForkFound,
    KeyCompromised,
    KeyRotated,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    Redacted,
    RosterChanged,
)
from ledger.provenance.records_study import (
    DatasetRegistered,
    DatasetRevoked,
    StudyApproved,
    StudyClosed,
    StudyProposed,
    StudyRefused,
    StudyRevoked,
    StudySteered,
)
from ledger.provenance.terms import AggInput, DpTerms, InputRef, KindError, UnknownKind

__all__ = [
    "CLASSES",
    "GENESIS_KIND",
    "READERS",
    "AggDone",
    "AggInput",
    "AuditRun",
    "ClockAnomaly",
    "DatasetRegistered",
    "DatasetRevoked",
    "DpTerms",
    "ForkFound",
    "InputRef",
    "KeyCompromised",
    "KeyRotated",
    "KindError",
    "ModelReleased",
    "NodeOfflineStart",
    "PeerHead",
    "PeerMisbehaved",
    "PolicyChanged",
    "PrivacySpent",
    "Readers",
    "Record",
    "Redacted",
    "RosterChanged",
    "RoundSkipped",
    "StudyApproved",
    "StudyClosed",
    "StudyProposed",
    "StudyRefused",
    "StudyRevoked",
    "StudySteered",
    "TrainDone",
    "UnknownKind",
    "UpdatePublished",
    "UpdateReceived",
    "parse",
]

GENESIS_KIND = "log.genesis"
"""The first entry of every log. Its body belongs to `ledger.log`, so `parse` refuses it."""


Record = (
    DatasetRegistered
    | DatasetRevoked
    | StudyProposed
    | StudyApproved
    | StudyRefused
    | StudyRevoked
    | StudyClosed
    | StudySteered
    | TrainDone
    | PrivacySpent
    | UpdatePublished
    | UpdateReceived
    | AggDone
    | RoundSkipped
    | ModelReleased
    | PeerMisbehaved
    | RosterChanged
    | PeerHead
    | ForkFound
    | KeyRotated
    | KeyCompromised
    | Redacted
    | PolicyChanged
    | ClockAnomaly
    | NodeOfflineStart
    | AuditRun
)


class Readers(Enum):
    """Who may read the entries of a kind; everybody else sees leaf hashes only."""

    EVERYONE = "everyone"
    STUDY_MEMBERS = "study_members"
    SITE_ONLY = "site_only"
    """Leaves the site only encrypted to itself, so that mirrors can restore it."""


READERS: Mapping[str, Readers] = {
    GENESIS_KIND: Readers.EVERYONE,
    DatasetRegistered.KIND: Readers.SITE_ONLY,
    DatasetRevoked.KIND: Readers.SITE_ONLY,
    StudyProposed.KIND: Readers.STUDY_MEMBERS,
    StudyApproved.KIND: Readers.STUDY_MEMBERS,
    StudyRefused.KIND: Readers.STUDY_MEMBERS,
    StudyRevoked.KIND: Readers.STUDY_MEMBERS,
    StudyClosed.KIND: Readers.STUDY_MEMBERS,
    StudySteered.KIND: Readers.STUDY_MEMBERS,
    TrainDone.KIND: Readers.STUDY_MEMBERS,
    PrivacySpent.KIND: Readers.STUDY_MEMBERS,
    UpdatePublished.KIND: Readers.STUDY_MEMBERS,
    UpdateReceived.KIND: Readers.STUDY_MEMBERS,
    AggDone.KIND: Readers.STUDY_MEMBERS,
    RoundSkipped.KIND: Readers.STUDY_MEMBERS,
    ModelReleased.KIND: Readers.STUDY_MEMBERS,
    PeerMisbehaved.KIND: Readers.SITE_ONLY,
    RosterChanged.KIND: Readers.EVERYONE,
    PeerHead.KIND: Readers.EVERYONE,
    ForkFound.KIND: Readers.EVERYONE,
    KeyRotated.KIND: Readers.EVERYONE,
    KeyCompromised.KIND: Readers.EVERYONE,
    Redacted.KIND: Readers.SITE_ONLY,
    PolicyChanged.KIND: Readers.SITE_ONLY,
    ClockAnomaly.KIND: Readers.EVERYONE,
    NodeOfflineStart.KIND: Readers.EVERYONE,
    AuditRun.KIND: Readers.SITE_ONLY,
}

CLASSES: Mapping[str, type[Record]] = {cls.KIND: cls for cls in get_args(Record)}


def parse(entry: Entry) -> Record:
    """What an entry says. Raises UnknownKind or KindError, never anything else."""
    cls = CLASSES.get(entry.kind)
    if cls is None:
        raise UnknownKind(entry.seq, entry.kind, "this version knows no such kind")
    try:
        return cls.from_body(entry.body)
    except FieldError as error:
        raise KindError(entry.seq, entry.kind, str(error)) from error
