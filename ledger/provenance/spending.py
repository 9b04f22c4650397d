"""ε per dataset and study: what was declared, and what the recorded events come to.

Responsible for the numbers; `rules.budget` judges them. A dataset's declared ε is the largest
total on record: a table made later covers the full plan of every study approved before it, so
the totals of several studies need not rise one after the other.

ε is recomputed over the dataset's whole history, trainings that were never released included, at
every place where it has a closed form (full batches), else at a bounded number of places unless
all are asked for: after the newest training, after each study's last one, and between them at
even distances."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, DpEvent, EpsilonOf
from ledger.provenance.kinds import (
    CodeApproved,
    DatasetRegistered,
    DpTerms,
    PrivacySpent,
    SpendingAccepted,
    SpendingUnknown,
    StudyApproved,
    TrainDone,
    UpdatePublished,
)
from ledger.provenance.timeline import Logged, Timeline

Spent: TypeAlias = TrainDone | PrivacySpent
"""What costs ε."""
CLOSED_FORM = frozenset({"none", "gaussian"})
"""Mechanisms of which ε takes microseconds."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """ε after an entry: declared (micro-units) and recomputed (None: could not be computed)."""

    seq: int
    declared_u: int
    epsilon: float | None
    problem: str = ""

    @property
    def understated(self) -> bool:
        """Declared less than recomputed, beyond rounding of 1e-6."""
        return self.epsilon is not None and not self.declared_u / MICRO + 1e-6 >= self.epsilon


@dataclass(frozen=True, slots=True)
class StudySpending:
    """One study's part of a dataset's ε. epsilon: recomputed as if it were the only one.

    by_code: some of it was kept by approved code alone, not by a node."""

    study: bytes
    trainings: int
    planned: int
    terms: DpTerms
    declared_u: int
    epsilon: float | None
    by_code: bool = False


@dataclass(frozen=True, slots=True)
class DatasetSpending:
    """A dataset's budget: ε in micro-units, `epsilon` as computed. cap_u −1: no cap on record.

    reserved_u: what running studies may still spend beyond `declared_u`."""

    ds: bytes
    delta: str
    cap_u: int
    declared_u: int
    reserved_u: int
    epsilon: float | None
    trainings: int
    unreleased: int
    unprotected: int
    recomputed: tuple[Recomputed, ...]
    studies: tuple[StudySpending, ...]

    @property
    def left_u(self) -> int:
        """What studies may still be approved for; 0 without a cap on record."""
        return max(0, self.cap_u - self.declared_u - self.reserved_u)


def spendings(
    timeline: Timeline, context: AuditContext, epsilon_of: EpsilonOf
) -> tuple[DatasetSpending, ...]:
    """The budgets of all datasets of a log, in the order of their first entry."""
    datasets = {logged.record.ds: None for logged in timeline.of(DatasetRegistered)}
    datasets |= {logged.record.ds: None for logged in spent_on(timeline)}
    return tuple(_Accounts(timeline, context, epsilon_of, ds).all() for ds in datasets)


def spent_on(timeline: Timeline, ds: bytes | None = None) -> list[Logged[Spent]]:
    """Everything that cost ε on a dataset (None: on any), in the log's order."""
    both: list[Logged[Spent]] = [*timeline.of(TrainDone), *timeline.of(PrivacySpent)]
    wanted = [logged for logged in both if ds is None or logged.record.ds == ds]
    return sorted(wanted, key=lambda logged: logged.seq)


