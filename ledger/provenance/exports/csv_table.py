"""The entries as a table for a spreadsheet: one line each, the body as JSON in the last column."""

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ledger.log import LogView, Value
from ledger.provenance.exports.heads import Exported, ExportHead, write_text

COLUMNS = ("seq", "time_us", "time", "kind", "actor", "leaf", "body")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_csv(log: LogView, head: ExportHead, folder: Path) -> Exported:
    """Write `entries.csv` (RFC 4180, UTF-8)."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for entry in log.entries(0, head.size):
        body = json.dumps(plain(entry.body), ensure_ascii=False, sort_keys=True)
        row = (entry.kind, entry.actor, entry.leaf.hex(), body)
        moment = iso_time(entry.time_us)
        table.writerow((entry.seq, entry.time_us, moment, *map(_harmless, row)))
    path = write_text(folder / "entries.csv", text.getvalue())
    sentence = (
        f"All {head.size} entries, also those that only this site may read. A table proves "
        "nothing: export proofs for that."
    )
    return Exported((path,), (sentence,))


def iso_time(time_us: int) -> str:
    """A time as ISO 8601; empty where no calendar has it."""
    try:
        return datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def plain(value: Value | Mapping[str, Value]) -> object:
    """A value of an entry as JSON knows it; bytes as hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _harmless(cell: str) -> str:
    """A spreadsheet runs what begins like a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell
