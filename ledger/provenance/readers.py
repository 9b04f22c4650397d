"""Who may read the entries of a log: decided by kind, the same for every site and every mirror.

The one table that the wire, mirrors and audits ask. A kind that this version does not know leaves
the site only encrypted to itself: what a newer version wrote may be meant for nobody else.
Source: LEDGER.md, Entry kinds."""

from collections.abc import Mapping
from enum import Enum

from ledger.provenance.kinds import (
    GENESIS_KIND,
    AggDone,
    AuditRun,
    CardRenewed,
    ClockAnomaly,
    CodeApproved,
    DatasetRegistered,
    DatasetRevoked,
    ForkFound,
    KeyCompromised,
    KeyRotated,
    LogRecovered,
    ModelAdopted,
    ModelKept,
    ModelReleased,
    NodeOfflineStart,
    PeerHead,
    PeerMisbehaved,
    PolicyChanged,
    PrivacySpent,
    Redacted,
    RosterAccepted,
    RosterChanged,
    RosterClosed,
    RosterProposed,
    RosterSigned,
    RoundSkipped,
    SpendingAccepted,
    SpendingUnknown,
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
    TrainDone,
    UpdatePublished,
    UpdateReceived,
)


class Readers(Enum):
    """Who may read the entries of a kind; everybody else sees leaf hashes only."""

    EVERYONE = "everyone"
    """All members of the roster."""
    STUDY = "study"
    """The members of the study that the entry names in its `study` field."""
    SELF = "self"
    """The site alone: leaves it only encrypted to itself, so that mirrors can give it back."""


READERS: Mapping[str, Readers] = {
    GENESIS_KIND: Readers.EVERYONE,
    RosterChanged.KIND: Readers.EVERYONE,
    RosterProposed.KIND: Readers.EVERYONE,
    RosterSigned.KIND: Readers.EVERYONE,
    RosterAccepted.KIND: Readers.EVERYONE,
    RosterClosed.KIND: Readers.EVERYONE,
    CardRenewed.KIND: Readers.EVERYONE,
    PeerHead.KIND: Readers.EVERYONE,
    ForkFound.KIND: Readers.EVERYONE,
    KeyRotated.KIND: Readers.EVERYONE,
    KeyCompromised.KIND: Readers.EVERYONE,
    ClockAnomaly.KIND: Readers.EVERYONE,
    NodeOfflineStart.KIND: Readers.EVERYONE,
    LogRecovered.KIND: Readers.EVERYONE,
    StudyProposed.KIND: Readers.STUDY,
    StudyApproved.KIND: Readers.STUDY,
    CodeApproved.KIND: Readers.STUDY,
    ModelAdopted.KIND: Readers.STUDY,
    StudyRefused.KIND: Readers.STUDY,
    StudyRevoked.KIND: Readers.STUDY,
    StudyClosed.KIND: Readers.STUDY,
    StudySteered.KIND: Readers.STUDY,
    StudyPaused.KIND: Readers.STUDY,
    StudyResumed.KIND: Readers.STUDY,
    StudyStopped.KIND: Readers.STUDY,
    StudyAway.KIND: Readers.STUDY,
    StudyBack.KIND: Readers.STUDY,
    TrainDone.KIND: Readers.STUDY,
    PrivacySpent.KIND: Readers.STUDY,
    UpdatePublished.KIND: Readers.STUDY,
    UpdateReceived.KIND: Readers.STUDY,
    AggDone.KIND: Readers.STUDY,
    RoundSkipped.KIND: Readers.STUDY,
    ModelKept.KIND: Readers.STUDY,
    ModelReleased.KIND: Readers.STUDY,
    DatasetRegistered.KIND: Readers.SELF,
    DatasetRevoked.KIND: Readers.SELF,
    SpendingUnknown.KIND: Readers.SELF,
    SpendingAccepted.KIND: Readers.SELF,
    PolicyChanged.KIND: Readers.SELF,
    PeerMisbehaved.KIND: Readers.SELF,
    Redacted.KIND: Readers.SELF,
    AuditRun.KIND: Readers.SELF,
}
"""Every kind this version writes; a test fails for one that is missing."""


def readers_of(kind: str) -> Readers:
    """Who may read entries of this kind, `log.genesis` included."""
    return READERS.get(kind, Readers.SELF)
