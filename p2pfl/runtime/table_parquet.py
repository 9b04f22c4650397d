"""Reading a Parquet file row by row as text, so that it is a table like any CSV file.

pyarrow is loaded for Parquet files only. Errors name the file and the column, never a value.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from p2pfl.runtime.errors import EXIT_DATA, OperatorError

ENDING: Final = ".parquet"
BYTES_MAX: Final = 1 << 32
"""After decompression, as the file itself says."""
COLUMNS_MAX: Final = 10_000
ROWS_AT_ONCE: Final = 4096


def is_parquet(path: Path) -> bool:
    """By its name."""
    return path.suffix == ENDING


def parquet_rows(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number, as if it were CSV, and cells; the header first. Raises OperatorError."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check(path, file)
            yield 1, tuple(field.name.strip() for field in file.schema_arrow)
            number = 1
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
                columns = [
                    [_text(value) for value in column.to_pylist()] for column in batch.columns
                ]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, cells
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _refused(
            f"{path.name} is not a Parquet file that can be read ({type(error).__name__})",
            "Write it again, or save the table as CSV UTF-8.",
        ) from None


def _check(path: Path, file: Any) -> None:
    groups = range(file.metadata.num_row_groups)
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    if size > BYTES_MAX or file.metadata.num_columns > COLUMNS_MAX:
        raise _refused(f"{path.name} is larger than can be read", "Split the table.")
    for field in file.schema_arrow:
        if field.type.num_fields:
            raise _refused(
                f'{path.name}, column "{field.name}" holds {field.type}, a table has one value in '
                "each cell",
                "Spread it over columns of its own, or leave it out.",
            )


def _text(value: object) -> str:
    """A cell as a CSV file would hold it."""
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case float():
            return "" if math.isnan(value) else repr(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return str(value).strip()


def _refused(problem: str, fix: str) -> OperatorError:
    return OperatorError(f"{problem}.", fix=fix, exit_code=EXIT_DATA)
