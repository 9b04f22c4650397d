"""Looking at a table before it is registered: `python -m p2pfl.learning.datasets.table_preview`.

Responsible for showing a data manager what a study would meet: counts, missing values, labels, what
does not fit the agreed columns (as a pandera schema made from [data]), and what should not be in
such a table at all. Counts and places only, never a value; all of it stays at the site.

In:  {given: path, schema: path or "", patient_column}
Out: {rows, patients, columns: [{name, kind, missing, outside, first_line}], labels: {…}, warnings}
     kind: number | category | target | time | event | patient | unused; outside: values beyond the
     agreed range or codes, first_line: where the first of them stands (0: none).
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_data_section
from p2pfl.core.manifest_terms import CategoryColumn, DataTerms, SurvivalTarget, Target
from p2pfl.learning.datasets.image_checks import name_looks_personal
from p2pfl.learning.datasets.table_file import CsvTable, read_csv
from p2pfl.learning.errors import DataRefused, LearningError
from p2pfl.learning.json_request import complain, tell_line

REQUEST_BYTES_MAX: Final = 1 << 16
LOOKED_INTO: Final = 2000
"""Cells of a column that are looked at for dates, record numbers and names."""
PERSONAL_SHARE: Final = 0.2
"""Of those cells, how many have to look alike before it is said."""

_MISSING: Final = ("", "?")
_PERSONAL: Final = re.compile(
    r"(sur|first|last|family|given|full|patient)[ _]?name|^name$|birth|^dob$|address|street|phone"
    r"|mobile|e-?mail|insurance|^ssn$|social|^mrn$|medical[ _]?record|zip|post(al)?[ _]?code",
    re.IGNORECASE,
)


def preview(given: Path, terms: DataTerms | None, *, patient_column: str) -> dict[str, Any]:
    """Look at a CSV or Parquet file. Raises DataRefused for what is no table."""
    table = read_csv(given)
    if patient_column and patient_column not in table.header:
        table.column(patient_column)  # raises, naming the columns there are
    kinds = _kinds(table, terms, patient_column)
    outside = _outside(table, terms) if terms is not None else {}
    columns = []
    for name in table.header:
        count, first = outside.get(name, (0, 0))
        missing = sum(cell in _MISSING for cell in table.column(name))
        columns.append(
            {
                "name": name,
                "kind": kinds[name],
                "missing": missing,
                "outside": count,
                "first_line": first,
            }
        )
    patients = len(set(table.column(patient_column))) if patient_column else len(table.rows)
    return {
        "rows": len(table.rows),
        "patients": patients,
        "columns": columns,
        "labels": _labels(table, terms),
        "warnings": _warnings(table, kinds, patients, patient_column),
    }


def pandera_schema(terms: DataTerms) -> Any:
    """[data] as pandera sees it: every column numeric, inside the agreed range or codes.

    pandera ships no types worth following.
    """
    import pandera.pandas as pandera

    columns: dict[str, Any] = {}
    for column in terms.columns:
        if isinstance(column, CategoryColumn):
            allowed = pandera.Check.isin([*column.categories, *column.missing])
        else:
            low, high, codes = column.low, column.high, list(column.missing)
            allowed = pandera.Check(
                lambda values, low=low, high=high, codes=codes: (
                    values.between(low, high) | values.isin(codes)
                ),
                name=f"between {low:g} and {high:g}",
            )
        columns[column.name] = pandera.Column(float, allowed, nullable=True, coerce=True)
    match terms.target:
        case Target(column=name):
            columns[name] = pandera.Column(float, nullable=False, coerce=True)
        case SurvivalTarget(time=time, event=event):
            above = pandera.Check.greater_than(0.0)
            columns[time] = pandera.Column(float, above, nullable=False, coerce=True)
            columns[event] = pandera.Column(float, nullable=False, coerce=True)
        case None:
            pass
    return pandera.DataFrameSchema(columns, strict=False)


def _outside(table: CsvTable, terms: DataTerms) -> dict[str, tuple[int, int]]:
    """By column: how many cells do not fit, and the line of the first. Raises DataRefused."""
    import pandas
    from pandera.errors import SchemaErrors

    schema = pandera_schema(terms)
    written = pandas.DataFrame({name: table.column(name) for name in schema.columns})
    written = written.replace(list(_MISSING), None)
    numbers = written.apply(pandas.to_numeric, errors="coerce")
    words = numbers.isna() & written.notna()
    wrong: dict[str, set[int]] = {
        str(name): {int(row) for row in words.index[words[name]]} for name in words
    }
    try:
        schema.validate(numbers, lazy=True)
    except SchemaErrors as error:
        for name, group in error.failure_cases.groupby("column"):
            wrong[str(name)] |= {int(row) for row in group["index"].dropna()}
    return {name: (len(rows), table.lines[min(rows)]) for name, rows in wrong.items() if rows}


def _kinds(table: CsvTable, terms: DataTerms | None, patient_column: str) -> dict[str, str]:
    kinds = dict.fromkeys(table.header, "unused" if terms is not None else "")
    for column in terms.columns if terms is not None else ():
        kinds[column.name] = "category" if isinstance(column, CategoryColumn) else "number"
    match terms.target if terms is not None else None:
        case Target(column=name):
            kinds[name] = "target"
        case SurvivalTarget(time=time, event=event):
            kinds[time], kinds[event] = "time", "event"
        case None:
            pass
    if patient_column:
        kinds[patient_column] = "patient"
    return kinds


def _labels(table: CsvTable, terms: DataTerms | None) -> dict[str, int]:
    """Rows of each label, as far as they are numbers."""
    match terms.target if terms is not None else None:
        case Target(column=name, positive_above=above):
            bound, words = above, ("negative", "positive")
        case SurvivalTarget(event=name):
            bound, words = 0.0, ("no event", "event")
        case None:
            return {}
    counts: Counter[str] = Counter()
    for cell in table.column(name):
        try:
            counts[words[float(cell) > bound]] += 1
        except ValueError:
            counts["missing"] += 1
    return dict(counts)


def _warnings(
    table: CsvTable, kinds: Mapping[str, str], patients: int, patient_column: str
) -> list[str]:
    found = []
    rows = len(table.rows)
    if patient_column and patients < rows:
        found.append(f"{rows} rows of {patients} patients: only the first row of each is used")
    repeated = rows - len(set(table.rows))
    if not patient_column and repeated:
        found.append(
            f"{repeated} rows repeat another one: if they are the same patients, name the "
            "column that tells patients apart with --patient-column"
        )
    for name in table.header:
        cells = [cell for cell in table.column(name) if cell not in _MISSING]
        if _PERSONAL.search(name) and kinds[name] != "patient":
            found.append(f'column "{name}" is named like something personal: leave it out')
        elif what := _looks_like(cells[:LOOKED_INTO]):
            found.append(
                f'column "{name}" holds what looks like {what}: leave it out, or replace it by a '
                "pseudonym"
            )
        if rows > 1 and kinds[name] in ("number", "category") and len(set(cells)) <= 1:
            found.append(f'column "{name}" says the same of every patient')
    return found


def _looks_like(cells: Sequence[str]) -> str:
    """What most of the cells seem to tell of a person, "" if nothing."""
    seen = Counter(filter(None, map(name_looks_personal, cells)))
    for what, count in seen.most_common(1):
        if count >= max(1, PERSONAL_SHARE * len(cells)):
            return what
    return ""


def main() -> int:
    """Answer one request; a refusal is one line on stderr."""
    try:
        request = json.loads(sys.stdin.read(REQUEST_BYTES_MAX))
        schema = Path(request["schema"]) if request["schema"] else None
        terms = None if schema is None else parse_data_section(schema.read_bytes())
        if schema is not None and terms is not None and terms.images is not None:
            raise DataRefused(schema.name, 'its kind is not "tabular"', fix="give another --schema")
        facts = preview(Path(request["given"]), terms, patient_column=request["patient_column"])
    except (LearningError, ManifestError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"{error.filename or 'a file'}: {error.strerror}")
    tell_line(facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