class _Accounts:
    """One dataset's bookkeeping."""

    def __init__(
        self, timeline: Timeline, context: AuditContext, epsilon_of: EpsilonOf, ds: bytes
    ) -> None:
        self.timeline = timeline
        self.context = context
        self.epsilon_of = epsilon_of
        self.ds = ds
        self.spent = spent_on(timeline, ds)
        registered = timeline.registration_before(ds, timeline.size)
        self.cap_u = registered.record.cap_u if registered else -1
        first = self.spent[0].record.dp.delta if self.spent else "0"
        self.delta = registered.record.delta if registered else first

    def all(self) -> DatasetSpending:
        released = {
            logged.record.train_seq: logged.seq for logged in self.timeline.of(UpdatePublished)
        }
        trained = [logged for logged in self.spent if isinstance(logged.record, TrainDone)]
        recomputed = tuple(self._recompute())
        on_record_u = max((logged.record.eps_total_u for logged in self.spent), default=0)
        declared_u = max(on_record_u, self._decided_u())
        return DatasetSpending(
            ds=self.ds,
            delta=self.delta,
            cap_u=self.cap_u,
            declared_u=declared_u,
            reserved_u=max(0, self._planned_u() - declared_u),
            epsilon=recomputed[-1].epsilon if recomputed else 0.0,
            trainings=len(trained),
            unreleased=sum(logged.seq not in released for logged in trained),
            unprotected=sum(logged.record.dp.mech == "none" for logged in self.spent),
            recomputed=recomputed,
            studies=tuple(self._studies()),
        )

    def _decided_u(self) -> int:
        """What counts by decision: the whole cap while it is unknown what was spent."""
        unknown = [x.seq for x in self.timeline.of(SpendingUnknown) if x.record.ds == self.ds]
        decided = [x for x in self.timeline.of(SpendingAccepted) if x.record.ds == self.ds]
        if unknown and not (decided and decided[-1].seq > unknown[-1]):
            return max(0, self.cap_u)
        return decided[-1].record.eps_total_u if decided else 0

    def _recompute(self) -> Iterator[Recomputed]:
        declared_u = 0
        places = self._places()
        for place, logged in enumerate(self.spent):
            declared_u = max(declared_u, logged.record.eps_total_u)
            if place in places:
                epsilon, problem = self._epsilon(self.spent[: place + 1])
                yield Recomputed(logged.seq, declared_u, epsilon, problem)

    def _places(self) -> frozenset[int]:
        """Where ε is recomputed; the newest places first, should there be too many."""
        most = self._recomputed_max()
        if most is None:
            return frozenset(range(len(self.spent)))
        ends = {logged.record.study: place for place, logged in enumerate(self.spent)}
        wanted = sorted(ends.values(), reverse=True)[:most]
        free = most - len(wanted)
        if free > 0 and self.spent:
            step = max(1, math.ceil(len(self.spent) / free))
            wanted += range(step - 1, len(self.spent), step)
        return frozenset(wanted)

    def _recomputed_max(self) -> int | None:
        """None: everywhere."""
        is_quick = all(logged.record.dp.mech in CLOSED_FORM for logged in self.spent)
        return None if is_quick else self.context.recomputed_max

    def _studies(self) -> Iterator[StudySpending]:
        by_study: dict[bytes, list[Logged[Spent]]] = {}
        for logged in self.spent:
            by_study.setdefault(logged.record.study, []).append(logged)
        most = self._recomputed_max()
        approved = [logged.record for logged in self.timeline.of(CodeApproved)]
        by_code = {record.study for record in approved if record.kept_by == "code"}
        for place, (study, spent) in enumerate(by_study.items()):
            trained = [x.record for x in spent if isinstance(x.record, TrainDone)]
            approval = self.timeline.approval_before(study, self.timeline.size)
            few = most is None or place < most
            yield StudySpending(
                study=study,
                trainings=len(trained),
                planned=len(approval.record.eps_table_u) - 1 if approval else 0,
                terms=spent[-1].record.dp,
                declared_u=max((record.eps_u for record in trained), default=0),
                epsilon=self._epsilon(spent)[0] if few else None,
                by_code=study in by_code,
            )

    def _epsilon(self, spent: list[Logged[Spent]]) -> tuple[float | None, str]:
        """ε of these entries together, or None and why it cannot be said."""
        events = composed([logged.record.dp for logged in spent])
        if not events:
            return 0.0, ""
        try:
            return self.epsilon_of(events, float(self.delta)), ""
        except (ValueError, ArithmeticError) as error:
            return None, str(error)

    def _planned_u(self) -> int:
        """What running approvals may bring the dataset to."""
        approved = {
            logged.record.study: logged
            for logged in self.timeline.of(StudyApproved)
            if logged.record.ds == self.ds
        }
        size = self.timeline.size
        running = [
            logged.record.eps_table_u[-1]
            for study, logged in approved.items()
            if (last := self.timeline.decision_before(study, size)) and last.seq == logged.seq
        ]
        return max(running, default=0)


def remembering(epsilon_of: EpsilonOf) -> EpsilonOf:
    """The same function, which computes ε of the same events only once."""
    known: dict[tuple[tuple[DpEvent, ...], float], float] = {}

    def epsilon(events: Sequence[DpEvent], delta: float) -> float:
        key = (tuple(events), delta)
        if key not in known:
            known[key] = epsilon_of(events, delta)
        return known[key]

    return epsilon


def composed(terms: list[DpTerms]) -> tuple[DpEvent, ...]:
    """The events of these terms, equal ones joined: composition does not mind the order."""
    steps: dict[tuple[str, float, float], int] = {}
    for dp in terms:
        if dp.mech != "none":
            key = (dp.mech, float(dp.sigma), float(dp.q))
            steps[key] = steps.get(key, 0) + dp.steps
    return tuple(DpEvent(*key, steps=count) for key, count in sorted(steps.items()))
