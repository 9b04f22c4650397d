"""What the own ledger says: the fold from which every restart begins.

ε spent and the status of a study are never stored elsewhere (invariant 1). The same `apply` runs
over the entries read at start-up, over those the node appends and over those that a person's
command appends, so the three can never disagree."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from gossip.pause_messages import Pause
from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId
from p2pfl.core.pause_words import PAUSE_OF, PauseWord

PACES_KEPT = 17
"""Newest rounds of a study whose times are remembered: one more than are learnt from."""
COMPLETE = "complete"
"""The reason of a close after the last round; every other one is a site leaving early."""
STARTING = frozenset((kinds.StudyApproved.KIND, kinds.StudyBack.KIND))
"""Entries by which this site takes part in a study, and in whose name the study writes then."""
DECIDING = STARTING.union(
    kind.KIND
    for kind in (kinds.StudyAway, kinds.StudyRefused, kinds.StudyRevoked, kinds.StudyClosed)
)
"""Entries that change whether it does."""


class Standing(Enum):
    """What this site's own decisions say about a study."""

    UNDECIDED = "undecided"
    APPROVED = "approved"
    AWAY = "away"
    """Approved, but people here take this site out of it for a while."""
    REFUSED = "refused"
    REVOKED = "revoked"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Published:
    """An own update that may be released: it is on record."""

    model: ModelHash
    size_bytes: int
    train_seq: int
    seq: int
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Steering:
    """Training arguments that differ from the manifest, from a round on."""

    round: Round
    changes: tuple[tuple[str, str], ...]
    """(argument, number as text), names ascending."""


@dataclass(frozen=True, slots=True)
class RoundPace:
    """When a round was closed here, µs UTC, and whose updates of that round had come by then."""

    round: Round
    closed_us: int
    heard: tuple[bytes, ...] = ()


@dataclass(slots=True)
class StudyHistory:
    """One study, as recorded here."""

    standing: Standing = Standing.UNDECIDED
    proposer: bytes = b""
    approval: kinds.StudyApproved | None = None
    code: kinds.CodeApproved | None = None
    """Beside the approval, where the study runs a researcher's own code."""
    approved_seq: int = -1
    approved_leaf: bytes = b""
    """The entry by which this site takes part: its approval, or its return."""
    decision_seq: int = -1
    decision_leaf: bytes = b""
    decided_us: int = 0
    approved_us: int = 0
    trained: dict[Round, kinds.TrainDone] = field(default_factory=dict)
    trainings: int = 0
    """Private rounds spent under the present approval, released or not."""
    published: dict[Round, Published] = field(default_factory=dict)
    received: dict[tuple[Round, bytes], kinds.UpdateReceived] = field(default_factory=dict)
    """(round, sender) → what was put on record first."""
    averaged: dict[Round, ModelHash] = field(default_factory=dict)
    newest_average: kinds.AggDone | None = None
    skipped: set[Round] = field(default_factory=set)
    paces: deque[RoundPace] = field(default_factory=lambda: deque(maxlen=PACES_KEPT))
    """Of the newest rounds, in order."""
    kept: kinds.ModelKept | None = None
    """The average that was best on the own hold-out so far, where the study keeps that one."""
    released: ModelHash | None = None
    closed_reason: str = ""
    eps_u: int = 0
    steerings: list[Steering] = field(default_factory=list)
    """In the order in which they were recorded; each one stands for all before it."""
    steered_seq: int = -1
    """The newest steering's entry in the proposer's log."""
    steered_leaf: bytes = b""
    """The newest own entry about it."""
    pause: PauseWord | None = None
    pause_words: int = 0
    """How often it was paused, resumed or stopped, on record here."""

    @property
    def is_reserved(self) -> bool:
        """Whether the approval holds, though this site may be away."""
        return self.standing in (Standing.APPROVED, Standing.AWAY)

    @property
    def is_paused(self) -> bool:
        """Whether the proposer's last word is a pause, perhaps from a later round on."""
        return self.pause is not None and self.pause.state is Pause.PAUSED

    @property
    def is_stopped(self) -> bool:
        """Whether the proposer ended the study early; no later word changes that."""
        return self.pause is not None and self.pause.state is Pause.STOPPED

    def is_paused_at(self, round_: int) -> bool:
        """Whether the proposer paused the study from this round, or an earlier one, on."""
        return self.pause is not None and self.is_paused and self.pause.round <= round_

    @property
    def is_held_up(self) -> bool:
        """Whether the study is paused, and not over at this site for another reason."""
        return self.is_paused and self.standing in (Standing.UNDECIDED, Standing.APPROVED)

    def steering_at(self, round_: int) -> tuple[tuple[str, str], ...]:
        """The arguments that differ from the manifest when this round is trained here."""
        begun = [steering for steering in self.steerings if steering.round <= round_]
        return begun[-1].changes if begun else ()

    @property
    def is_complete(self) -> bool:
        """Whether the study came to its end here, every round behind it."""
        return self.standing is Standing.CLOSED and self.closed_reason == COMPLETE


