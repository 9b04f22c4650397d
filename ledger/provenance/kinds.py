"""What the entries of a site's ledger mean: one class per kind.

The place to add a kind: write its class in the `records_*` file of its family, add it to `Record`
here, say in `readers` who may read it, add an audit rule in `rules/`. No personal data and no free
text enters a record: codes, pseudonyms, digests. Digests are 32 raw bytes, ε counts in millionths
rounded up, decimals are text, times are microseconds UTC. A record is checked when it is made
(FieldError) and when it is read (KindError)."""

from collections.abc import Mapping
from typing import get_args

from ledger.log import Entry
from ledger.provenance.fields import FieldError
from ledger.provenance.records_members import (
    CardRenewed,
    RosterAccepted,
    RosterClosed,
    RosterProposed,
    RosterSigned,
)
from ledger.provenance.records_round import (
    AggDone,
    ModelKept,
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
    LogRecovered,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    Redacted,
    RosterChanged,
    SpendingAccepted,
    SpendingUnknown,
)
from ledger.provenance.records_study import (
    CodeApproved,
    CourseWord,
    DatasetRegistered,
    DatasetRevoked,
    ModelAdopted,
    StudyApproved,
    StudyAway,
    StudyBack,
    StudyClosed,
    StudyPaused,
    StudyProposed,
    StudyRefused,
    StudyResumed,
    StudyRevoked,
    StudySteered,
    StudyStopped,
)
from ledger.provenance.terms import (
    AggInput,
    DpTerms,
    InputRef,
    KindError,
    RecordBody,
    UnknownKind,
)

__all__ = [
    "CLASSES",
    "GENESIS_KIND",
    "AggDone",
    "AggInput",
    "AuditRun",
    "CardRenewed",
    "ClockAnomaly",
    "CodeApproved",
    "CourseWord",
    "DatasetRegistered",
    "DatasetRevoked",
    "DpTerms",
    "ForkFound",
    "InputRef",
    "KeyCompromised",
    "KeyRotated",
    "KindError",
    "LogRecovered",
    "ModelAdopted",
    "ModelKept",
    "ModelReleased",
    "NodeOfflineStart",
    "PeerHead",
    "PeerMisbehaved",
    "PolicyChanged",
    "PrivacySpent",
    "Record",
    "Redacted",
    "RosterAccepted",
    "RosterChanged",
    "RosterClosed",
    "RosterProposed",
    "RosterSigned",
    "RoundSkipped",
    "SpendingAccepted",
    "SpendingUnknown",
    "StudyApproved",
    "StudyAway",
    "StudyBack",
    "StudyClosed",
    "StudyPaused",
    "StudyProposed",
    "StudyRefused",
    "StudyResumed",
    "StudyRevoked",
    "StudySteered",
    "StudyStopped",
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
    | CodeApproved
    | ModelAdopted
    | StudyRefused
    | StudyRevoked
    | StudyClosed
    | StudySteered
    | StudyPaused
    | StudyResumed
    | StudyStopped
    | StudyAway
    | StudyBack
    | TrainDone
    | PrivacySpent
    | UpdatePublished
    | UpdateReceived
    | AggDone
    | RoundSkipped
    | ModelKept
    | ModelReleased
    | PeerMisbehaved
    | RosterChanged
    | RosterProposed
    | RosterSigned
    | RosterAccepted
    | RosterClosed
    | CardRenewed
    | PeerHead
    | ForkFound
    | KeyRotated
    | KeyCompromised
    | Redacted
    | PolicyChanged
    | ClockAnomaly
    | NodeOfflineStart
    | AuditRun
    | LogRecovered
    | SpendingUnknown
    | SpendingAccepted
)


CLASSES: Mapping[str, type[Record]] = {cls.KIND: cls for cls in get_args(Record)}


def parse(entry: Entry) -> Record:
    """What an entry says. Raises UnknownKind or KindError, never anything else."""
    cls = CLASSES.get(entry.kind)
    if cls is None:
        raise UnknownKind(entry.seq, entry.kind, "this version knows no such kind")
    body = entry.body
    # Asked by `type`: `isinstance` takes long for what is an abstract class of the library.
    if type(body) is RecordBody and isinstance(body.record, cls):
        return body.record  # it never was bytes: checked when it was made
    try:
        return cls.from_body(entry.body)
    except FieldError as error:
        raise KindError(entry.seq, entry.kind, str(error)) from error
