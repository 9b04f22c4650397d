"""Writing the site's ledger in the forms of others, from a snapshot, beside a running node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from gossip.identifiers import site_id_of
from ledger.log import LogReader, LogView
from ledger.provenance import exports, report
from ledger.provenance.audit import AuditReport
from p2pfl.runtime.commands.ledger_reading import site_names, study_names
from p2pfl.runtime.commands.ledger_vouching import cosigned_head
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, OperatorError
from p2pfl.runtime.home import Home


class Form(Enum):
    """What a ledger can be exported as."""

    TILES = "tiles"
    PROV = "prov"
    ROCRATE = "rocrate"
    CSV = "csv"
    PROOFS = "proofs"


@dataclass(frozen=True, slots=True)
class ExportDone:
    """What was written where. `files`: relative to the folder."""

    form: str
    folder: str
    size: int
    origin: str
    witnesses: tuple[str, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export_ledger(home: Home, form: Form, folder: Path, *, now_us: int) -> ExportDone:
    """Export the log into a new or empty folder.

    Raises: LedgerError (a damaged log is not exported), OperatorError for the folder."""
    reader = LogReader.open(home.path)
    try:
        _prepare(folder)
        head = exports.head_of(reader, *cosigned_head(home, reader))
        done = _written(home, form, folder, reader, head, now_us)
    finally:
        reader.close()
    return ExportDone(
        form=form.value,
        folder=str(folder),
        size=head.size,
        origin=head.checkpoint.origin,
        witnesses=tuple(key.name for key in head.witnesses),
        files=tuple(str(path.relative_to(folder)) for path in done.files),
        notes=done.sentences,
    )


def report_text(found: AuditReport, form: str) -> str:
    """An audit as text, json or html."""
    match form:
        case "json":
            return report.to_json(found) + "\n"
        case "html":
            return report.to_html(found)
        case _:
            return report.to_text(found)


def write_report(path: Path, text: str) -> None:
    """Write a report to a file that does not exist yet. Raises OperatorError."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OperatorError(
            f"The report cannot be written to {path}: {error.strerror}.",
            fix="Give --out a new file in a folder that can be written to.",
            exit_code=EXIT_CANNOT_CREATE,
        ) from error


def _written(
    home: Home, form: Form, folder: Path, log: LogView, head: exports.ExportHead, now_us: int
) -> exports.Exported:
    site, names = site_id_of(log.identity.identity_pk), site_names(home)
    match form:
        case Form.TILES:
            return exports.export_tiles(log, head, folder)
        case Form.PROV:
            return exports.export_prov(log, head, folder, site, names)
        case Form.ROCRATE:
            about = exports.CrateAbout(site, names, study_names(home), now_us)
            return exports.export_crate(log, head, folder, about)
        case Form.CSV:
            return exports.export_csv(log, head, folder)
        case Form.PROOFS:
            return exports.export_proofs(log, head, folder)
        case _:
            assert_never(form)


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise OperatorError(
            f"{folder} cannot be used: {error.strerror}.",
            fix="Give --out a folder that can be made and written to.",
            exit_code=EXIT_CANNOT_CREATE,
        ) from error
    if taken:
        raise OperatorError(
            f"{folder} is not empty.",
            fix="Give --out a new or empty folder: nothing is ever overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
