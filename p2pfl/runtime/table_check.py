"""Looking at a CSV file before it is registered: is it the table it is said to be?

Uses the standard library only, so that registering data loads nothing heavy. Errors name the file,
the line and the column, never a cell's value: values are patients' data. What is counted here
stays at the site.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.manifest import CategoryColumn, Column, DataTerms, Target
from p2pfl.runtime.table_rows import (
    KEYED_BYTES,
    MISSING,
    file_fingerprint,
    keyed_rows,
    parse_number,
    read_rows,
    refused,
    some_of,
)

_PATIENT_DOMAIN = b"p2pfl/patient/v1\0"

COLUMNS_NOTED: Final = 3
"""Columns with unusual values that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the data manager is told; for this site's eyes only.

    fingerprint: HMAC of the whole file; patients: one keyed hash each, sorted; row_keys: one keyed
    hash per row over `columns`, which are all but the patient column.
    """

    rows: int
    header: tuple[str, ...]
    patients: tuple[bytes, ...]
    columns: tuple[str, ...]
    row_keys: tuple[bytes, ...]
    fingerprint: bytes
    positives: int | None
    """Rows with a positive target, None without a schema."""
    notes: tuple[str, ...]


def check_table(
    path: Path, *, patient_column: str, terms: DataTerms | None, key: bytes
) -> TableFacts:
    """Read the whole file strictly.

    patient_column: tells patients apart, "" where every row is another patient. terms: what a
    study asks of the table, if it is known. key: 32 bytes, the site's own. Raises OperatorError.
    """
    fingerprint = file_fingerprint(path, key)
    rows = read_rows(path)
    header = next(rows)[1]
    _check_header(path, header, patient_column, terms)
    watched = [(header.index(column.name), column) for column in (terms.columns if terms else ())]
    patient_at = header.index(patient_column) if patient_column else -1
    seen: set[bytes] = set()
    unusual: Counter[str] = Counter()
    labels: Counter[bool] = Counter()
    target = terms.target if terms else None
    count = 0
    for line, cells in rows:
        count += 1
        if patient_column:
            seen.add(_patient_key(path, line, cells[patient_at], key))
        for at, column in watched:
            if _is_unusual(path, line, column, cells[at]):
                unusual[column.name] += 1
        if isinstance(target, Target):
            labels[_is_positive(path, line, target, cells[header.index(target.column)])] += 1
    if count == 0:
        raise refused(f"{path.name} has no rows below its header", "Export the table again.")
    if isinstance(target, Target) and len(labels) < 2:
        raise refused(
            f'{path.name}: every row has the same label in column "{target.column}"',
            "A site needs patients of both kinds; check the target column and positive_above.",
        )
    columns = tuple(name for name in header if name != patient_column)
    keyed = keyed_rows(path, columns, key)
    patients = tuple(sorted(seen)) if patient_column else keyed.keys
    return TableFacts(
        rows=count,
        header=header,
        patients=patients,
        columns=columns,
        row_keys=keyed.keys,
        fingerprint=fingerprint,
        positives=labels[True] if isinstance(target, Target) else None,
        notes=tuple(_notes(count, len(patients), 0 if patient_column else keyed.repeated, unusual)),
    )


def _check_header(
    path: Path, header: Sequence[str], patient_column: str, terms: DataTerms | None
) -> None:
    for index, name in enumerate(header):
        if not name or name in header[:index]:
            what = f'two columns are named "{name}"' if name else f"column {index + 1} has no name"
            raise refused(f"{path.name}, line 1: {what}", "Give every column a name of its own.")
    wanted = [patient_column] if patient_column else []
    if terms is not None:
        wanted += [column.name for column in terms.columns]
        wanted += terms.target.names if terms.target is not None else ()
    for name in wanted:
        if name not in header:
            raise refused(
                f'{path.name} has no column "{name}"; its header has: {some_of(header)}',
                "Rename the column in the file, or name the right one.",
            )


def _patient_key(path: Path, line: int, patient: str, key: bytes) -> bytes:
    if not patient:
        raise refused(
            f"{path.name}, line {line}: no patient is named",
            "Fill in the patient's pseudonym, or remove the row.",
        )
    return patient_key(patient, key)


def patient_key(patient: str, key: bytes) -> bytes:
    """A pseudonym as overlaps are found by: the same in every dataset of this home.

    key: 32 bytes. Returns 16 bytes.
    """
    return hmac.digest(key, _PATIENT_DOMAIN + patient.encode(), "sha256")[:KEYED_BYTES]


def _is_unusual(path: Path, line: int, column: Column, cell: str) -> bool:
    """Whether the value will be clipped or is a code nobody agreed on."""
    if cell in MISSING:
        return False
    value = _number(path, line, column.name, cell)
    if value in column.missing:
        return False
    if isinstance(column, CategoryColumn):
        return value not in column.categories
    return not column.low <= value <= column.high


def _is_positive(path: Path, line: int, target: Target, cell: str) -> bool:
    if cell in MISSING:
        raise refused(
            f'{path.name}, line {line}, column "{target.column}": the target is missing',
            "Fill it in, or remove the row.",
        )
    return _number(path, line, target.column, cell) > target.positive_above


def _number(path: Path, line: int, column: str, cell: str) -> float:
    value = parse_number(cell)
    if value is None:
        raise refused(
            f'{path.name}, line {line}, column "{column}": not a number',
            "Write numbers with a decimal point, and leave the cell empty where missing (not NA).",
        )
    return value


def _notes(count: int, patients: int, repeated: int, unusual: Counter[str]) -> Iterator[str]:
    if count != patients:
        yield f"{count} rows of {patients} patients: only the first row of each is used"
    if repeated:
        yield (
            f"{repeated} of {count} rows repeat another one and count as patients of their own: "
            "without --patient-column nobody can tell"
        )
    listed = sorted(unusual.items(), key=lambda item: (-item[1], item[0]))
    for name, times in listed[:COLUMNS_NOTED]:
        yield f'column "{name}": {times} of {count} values lie outside the agreed range or codes'
    if (others := len(listed) - COLUMNS_NOTED) > 0:
        yield f"{others} more column(s) hold such values, none of them more often"
