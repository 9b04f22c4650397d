"""Reading a CSV table strictly: a header, equally long rows, cells by column name.

Responsible for the file as a file: size, encoding, header, row lengths. Must not know what a
column means. Errors name file, row and column, never a cell's value.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.learning.errors import DataRefused
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.table_parquet import is_parquet, parquet_rows
from p2pfl.runtime.table_rows import some_of

FILE_BYTES_MAX: Final = 1 << 30
COLUMNS_MAX: Final = 10_000
CELL_CHARACTERS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A table's cells as text. `rows[i]` stands in line `lines[i]` of the file `name`."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """The cells of one column, without surrounding blanks. Raises DataRefused."""
        try:
            index = self.header.index(name)
        except ValueError:
            raise DataRefused(
                self.name,
                f'no column "{name}" (the header has: {some_of(self.header)})',
                fix="rename the column in the file, or ask the proposer to change [data]",
            ) from None
        return [row[index].strip() for row in self.rows]

    def place(self, row: int, column: str = "") -> str:
        """Where a cell stands, in words a spreadsheet user finds again."""
        where = f"{self.name}, line {self.lines[row]}"
        return f'{where}, column "{column}"' if column else where


def read_csv(path: Path) -> CsvTable:
    """Read a UTF-8 CSV file with a header line, or a Parquet file.

    Empty lines are skipped. Raises DataRefused for a missing or too large file, another
    encoding, a doubled or empty column name, or a row of another length than the header's.
    """
    name = path.name
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataRefused(
            name, f"cannot be read ({error.strerror})", fix="check the path"
        ) from None
    if size > FILE_BYTES_MAX:
        raise DataRefused(
            name, f"has {size} bytes, at most {FILE_BYTES_MAX} are read", fix="split the table"
        )
    if is_parquet(path):
        return _read_parquet(path)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = _checked_header(name, next(reader, []))
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataRefused(
                        f"{name}, line {reader.line_num}",
                        f"{len(row)} cells, the header has {len(header)}",
                        fix="make the row as long as the header",
                    )
                rows.append(tuple(row))
                lines.append(reader.line_num)
    except OSError as error:
        raise DataRefused(
            name, f"cannot be read ({error.strerror})", fix="check the path"
        ) from None
    except UnicodeDecodeError:
        raise DataRefused(name, "is not UTF-8 text", fix="save the file as CSV UTF-8") from None
    except csv.Error as error:
        raise DataRefused(
            f"{name}, line {reader.line_num}", f"is not CSV ({error})", fix="save the file as CSV"
        ) from None
    if not rows:
        raise DataRefused(name, "has no rows below the header", fix="export the table again")
    return CsvTable(name, header, tuple(rows), tuple(lines))


def _read_parquet(path: Path) -> CsvTable:
    try:
        (_, header), *found = parquet_rows(path)
    except OperatorError as error:
        problem = error.message.removeprefix(path.name).lstrip(", ").rstrip(".")
        raise DataRefused(path.name, problem, fix=error.fix.rstrip(".")) from None
    if not found:
        raise DataRefused(path.name, "has no rows", fix="export the table again")
    lines, rows = zip(*found, strict=True)
    return CsvTable(path.name, _checked_header(path.name, header), rows, lines)


def _checked_header(name: str, cells: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    if not header:
        raise DataRefused(name, "is empty", fix="export the table again, with a header line")
    if len(header) > COLUMNS_MAX:
        raise DataRefused(
            name, f"has {len(header)} columns, at most {COLUMNS_MAX} are read", fix="drop columns"
        )
    for index, cell in enumerate(header):
        if not cell:
            raise DataRefused(
                f"{name}, line 1", f"column {index + 1} has no name", fix="give it a name"
            )
        if cell in header[:index]:
            raise DataRefused(
                f"{name}, line 1", f'two columns are named "{cell}"', fix="rename one of them"
            )
    return header
