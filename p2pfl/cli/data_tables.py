"""What people see of a table before they register it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl.cli.context import say, say_fields, say_json, say_table, say_wrapped

if TYPE_CHECKING:
    from p2pfl.runtime.commands.data_tables import TablePreview


def preview_table(file: Path, schema: Path | None, patient_column: str, *, as_json: bool) -> None:
    """Look at a table and print what was found."""
    from p2pfl.runtime.commands.data_tables import look_at_table

    seen = look_at_table(file.absolute(), schema.absolute() if schema else None, patient_column)
    if as_json:
        say_json(seen)
        return
    _tell(seen)


def _tell(seen: TablePreview) -> None:
    fields = [("patients", f"{seen.patients}, {seen.rows} rows")]
    if seen.labels:
        labels = ", ".join(f"{name}: {count}" for name, count in sorted(seen.labels.items()))
        fields.append(("labels", f"{labels} (rows)"))
    say_fields(fields)
    say()
    say_table(
        ("column", "used as", "missing", "outside", "first in line"),
        [
            (
                column.name,
                column.kind,
                str(column.missing),
                str(column.outside),
                str(column.first_line) if column.outside else "",
            )
            for column in seen.columns
        ],
    )
    if any(column.outside for column in seen.columns):
        say_wrapped(
            "outside: beyond the range or codes the study agreed on; numbers are clipped to the "
            "range, unknown codes become zeros, words are refused."
        )
    for warning in seen.warnings:
        say_wrapped(f"Warning: {warning}.")
    say("These numbers are for people at this site alone.")
    say()
