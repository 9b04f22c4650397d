"""Datasets that are on record though their particulars are lost: nobody trains on them for free.

After a lost disk the ledger comes back, but not where the files lie and which patients are in
them. A file that is the same byte by byte is recognised by its keyed fingerprint; of any other one
nobody can say whether its patients are the same, so its spending counts as unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.log import Entry, LogIdentity
from ledger.log.notes import Checkpoint, note_text
from ledger.provenance import kinds
from ledger.provenance.records_site import ANY_DATA
from p2pfl.core.history import History
from p2pfl.runtime.commands.overlap import used_datasets
from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.home import Home

UNKNOWN_NOTE: Final = (
    "what was spent on these patients before the loss is not known, so the ε cap counts as "
    "exhausted; the data manager decides: `p2pfl data accept-spending {}`"
)


@dataclass(frozen=True, slots=True)
class LostData:
    """by_file: commitment to a file's fingerprint → the dataset. was_used: whether anything was
    ever computed from one of them, so that a file that is not recognised may be it."""

    by_file: Mapping[bytes, bytes]
    was_used: bool


def lost_data(home: Home, history: History, entries: Sequence[Entry], log: LogIdentity) -> LostData:
    """The datasets on record that this home knows no file of, and those the log itself lost."""
    here = {dataset.ds for dataset in local_datasets(home)}
    lost = {ds: known for ds, known in history.datasets.items() if ds not in here}
    used = used_datasets(entries)
    was_used = any(ds in used or known.spent_u > 0 for ds, known in lost.items())
    by_file = {known.terms.fp_commit: bytes(ds) for ds, known in lost.items()}
    return LostData(by_file, was_used or has_gap(log) or names_earlier_gap(entries))


def names_earlier_gap(entries: Iterable[Entry]) -> bool:
    """Whether a log before the one before lost entries; that note goes along from log to log."""
    unknown = (e for e in entries if e.kind == kinds.SpendingUnknown.KIND)
    return any(entry.body["ds"] == ANY_DATA for entry in unknown)


def has_gap(log: LogIdentity) -> bool:
    """Whether the log goes on from one of which entries are lost: registrations may be in it."""
    previous = log.previous
    if previous is None or not previous.note:
        return previous is not None
    return previous.missing_from < Checkpoint.parse(note_text(previous.note)).size
