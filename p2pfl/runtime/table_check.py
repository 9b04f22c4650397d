"""Looking at a CSV file before it is registered: is it the table it is said to be?

Uses the standard library only, so that registering data loads nothing heavy. Errors name the file,
the line and the column, never a cell's value: values are patients' data. What is counted here
stays at the site.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import math
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.manifest import CategoryColumn, Column, DataTerms
from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, OperatorError

FILE_BYTES_MAX: Final = 1 << 30
CELL_CHARACTERS_MAX: Final = 4096
PATIENT_KEY_BYTES: Final = 16
MISSING: Final = ("", "?")

_PATIENT_DOMAIN = b"p2pfl/patient/v1\0"
_FILE_DOMAIN = b"p2pfl/dataset-file/v1\0"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the data manager is told; for this site's eyes only.

    fingerprint: HMAC of the whole file; patients: one keyed hash each, sorted.
    """

    rows: int
    header: tuple[str, ...]
    patients: tuple[bytes, ...]
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
    rows = _rows(path)
    header = next(rows)[1]
    _check_header(path, header, patient_column, terms)
    watched = [(header.index(column.name), column) for column in (terms.columns if terms else ())]
    patient_at = header.index(patient_column) if patient_column else -1
    seen: set[bytes] = set()
    twins: Counter[tuple[str, ...]] = Counter()
    unusual: Counter[str] = Counter()
    labels: Counter[bool] = Counter()
    count = 0
    for line, cells in rows:
        count += 1
        seen.add(_patient_key(path, line, cells, patient_at, twins, key))
        for at, column in watched:
            if _is_unusual(path, line, column, cells[at]):
                unusual[column.name] += 1
        if terms is not None:
            labels[_is_positive(path, line, terms, cells[header.index(terms.target.column)])] += 1
    if count == 0:
        raise _refused(f"{path.name} has no rows below its header", "Export the table again.")
    if terms is not None and len(labels) < 2:
        raise _refused(
            f'{path.name}: every row has the same label in column "{terms.target.column}"',
            "A site needs patients of both kinds; check the target column and positive_above.",
        )
    return TableFacts(
        rows=count,
        header=header,
        patients=tuple(sorted(seen)),
        fingerprint=fingerprint,
        positives=labels[True] if terms is not None else None,
        notes=tuple(_notes(count, seen, unusual)),
    )


def file_fingerprint(path: Path, key: bytes) -> bytes:
    """HMAC-SHA256 over the file's bytes: tells a changed file, reveals nothing about it.

    Raises OperatorError if the file is missing, too large or not readable.
    """
    digest = hmac.new(key, _FILE_DOMAIN, hashlib.sha256)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _refused(f"{path} is not a file", "Name a CSV file.")
        if found.st_size > FILE_BYTES_MAX:
            raise _refused(f"{path} is larger than 1 GiB", "Split the table.")
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be read: {error.strerror}.",
            fix="Check the path and its permissions.",
            exit_code=EXIT_NO_INPUT,
        ) from error
    return digest.digest()


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and cells, the header first; every row as long as the header."""
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    width = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if not cells:
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    raise _refused(
                        f"{path.name}, line {reader.line_num}: {len(cells)} cells, the header "
                        f"has {width}",
                        "Make every row as long as the header; the separator is a comma.",
                    )
                yield reader.line_num, tuple(cell.strip() for cell in cells)
        except UnicodeDecodeError:
            raise _refused(f"{path.name} is not UTF-8 text", "Save it as CSV UTF-8.") from None
        except csv.Error as error:
            raise _refused(
                f"{path.name}, line {reader.line_num}: not CSV ({error})",
                "Save the table as CSV with commas.",
            ) from None
    if width == 0:
        raise _refused(f"{path.name} is empty", "Export the table again, with a header line.")


def _check_header(
    path: Path, header: Sequence[str], patient_column: str, terms: DataTerms | None
) -> None:
    for index, name in enumerate(header):
        if not name or name in header[:index]:
            what = f'two columns are named "{name}"' if name else f"column {index + 1} has no name"
            raise _refused(f"{path.name}, line 1: {what}", "Give every column a name of its own.")
    wanted = [patient_column] if patient_column else []
    if terms is not None:
        wanted += [column.name for column in terms.columns] + [terms.target.column]
    for name in wanted:
        if name not in header:
            separator = next((sign for sign in ";\t|" if sign in header[0]), "")
            hint = f' (is the separator "{separator}"?)' if separator and len(header) == 1 else ""
            shown = ", ".join(header)[:200]
            raise _refused(
                f'{path.name} has no column "{name}"{hint}; its header has: {shown}',
                "Rename the column in the file, name the right one, or save the table with commas.",
            )


def _patient_key(
    path: Path,
    line: int,
    cells: Sequence[str],
    patient_at: int,
    twins: Counter[tuple[str, ...]],
    key: bytes,
) -> bytes:
    if patient_at >= 0:
        patient = cells[patient_at]
        if not patient:
            raise _refused(
                f"{path.name}, line {line}: no patient is named",
                "Fill in the patient's pseudonym, or remove the row.",
            )
        text = f"id\0{patient}"
    else:
        row = tuple(cells)
        twins[row] += 1
        text = "row\0" + "\0".join((*row, str(twins[row])))
    return hmac.digest(key, _PATIENT_DOMAIN + text.encode(), "sha256")[:PATIENT_KEY_BYTES]


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


def _is_positive(path: Path, line: int, terms: DataTerms, cell: str) -> bool:
    if cell in MISSING:
        raise _refused(
            f'{path.name}, line {line}, column "{terms.target.column}": the target is missing',
            "Fill it in, or remove the row.",
        )
    return _number(path, line, terms.target.column, cell) > terms.target.positive_above


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _refused(
            f'{path.name}, line {line}, column "{column}": not a number',
            "Write numbers with a decimal point, and leave the cell empty where missing.",
        )
    return value


def _notes(count: int, seen: set[bytes], unusual: Counter[str]) -> Iterator[str]:
    if count != len(seen):
        yield f"{count} rows of {len(seen)} patients: only the first row of each is used"
    for name, times in sorted(unusual.items()):
        yield f'column "{name}": {times} of {count} values lie outside the agreed range or codes'


def _refused(message: str, fix: str) -> OperatorError:
    return OperatorError(f"{message}.", fix=fix, exit_code=EXIT_DATA)
