"""What a dataset may still spend: a fold over what the ledger recorded, never a state of its own.

Responsible for one ε cap per dataset over all studies, restarts and aborted rounds. Must not know
the ledger, nor how ε is computed: it reads totals that were computed at approval. All ε are
integers in micro-units.

An approval brings a table: row k is the dataset's *total* ε after k private rounds of that study,
on top of everything spent and of everything other open studies had reserved. So the largest total
on record bounds what was spent, and the largest last row of an open study what is reserved.
An unused reservation returns when its study closes. The one exception: a study approved *on top
of* it has counted it into its own rows, and those stay as recorded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeAlias, assert_never

from p2pfl.privacy.errors import (
    BudgetExhausted,
    DatasetUnavailable,
    NothingReserved,
    RoundsExhausted,
    TableRefused,
)


@dataclass(frozen=True, slots=True)
class DatasetAdded:
    """A dataset was registered. cap_u ≥ 0: its ε cap; delta: its δ as decimal text."""

    dataset: bytes
    cap_u: int
    delta: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """A study was approved on a dataset. table: total ε after 0 … n rounds, never decreasing."""

    dataset: bytes
    study: bytes
    table: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """A private round was trained. total_u: the dataset's total ε after it."""

    dataset: bytes
    study: bytes
    total_u: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A study ended here, for whatever reason: its unused reservation returns."""

    dataset: bytes
    study: bytes


@dataclass(frozen=True, slots=True)
class Revoked:
    """The owner withdrew the dataset: nothing is trained on it any more."""

    dataset: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say all that was spent: the whole cap counts as spent until a decision."""

    dataset: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The data manager decided what was spent. total_u: in all, what is known included."""

    dataset: bytes
    total_u: int


BudgetEvent: TypeAlias = DatasetAdded | Reserved | Spent | Closed | Revoked | Unknown | Accepted


@dataclass(frozen=True, slots=True)
class Reservation:
    """One study's claim on a dataset: its table and how many of its rounds were trained."""

    study: bytes
    table: tuple[int, ...]
    rounds_spent: int
    open: bool

    @property
    def rounds(self) -> int:
        """How many private rounds the approval allows."""
        return len(self.table) - 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What one dataset has spent, reserved and left, in micro-units of ε.

    cap_u = spent_u + reserved_u + left_u, unless more than the cap is on record: then left_u is 0.
    """

    dataset: bytes
    cap_u: int
    delta: str
    spent_u: int = 0
    reservations: tuple[Reservation, ...] = ()
    withdrawn: bool = False
    known_u: int = -1
    """While it is unknown what was spent, and `spent_u` the whole cap: what is known; else −1."""

    @property
    def reserved_u(self) -> int:
        """What open studies may still spend beyond what is spent."""
        planned = (claim.table[-1] for claim in self.reservations if claim.open)
        return max(0, max(planned, default=0) - self.spent_u)

    @property
    def left_u(self) -> int:
        """What a new study could reserve."""
        return max(0, self.cap_u - self.spent_u - self.reserved_u)

    def reservation(self, study: bytes) -> Reservation:
        """Return the newest claim of a study. Raises NothingReserved."""
        for claim in reversed(self.reservations):
            if claim.study == study:
                return claim
        raise NothingReserved(study)


Budgets: TypeAlias = Mapping[bytes, Budget]
NO_BUDGETS: Final[Budgets] = {}


def fold(events: Iterable[BudgetEvent], start: Budgets = NO_BUDGETS) -> Budgets:
    """Compute every dataset's budget from the recorded events, in their order.

    Folding a prefix and then the rest gives the same. A study approved again starts a new claim
    and closes its old one. Raises DatasetUnavailable for a dataset that was never registered or
    registered twice, and TableRefused; a fold over a verified ledger raises neither.
    """
    budgets = dict(start)
    for event in events:
        budgets[event.dataset] = _applied(budgets.get(event.dataset), event)
    return budgets


def refuse_or_next(budget: Budget, study: bytes, rounds_done: int) -> int:
    """Return the dataset's total ε after the study's next private round, if it may be trained.

    rounds_done ≥ 0: rounds trained since the study's newest approval, as the caller knows them;
    those on record count if they are more. Row rounds_done + 1 of the table is the answer.
    Raises DatasetUnavailable, NothingReserved, RoundsExhausted; BudgetExhausted with what is left
    up to the cap and what the round would add.
    """
    _check_available(budget)
    claim = budget.reservation(study)
    if not claim.open:
        raise NothingReserved(study)
    done = max(rounds_done, claim.rounds_spent)
    if done >= claim.rounds:
        raise RoundsExhausted(rounds_reserved=claim.rounds)
    total_u = max(budget.spent_u, claim.table[done + 1])
    if total_u > budget.cap_u:
        left_u = max(0, budget.cap_u - budget.spent_u)
        raise BudgetExhausted(left_u=left_u, needed_u=total_u - budget.spent_u)
    return total_u


def check_reservation(budget: Budget, table: tuple[int, ...]) -> None:
    """Refuse to approve a study whose planned spending does not fit under the cap.

    table: as in `Reserved`, made over the dataset's whole history and all open reservations.
    Raises DatasetUnavailable, TableRefused, BudgetExhausted.
    """
    _check_available(budget)
    _check_table(table)
    if table[-1] > budget.cap_u:
        committed_u = budget.spent_u + budget.reserved_u
        needed_u = max(0, table[-1] - committed_u)
        raise BudgetExhausted(left_u=budget.left_u, needed_u=needed_u)


def _applied(budget: Budget | None, event: BudgetEvent) -> Budget:
    if isinstance(event, DatasetAdded):
        if budget is not None:
            raise DatasetUnavailable(event.dataset, "was registered twice")
        return Budget(event.dataset, event.cap_u, event.delta)
    if budget is None:
        raise DatasetUnavailable(event.dataset, "was never registered")
    match event:
        case Reserved(study=study, table=table):
            _check_table(table)
            settled = _with_newest(budget, study, rounds_more=0, close=True)
            claim = Reservation(study, table, rounds_spent=0, open=True)
            return replace(settled, reservations=(*settled.reservations, claim))
        case Spent(study=study, total_u=total_u):
            spent = replace(budget, spent_u=max(budget.spent_u, total_u))
            return _with_newest(spent, study, rounds_more=1, close=False)
        case Closed(study=study):
            return _with_newest(budget, study, rounds_more=0, close=True)
        case Unknown():
            known_u = budget.known_u if budget.known_u >= 0 else budget.spent_u
            spent_u = max(budget.spent_u, budget.cap_u)
            return replace(budget, known_u=known_u, spent_u=spent_u)
        case Accepted(total_u=total_u):
            if budget.known_u < 0:
                return budget  # nothing was unknown: a decision cannot take back what was spent
            return replace(budget, spent_u=max(budget.known_u, total_u), known_u=-1)
        case Revoked():
            claims = tuple(replace(claim, open=False) for claim in budget.reservations)
            return replace(budget, withdrawn=True, reservations=claims)
        case _:
            assert_never(event)


def _with_newest(budget: Budget, study: bytes, *, rounds_more: int, close: bool) -> Budget:
    """Count a round into, or close, the newest claim of `study`, if it has one.

    A round nobody approved still counts as spent: the audit names it, the fold never forgets it.
    """
    claims = list(budget.reservations)
    for at in reversed(range(len(claims))):
        if claims[at].study == study:
            rounds_spent = claims[at].rounds_spent + rounds_more
            still_open = claims[at].open and not close
            claims[at] = replace(claims[at], rounds_spent=rounds_spent, open=still_open)
            break
    return replace(budget, reservations=tuple(claims))


def _check_available(budget: Budget) -> None:
    if budget.withdrawn:
        raise DatasetUnavailable(budget.dataset, "was withdrawn by its owner")


def _check_table(table: tuple[int, ...]) -> None:
    rising = all(low <= high for low, high in pairwise(table))
    if not table or table[0] < 0 or not rising:
        expected = "at least one row, none negative, none below the one before"
        raise TableRefused("ε table", expected=expected, actual=f"{len(table)} rows")
