"""Looking at a folder of images: `python -m p2pfl.learning.datasets.registration`, JSON in and out.

Responsible for the index, the preview and the contact sheet of what a data manager registers, in a
short-lived process, because the node and its commands load no imaging library.

In:  {given: path, schema: path or "", mapping: path or "", table: path or "", patient_column,
      key: hex, out: folder}
Out: lines {"done": n, "of": m} while it looks, and at last {"facts": {…}}; `out` then holds
     images.json, mapping.toml and contact.png.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_data_section
from p2pfl.core.manifest_terms import DataTerms
from p2pfl.learning.datasets.contact_sheet import write_contact_sheet
from p2pfl.learning.datasets.image_checks import ImageFacts, check_images
from p2pfl.learning.datasets.images import open_images
from p2pfl.learning.datasets.layouts import FoundFolder, find_patients
from p2pfl.learning.datasets.table_file import CsvTable, read_csv
from p2pfl.learning.errors import DataRefused, LearningError
from p2pfl.learning.json_request import complain, tell_line
from p2pfl.runtime.image_index import INDEX_FILE, ImageIndex, encode_index, file_facts
from p2pfl.runtime.image_mapping import (
    MAPPING_FILE,
    ImageMapping,
    encode_mapping,
    read_mapping,
)

REQUEST_BYTES_MAX: Final = 1 << 16
CONTACT_FILE: Final = "contact.png"
PATIENT_COLUMNS: Final = ("participant_id", "patient", "patient_id", "subject")
TOLD_EVERY: Final = 16


def main() -> int:
    """Answer one request; a refusal is one line on stderr."""
    try:
        request = json.loads(sys.stdin.read(REQUEST_BYTES_MAX))
        facts = register(request)
    except (LearningError, ManifestError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"{error.filename or 'a file'}: {error.strerror}")
    tell_line({"facts": facts.to_json()})
    return 0


def register(request: Mapping[str, str]) -> ImageFacts:
    """Look at the folder and write what is needed later. Raises DataRefused, ManifestError."""
    out, key = Path(request["out"]), bytes.fromhex(request["key"])
    terms = parse_data_section(Path(request["schema"]).read_bytes()) if request["schema"] else None
    if terms is not None and terms.images is None:
        raise DataRefused(
            Path(request["schema"]).name, 'its kind is not "images"', fix="give another --schema"
        )
    written = read_mapping(Path(request["mapping"])) if request["mapping"] else ImageMapping()
    found = find_patients(Path(request["given"]))
    images = None if terms is None else terms.images
    index, facts = check_images(found, images, written, key, progress=_progress)
    index = _with_table(index, found, request, key, facts)
    mapping = _completed(written, index, terms)
    _write(out / INDEX_FILE, encode_index(index))
    _write(out / MAPPING_FILE, encode_mapping(mapping))
    if terms is not None:
        opened = open_images(out / INDEX_FILE, terms)  # what a study would say to it
        facts.warnings += opened.notes
    write_contact_sheet(found, out / CONTACT_FILE)
    return facts


def _with_table(
    index: ImageIndex,
    found: FoundFolder,
    request: Mapping[str, str],
    key: bytes,
    facts: ImageFacts,
) -> ImageIndex:
    """Add the table of demographics, and count what is missing in it."""
    given = request["table"] or (str(found.root / found.table) if found.table else "")
    if not given:
        return index
    path = Path(given)
    relative = os.path.relpath(path, found.root)
    table = read_csv(path)
    column = patient_column_of(table, request["patient_column"])
    known = set(table.column(column))
    without = sum(patient.name not in known for patient in index.patients)
    if without:
        facts.warnings.append(f"{without} patients with images have no row in {table.name}")
    for name in table.header:
        missing = sum(cell in ("", "?", "n/a") for cell in table.column(name))
        if missing:
            facts.warnings.append(f'column "{name}": {missing} of {len(table.rows)} values missing')
    return replace(index, table=file_facts(found.root, relative, key), table_patient_column=column)


def patient_column_of(table: CsvTable, given: str) -> str:
    """The given column, or the first that is called as such columns are. Raises DataRefused."""
    column = given or next((name for name in PATIENT_COLUMNS if name in table.header), "")
    if not column:
        raise DataRefused(
            table.name,
            f"which column names the patient? The header has {', '.join(table.header[:20])}",
            fix="give --patient-column",
        )
    return column


def _completed(mapping: ImageMapping, index: ImageIndex, terms: DataTerms | None) -> ImageMapping:
    """The mapping with what was found by name written out, so that people see and edit it."""
    if terms is None or terms.images is None:
        return mapping
    found = dict(mapping.modalities)
    for name in terms.images.modalities:
        own = mapping.own_modality(name, index.modalities)
        if own is not None:
            found[name] = own
    return replace(mapping, modalities=found)


def _write(path: Path, raw: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(raw)


def _progress(done: int, of: int) -> None:
    if done % TOLD_EVERY == 0 or done == of:
        tell_line({"done": done, "of": of})


if __name__ == "__main__":
    sys.exit(main())
