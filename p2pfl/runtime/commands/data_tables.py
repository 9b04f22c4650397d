"""Looking at a table before it is registered, in a process of its own: pandas stays out of here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.jsonable import from_json

MODULE: Final = "p2pfl.learning.datasets.table_preview"
DEADLINE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class ColumnSeen:
    """One column; see the module that looks."""

    name: str
    kind: str
    missing: int
    outside: int
    """Values beyond the agreed range or codes."""
    first_line: int
    """Where the first of them stands, 0 if there is none."""


@dataclass(frozen=True, slots=True)
class TablePreview:
    """What a data manager is shown of a table; for this site's eyes only."""

    rows: int
    patients: int
    columns: tuple[ColumnSeen, ...]
    labels: dict[str, int]
    warnings: tuple[str, ...]


def look_at_table(file: Path, schema: Path | None, patient_column: str) -> TablePreview:
    """Have a CSV or Parquet file looked at. Raises OperatorError with the look's own words."""
    request = {
        "given": str(file),
        "schema": str(schema or ""),
        "patient_column": patient_column,
    }
    purpose = "The look at the table"
    finished = run_module(
        MODULE, [], given=json.dumps(request).encode(), deadline_s=DEADLINE_S, purpose=purpose
    )
    return from_json(TablePreview, json.loads(output_of(finished, purpose)))
