"""Reading a table row by row, as strictly as a table of patients deserves.

CSV needs the standard library only. Errors name the file and the line, never a cell's value:
values are patients' data.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import math
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from p2pfl.runtime.errors import EXIT_DATA, EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.table_parquet import is_parquet, parquet_rows

FILE_BYTES_MAX: Final = 1 << 30
LINE_CHARACTERS_MAX: Final = 1 << 20
CELL_CHARACTERS_MAX: Final = 4096
KEYED_BYTES: Final = 16
MISSING: Final = ("", "?")
NAMES_SHOWN: Final = 10

_ROW_DOMAIN = b"p2pfl/row/v1\0"
_FILE_DOMAIN = b"p2pfl/dataset-file/v1\0"
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SEPARATORS: Final = ";\t|"
_SPREADSHEET: Final = b"PK\x03\x04"
_SAVE: Final = 'Save it as "CSV UTF-8 (comma separated)".'


def file_fingerprint(path: Path, key: bytes) -> bytes:
    """HMAC-SHA256 over the file's bytes: tells a changed file, reveals nothing about it.

    Raises OperatorError if the file is missing, too large or not readable.
    """
    digest = hmac.new(key, _FILE_DOMAIN, hashlib.sha256)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise refused(f"{path} is not a file", "Name a CSV file.")
        if found.st_size > FILE_BYTES_MAX:
            raise refused(f"{path} is larger than 1 GiB", "Split the table.")
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


def read_rows(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and cells, the header first; every row as long as the header.

    A Parquet file is read as the CSV file it could be saved as. Raises OperatorError where the
    file is no table with one header line.
    """
    if is_parquet(path):
        yield from parquet_rows(path)
        return
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    width = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(_lines(path, file), strict=True)
        try:
            for cells in reader:
                if not cells:
                    continue
                if width == 0:
                    _check_separator(path, cells)
                width = width or len(cells)
                if len(cells) != width:
                    raise refused(
                        f"{path.name}, line {reader.line_num}: {len(cells)} cells, the header "
                        f"has {width}",
                        "Make every row as long as the header; the separator is a comma.",
                    )
                yield reader.line_num, tuple(cell.strip() for cell in cells)
        except UnicodeDecodeError:
            raise _not_text(path) from None
        except csv.Error as error:
            if "field larger" in str(error):
                raise refused(
                    f"{path.name}, line {reader.line_num}: a cell has more than "
                    f"{CELL_CHARACTERS_MAX} characters",
                    "Look for a quotation mark that is not closed.",
                ) from None
            raise refused(
                f"{path.name}, line {reader.line_num}: not CSV ({error})",
                "Look for a quotation mark that is not closed, or save the table as CSV again.",
            ) from None
    if width == 0:
        raise refused(f"{path.name} is empty", "Export the table again, with a header line.")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines, none of them without bound."""
    number = 0
    while line := file.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        if "\0" in line:
            raise refused(f"{path.name}, line {number}: holds NUL bytes, so it is no text", _SAVE)
        if len(line) > LINE_CHARACTERS_MAX:
            raise refused(
                f"{path.name}, line {number}: longer than {LINE_CHARACTERS_MAX} characters",
                "A table has one row per line; export it again.",
            )
        yield line


def _not_text(path: Path) -> OperatorError:
    with path.open("rb") as file:
        start = file.read(4)
    if start == _SPREADSHEET:
        return refused(f"{path.name} is a spreadsheet or an archive, not CSV", _SAVE)
    return refused(f"{path.name} is not UTF-8 text", _SAVE)


def _check_separator(path: Path, header: Sequence[str]) -> None:
    """One long column that is several: nothing would be as it seems."""
    found = next((sign for sign in _SEPARATORS if sign in header[0]), "")
    if len(header) == 1 and found:
        shown = "a tab" if found == "\t" else f'"{found}"'
        raise refused(
            f"{path.name}, line 1: there is no comma, the separator seems to be {shown}",
            "Save the table with commas between the cells, and with decimal points.",
        )


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """keys: one per row, sorted; repeated: rows that say the same as an earlier one."""

    keys: tuple[bytes, ...]
    repeated: int


def keyed_rows(path: Path, columns: Sequence[str], key: bytes) -> KeyedRows:
    """One keyed hash per row over some of its columns, whatever their order or number format.

    columns: names in the header. Rows that are alike are counted, so that two of them differ.
    Raises OperatorError.
    """
    rows = read_rows(path)
    header = next(rows)[1]
    places = [(name, header.index(name)) for name in sorted(columns)]
    twins: Counter[bytes] = Counter()
    found = []
    for _, cells in rows:
        text = "\0".join(f"{name}\0{canonical(cells[at])}" for name, at in places)
        plain = hmac.digest(key, _ROW_DOMAIN + text.encode(), "sha256")
        twins[plain] += 1
        numbered = hmac.digest(key, plain + str(twins[plain]).encode(), "sha256")
        found.append(numbered[:KEYED_BYTES])
    return KeyedRows(tuple(sorted(found)), len(found) - len(twins))


def canonical(cell: str) -> str:
    """A cell so that the same value is the same text.

    >>> canonical("050.0") == canonical("50") == canonical("5e1")
    True
    """
    if cell in MISSING:
        return ""
    value = parse_number(cell)
    return cell.casefold() if value is None else repr(value)


def parse_number(cell: str) -> float | None:
    """A finite decimal number, as statistics programs write it; else None.

    >>> [parse_number(text) for text in ("1.5", "1,5", "1_5", "nan")]
    [1.5, None, None, None]
    """
    if _NUMBER.fullmatch(cell) is None:
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def some_of(names: Sequence[str]) -> str:
    """A header's names, as many as a person reads.

    >>> some_of([f"c{number}" for number in range(30)])
    'c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 20 more'
    """
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def refused(message: str, fix: str) -> OperatorError:
    """What is wrong with a file, and what to do."""
    return OperatorError(f"{message}.", fix=fix, exit_code=EXIT_DATA)
