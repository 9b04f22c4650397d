"""What was spent where the record has a gap: the whole cap, until the data manager decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ledger.provenance import kinds
from p2pfl.core.history import DatasetHistory
from p2pfl.core.names import DatasetId
from p2pfl.runtime.commands.budgets import MICRO, Accepted, accepted, account, known_u, released
from p2pfl.runtime.commands.codes import checked_code
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.datasets import LocalDataset, read_dataset
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError


@dataclass(frozen=True, slots=True)
class AcceptSpending:
    """Decide what may have been spent on a dataset beyond what is on record.

    epsilon: of that alone, at half of the dataset's δ. basis: a code, where the number is from."""

    name: str
    epsilon: float
    basis: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class SpendingAccepted:
    """The decision on record. All three are ε; known: at half of δ."""

    name: str
    seq: int
    known: float
    accepted: float
    total: float
    cap: float


def require_known(dataset: LocalDataset, recorded: DatasetHistory) -> None:
    """Raises OperatorError while nobody knows what was spent on the dataset."""
    if recorded.is_unknown:
        raise OperatorError(
            f'What was spent on "{dataset.name}" is not known: its ε cap counts as exhausted.',
            fix=f"The data manager decides on record: `p2pfl data accept-spending {dataset.name} "
            "--epsilon … --basis CODE`.",
            exit_code=EXIT_REFUSED,
        )


def accept_spending(site: Site, request: AcceptSpending) -> SpendingAccepted:
    """Put the data manager's decision on record. Raises OperatorError."""
    dataset, basis = read_dataset(site.home, request.name), checked_code(request.basis)
    recorded = site.history().datasets.get(DatasetId(dataset.ds))
    if recorded is None or not recorded.is_unknown:
        raise OperatorError(
            f'What was spent on "{request.name}" is known: there is nothing to decide.',
            fix="See `p2pfl privacy status`.",
            exit_code=EXIT_REFUSED,
        )
    if not (math.isfinite(request.epsilon) and request.epsilon >= 0.0):
        raise OperatorError(
            f"ε = {request.epsilon:g} is no spending.",
            fix="Give 0 or more: what may have been spent beyond what is on record.",
            exit_code=EXIT_REFUSED,
        )
    entries = account(site.ledger.entries()).entries
    earlier = accepted(entries, dataset.ds) or Accepted(0)
    delta, extra_u = recorded.terms.delta, math.ceil(request.epsilon * MICRO)
    # Never below what is on record, which was computed at the whole δ.
    computed_u = known_u(released(entries, dataset.ds), earlier.delta(delta))
    known = max(recorded.known_u, computed_u + earlier.extra_u)
    total, cap = (known + extra_u) / MICRO, recorded.terms.cap_u / MICRO
    if not request.confirmed:
        raise OperatorError(
            f'"{request.name}" would count as having spent ε = {total:.3f} of {cap:g}: '
            f"{known / MICRO:.3f} on record, {request.epsilon:g} by your decision.",
            fix="Decide with --yes; it stays on record under this site's name.",
            exit_code=EXIT_REFUSED,
        )
    decision = kinds.SpendingAccepted(dataset.ds, extra_u, known + extra_u, basis)
    entry = site.record(decision.draft("data-manager"))[-1]
    return SpendingAccepted(request.name, entry.seq, known / MICRO, extra_u / MICRO, total, cap)
