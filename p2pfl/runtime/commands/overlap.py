"""Are these patients registered already? A budget belongs to patients, not to files or names.

Keyed hashes are compared: of patients' pseudonyms where both tables have them, and of whole rows
over the columns that both tables have. Two homes have different keys, so that this sees what one
home registered, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core.history import History
from p2pfl.core.names import DatasetId
from p2pfl.runtime.datasets import (
    LocalDataset,
    local_datasets,
    registered_patients,
    registered_rows,
)
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.table_check import TableFacts
from p2pfl.runtime.table_rows import file_fingerprint, keyed_rows

BY_CHANCE_SHARE = 0.05
"""Rows of different patients may coincide; more than this is the same data again."""
NARROW_SHARE = 0.5
"""Where pseudonyms differ, or only some columns can be compared, rows coincide more easily."""
COMPARED_COLUMNS_MIN = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that somebody wants to register."""

    file: Path
    patient_column: str
    facts: TableFacts
    key: bytes


@dataclass(frozen=True, slots=True)
class Shared:
    """How many of a candidate's patients a dataset has, and how many may be by chance."""

    count: int
    of: int
    share_max: float

    @property
    def is_too_many(self) -> bool:
        """Whether it is the same patients again."""
        return self.count > self.share_max * self.of


def check_new_patients(
    home: Home, history: History, used: frozenset[bytes], candidate: Candidate
) -> Iterator[str]:
    """Refuse patients who are registered already; yields what could not be compared.

    used: see `used_datasets`; a revoked dataset that nothing was ever computed from has no
    spending to inherit and does not count. Raises OperatorError.
    """
    for dataset in local_datasets(home):
        recorded = history.datasets.get(DatasetId(dataset.ds))
        if recorded is None or (recorded.revoked and dataset.ds not in used):
            continue
        compared = list(_compared(home, dataset, candidate))
        for shared in compared:
            if dataset.fingerprint == candidate.facts.fingerprint or shared.is_too_many:
                raise registered_already(dataset, shared, revoked=recorded.revoked)
        if not compared:
            yield (
                f'cannot be compared with "{dataset.name}", whose columns are others: make sure '
                "that no patient is in both, or what was spent on them would count twice"
            )


def used_datasets(entries: Iterable[Entry]) -> frozenset[bytes]:
    """Every dataset that something was ever computed from, with noise or without."""
    kinds_of_use = (kinds.TrainDone.KIND, kinds.PrivacySpent.KIND)
    records = (kinds.parse(entry) for entry in entries if entry.kind in kinds_of_use)
    return frozenset(
        record.ds for record in records if isinstance(record, kinds.TrainDone | kinds.PrivacySpent)
    )


def _compared(home: Home, dataset: LocalDataset, candidate: Candidate) -> Iterator[Shared]:
    facts = candidate.facts
    if dataset.fingerprint == facts.fingerprint:
        yield Shared(len(facts.patients), len(facts.patients), 0.0)
        return
    both_named = bool(dataset.patient_column and candidate.patient_column)
    if both_named:
        known = registered_patients(home, dataset.name)
        # One patient is one too many where pseudonyms say so.
        yield Shared(len(known.intersection(facts.patients)), len(facts.patients), 0.0)
    columns, known_rows = registered_rows(home, dataset.name)
    available = set(facts.header)
    if columns and available.issuperset(columns):
        given = keyed_rows(candidate.file, columns, candidate.key).keys
        yield _rows(known_rows, given, NARROW_SHARE if both_named else BY_CHANCE_SHARE)
        return
    alike = tuple(name for name in columns if name in available)
    if len(alike) >= COMPARED_COLUMNS_MIN and _is_intact(dataset, candidate.key):
        earlier = keyed_rows(dataset.file, alike, candidate.key).keys
        given = keyed_rows(candidate.file, alike, candidate.key).keys
        yield _rows(earlier, given, NARROW_SHARE)


def _rows(known: Iterable[bytes], given: tuple[bytes, ...], share_max: float) -> Shared:
    """Against the smaller table: neither removing rows nor adding many dilutes an overlap."""
    registered = frozenset(known)
    return Shared(len(registered.intersection(given)), min(len(registered), len(given)), share_max)


def _is_intact(dataset: LocalDataset, key: bytes) -> bool:
    try:
        return file_fingerprint(dataset.file, key) == dataset.fingerprint
    except OperatorError:
        return False


def registered_already(dataset: LocalDataset, shared: Shared, *, revoked: bool) -> OperatorError:
    state = "revoked" if revoked else "registered"
    undo = (
        ""
        if revoked
        else f" If that one was a mistake and nothing was trained on it, first `p2pfl data "
        f"revoke {dataset.name}`."
    )
    return OperatorError(
        f'{shared.count} of {shared.of} patients are registered already, in "{dataset.name}" '
        f"({state}).",
        fix="Register only patients that are new: what was spent on a patient stays spent, under "
        f"whatever name or file.{undo}",
        exit_code=EXIT_REFUSED,
    )