@dataclass(slots=True)
class DatasetHistory:
    """One registered dataset and what was spent on it."""

    terms: kinds.DatasetRegistered
    revoked: bool = False
    spent_u: int = 0
    """ε of everything that was trained on it, in micro-units, rounded up."""
    known_u: int = -1
    """While it is unknown what was spent, and `spent_u` the whole cap: what is known; else −1."""

    @property
    def is_unknown(self) -> bool:
        """Whether the data manager has to decide how much was spent."""
        return self.known_u >= 0


class History:
    """Fold of the own ledger. Mutable, but changed by `apply` alone."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.size = 0
        self.studies: dict[StudyId, StudyHistory] = {}
        self.datasets: dict[DatasetId, DatasetHistory] = {}
        self.received_leaves: dict[bytes, tuple[StudyId, Round, bytes]] = {}
        """Entry of another log → the one update that it stands for: study, round, sender."""
        self.misbehaved: dict[tuple[bytes, str], int] = {}
        """(site, broken rule) → the largest count on record."""
        self.forks: dict[bytes, str] = {}
        """Log → form of the first proof on record that it has two histories."""
        self.false_witnesses: set[bytes] = set()
        """Sites that are proved, on record, to have cosigned two histories of a log."""
        for entry in entries:
            self.apply(entry)

    def study(self, study: StudyId) -> StudyHistory:
        """The history of a study; empty where nothing is recorded yet."""
        found = self.studies.get(study)
        if found is None:
            found = self.studies[study] = StudyHistory()
        return found

    def apply(self, entry: Entry) -> None:
        """Take one more entry into account. Entries come in the log's order, each once."""
        if entry.seq < self.size:
            return
        self.size = entry.seq + 1
        if entry.kind == kinds.GENESIS_KIND:
            return
        record = kinds.parse(entry)
        match record:
            case kinds.DatasetRegistered():
                self._register(record)
            case kinds.DatasetRevoked(ds=ds):
                self._revoke_dataset(DatasetId(ds))
            case (
                kinds.StudyApproved()
                | kinds.StudyRefused()
                | kinds.StudyRevoked()
                | kinds.StudyClosed()
            ):
                self._decide(record, entry)
            case kinds.StudyAway(study=study) | kinds.StudyBack(study=study):
                self._turn(self.study(StudyId(study)), isinstance(record, kinds.StudyBack), entry)
            case _:
                self._advance(record, entry)

    def _advance(self, record: kinds.Record, entry: Entry) -> None:
        """What a study's rounds leave behind; other kinds change neither budgets nor studies."""
        match record:
            case kinds.CodeApproved(study=study):
                self.study(StudyId(study)).code = record
            case kinds.StudyProposed(study=study, proposer=proposer):
                self.study(StudyId(study)).proposer = proposer
            case kinds.TrainDone():
                self._train(record)
            case kinds.UpdatePublished():
                self._publish(record, entry)
            case kinds.UpdateReceived(study=study, round=round_, sender=sender, from_leaf=leaf):
                self.study(StudyId(study)).received.setdefault((Round(round_), sender), record)
                self.received_leaves.setdefault(leaf, (StudyId(study), Round(round_), sender))
            case kinds.AggDone():
                self._average(record, entry)
            case kinds.StudySteered():
                self._steer(record, entry)
            case kinds.CourseWord():
                self._pause(record, entry)
            case kinds.RoundSkipped(study=study, round=round_):
                self.study(StudyId(study)).skipped.add(Round(round_))
                self.study(StudyId(study)).paces.append(RoundPace(Round(round_), entry.time_us))
            case kinds.ModelKept(study=study):
                self.study(StudyId(study)).kept = record
            case kinds.ModelReleased(study=study, hash=model):
                self.study(StudyId(study)).released = ModelHash(model)
            case _:
                self._note_incident(record)

    def _note_incident(self, record: kinds.Record) -> None:
        match record:
            case kinds.PrivacySpent(ds=ds, eps_total_u=total_u):
                self._spend(DatasetId(ds), total_u)
            case kinds.SpendingUnknown(ds=ds):
                self._exhaust(DatasetId(ds))
            case kinds.SpendingAccepted(ds=ds, eps_total_u=total_u):
                self._accept(DatasetId(ds), total_u)
            case kinds.PeerMisbehaved(site=site, reason=rule, count=count):
                self.misbehaved[site, rule] = max(count, self.misbehaved.get((site, rule), 0))
            case kinds.ForkFound(form="K4", witness=witness):
                self.false_witnesses.add(witness)
            case kinds.ForkFound(log_id=log_id, form=form):
                self.forks.setdefault(log_id, form)
            case _:
                pass

    def _register(self, record: kinds.DatasetRegistered) -> None:
        """A dataset that is registered again keeps what was spent on it."""
        earlier = self.datasets.get(DatasetId(record.ds))
        spent_u = earlier.spent_u if earlier is not None else 0
        self.datasets[DatasetId(record.ds)] = DatasetHistory(record, spent_u=spent_u)

    def _revoke_dataset(self, dataset: DatasetId) -> None:
        if dataset in self.datasets:
            self.datasets[dataset].revoked = True

    def _decide(
        self,
        record: kinds.StudyApproved | kinds.StudyRefused | kinds.StudyRevoked | kinds.StudyClosed,
        entry: Entry,
    ) -> None:
        study = self.study(StudyId(record.study))
        study.decision_seq, study.decision_leaf = entry.seq, entry.leaf
        study.decided_us = entry.time_us
        match record:
            case kinds.StudyApproved():
                study.standing, study.approval = Standing.APPROVED, record
                study.code = None  # what an earlier approval read is approved no more
                study.approved_us = entry.time_us
                study.approved_seq, study.approved_leaf = entry.seq, entry.leaf
                study.closed_reason, study.released = "", None  # whoever approves again goes on
                study.trainings = 0  # the new table already contains what was spent before it
            case kinds.StudyRefused():
                study.standing = Standing.REFUSED
            case kinds.StudyRevoked():
                study.standing = Standing.REVOKED
            case kinds.StudyClosed(reason=reason):
                study.standing, study.closed_reason = Standing.CLOSED, reason
            case _:  # pragma: no cover -- the union is closed
                assert_never(record)

    def _turn(self, study: StudyHistory, is_back: bool, entry: Entry) -> None:
        """This site steps aside, or takes part again; neither without an approval."""
        if study.standing is not (Standing.AWAY if is_back else Standing.APPROVED):
            return
        study.decision_seq, study.decision_leaf = entry.seq, entry.leaf
        study.decided_us = entry.time_us
        study.standing = Standing.AWAY
        if is_back:
            study.standing, study.approved_us = Standing.APPROVED, entry.time_us
            study.approved_seq, study.approved_leaf = entry.seq, entry.leaf

    def _train(self, record: kinds.TrainDone) -> None:
        study = self.study(StudyId(record.study))
        study.trained[Round(record.round)] = record
        study.trainings += 1
        study.eps_u = max(study.eps_u, record.eps_u)
        self._spend(DatasetId(record.ds), record.eps_total_u)

    def _spend(self, ds: DatasetId, total_u: int) -> None:
        dataset = self.datasets.get(ds)
        if dataset is not None:
            # A table made later already covers the full plan of every study approved before it,
            # so the largest total on record bounds the spending of all of them.
            dataset.spent_u = max(dataset.spent_u, total_u)

    def _exhaust(self, ds: DatasetId) -> None:
        """What nobody knows counts as the whole cap."""
        dataset = self.datasets.get(ds)
        if dataset is not None and not dataset.is_unknown:
            dataset.known_u = dataset.spent_u
            dataset.spent_u = max(dataset.spent_u, dataset.terms.cap_u)

    def _accept(self, ds: DatasetId, total_u: int) -> None:
        """The data manager decided; never below what is known."""
        dataset = self.datasets.get(ds)
        if dataset is not None and dataset.is_unknown:
            dataset.spent_u, dataset.known_u = max(dataset.known_u, total_u), -1

    def _steer(self, record: kinds.StudySteered, entry: Entry) -> None:
        study = self.study(StudyId(record.study))
        changes = tuple(sorted(record.changes.items()))
        study.steerings.append(Steering(Round(record.round), changes))
        # The proposer's own entry cannot name itself.
        study.steered_seq = record.from_seq if record.from_seq >= 0 else entry.seq
        study.steered_leaf = entry.leaf

    def _pause(self, record: kinds.CourseWord, entry: Entry) -> None:
        state = PAUSE_OF[type(record)]
        # The proposer's own entry cannot name itself.
        seq = record.from_seq if record.from_seq >= 0 else entry.seq
        study, round_ = self.study(StudyId(record.study)), Round(record.round)
        if study.is_stopped:
            return
        study.pause = PauseWord(state, round_, record.reason, seq, entry.leaf, entry.time_us)
        study.pause_words += 1

    def _average(self, record: kinds.AggDone, entry: Entry) -> None:
        study, round_ = self.study(StudyId(record.study)), Round(record.round)
        study.averaged[round_] = ModelHash(record.out_hash)
        study.newest_average = record
        # An older update that stood in says nothing about when this round's came.
        came = {
            given.site
            for given in record.inputs
            if (taken := study.received.get((round_, given.site))) and taken.hash == given.hash
        }
        study.paces.append(RoundPace(round_, entry.time_us, tuple(sorted(came))))

    def _publish(self, record: kinds.UpdatePublished, entry: Entry) -> None:
        self.study(StudyId(record.study)).published[Round(record.round)] = Published(
            ModelHash(record.hash), record.size, record.train_seq, entry.seq, entry.leaf
        )

    def reserved_u(self, dataset: DatasetId) -> int:
        """ε that running approvals may still bring the dataset to, at least what is spent."""
        reserved = self.datasets[dataset].spent_u
        for study in self.studies.values():
            approval = study.approval
            if approval is None or not study.is_reserved:
                continue
            if approval.ds == dataset and approval.eps_table_u:
                reserved = max(reserved, approval.eps_table_u[-1])
        return reserved
