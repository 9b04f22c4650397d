"""Registering images: a look that shows what is there, then the same record as for a table.

The look runs with the person who asks, before the node hears of it: a thousand volumes take their
time, and a running node has studies to serve. What it found waits in the home until it is
registered.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History
from p2pfl.core.manifest import DataTerms
from p2pfl.core.names import DatasetId
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.commands.overlap import Shared, registered_already, used_datasets
from p2pfl.runtime.datasets import (
    Keyed,
    LocalDataset,
    data_key,
    local_datasets,
    registered_patients,
    registered_rows,
)
from p2pfl.runtime.errors import EXIT_DATA, OperatorError, as_sentence
from p2pfl.runtime.home import Home
from p2pfl.runtime.image_fit import DoesNotFit, fitting
from p2pfl.runtime.image_index import (
    CACHE_DIRECTORY,
    INDEX_FILE,
    ImageIndex,
    IndexDamaged,
    read_index,
)
from p2pfl.runtime.image_mapping import MAPPING_FILE, read_mapping
from p2pfl.runtime.image_scan import Progress, run_scan
from p2pfl.runtime.jsonable import from_json
from p2pfl.runtime.table_check import check_table, patient_key
from p2pfl.runtime.table_rows import KEYED_BYTES, file_fingerprint

PATIENT_FOLDER: Final = "patient's folder"
"""Stands where a table names the column that tells patients apart."""
CONTACT_FILE: Final = "contact.png"
_SCAN_PREFIX: Final = ".scan-"
_COLUMNS: Final = ("files of images",)
_FILE_DOMAIN: Final = b"p2pfl/image-row/v1\0"


@dataclass(frozen=True, slots=True)
class ImagesLook:
    """What to look at; every path absolute, "" and None where not given."""

    given: Path
    schema: Path | None = None
    mapping: Path | None = None
    table: Path | None = None
    patient_column: str = ""


@dataclass(frozen=True, slots=True)
class ImagesPreview:
    """What a data manager is shown before images are registered; for this site's eyes only."""

    patients: int
    volumes: int
    masks: int
    looked_into: int
    """Patients whose voxels were read."""
    modalities: dict[str, int]
    """Patients with each, by the site's own names."""
    shapes: dict[str, int]
    spacings: dict[str, int]
    """Millimetres."""
    labels: dict[str, int]
    """Patients with each, of those looked into."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScannedImages:
    """What was found, as the registration remembers it."""

    keyed: Keyed
    volumes: int
    modalities: tuple[str, ...]
    fingerprint: bytes


@contextlib.contextmanager
def scan_images(
    home: Home, look: ImagesLook, progress: Progress
) -> Iterator[tuple[Path, ImagesPreview]]:
    """Look at a folder; yields where the findings wait, and the preview. Raises OperatorError."""
    scan = Path(tempfile.mkdtemp(prefix=_SCAN_PREFIX, dir=home.data))
    try:
        request = {
            "given": str(look.given),
            "schema": str(look.schema or ""),
            "mapping": str(look.mapping or ""),
            "table": str(look.table or ""),
            "patient_column": look.patient_column,
            "key": data_key(home).hex(),
            "out": str(scan),
        }
        cache = scan / CACHE_DIRECTORY
        cache.mkdir(mode=0o700)
        facts = run_scan(request, progress, scratch=cache)
        shutil.rmtree(cache, ignore_errors=True)
        yield scan, from_json(ImagesPreview, facts)
    finally:
        shutil.rmtree(scan, ignore_errors=True)


def scanned_images(home: Home, scan: Path, key: bytes) -> ScannedImages:
    """Read what a look left behind. Raises OperatorError."""
    if scan.parent != home.data or not scan.name.startswith(_SCAN_PREFIX):
        raise OperatorError(
            f"{scan} does not hold what a look at images found.",
            fix="Register images with `p2pfl data add FOLDER`.",
            exit_code=EXIT_DATA,
        )
    try:
        index = read_index(scan / INDEX_FILE)
    except IndexDamaged as error:
        raise OperatorError(
            as_sentence(str(error)), fix="Run the command again.", exit_code=EXIT_DATA
        ) from error
    patients = tuple(sorted(patient_key(patient.name, key) for patient in index.patients))
    if len(set(patients)) != len(patients):
        raise OperatorError(
            "Two patients have the same name.",
            fix="Give every patient a name of their own.",
            exit_code=EXIT_DATA,
        )
    return ScannedImages(
        keyed=Keyed(patients, _COLUMNS, _file_keys(index, key)),
        volumes=sum(len(list(patient.files)) for patient in index.patients),
        modalities=index.modalities,
        fingerprint=file_fingerprint(scan / INDEX_FILE, key),
    )


def check_new_images(site: Site, history: History, keyed: Keyed) -> tuple[str, ...]:
    """Refuse patients who are registered already, by pseudonym or by the very same images.

    Returns what could not be compared. Raises OperatorError.
    """
    used = used_datasets(site.ledger.entries())
    notes = []
    for dataset in local_datasets(site.home):
        recorded = history.datasets.get(DatasetId(dataset.ds))
        if recorded is None or (recorded.revoked and dataset.ds not in used):
            continue
        found = []
        if dataset.patient_column:
            known = registered_patients(site.home, dataset.name)
            found.append(Shared(len(known.intersection(keyed.patients)), len(keyed.patients), 0.0))
        else:
            notes.append(
                f'cannot be compared with "{dataset.name}", which names no patients: make sure '
                "that no patient is in both, or what was spent on them would count twice"
            )
        columns, rows = registered_rows(site.home, dataset.name)
        if columns == _COLUMNS:
            found.append(Shared(len(rows.intersection(keyed.rows)), len(keyed.rows), 0.0))
        for shared in found:
            if shared.is_too_many:
                raise registered_already(dataset, shared, revoked=recorded.revoked)
    return tuple(notes)


def check_fits(home: Home, dataset: LocalDataset, terms: DataTerms) -> None:
    """Refuse a study whose [data] this dataset cannot serve. Raises OperatorError."""
    if terms.kind != dataset.kind:
        raise OperatorError(
            f'The study is about data of the kind "{terms.kind}", and "{dataset.name}" is '
            f'"{dataset.kind}".',
            fix="Choose another dataset with --data, or refuse the study.",
            exit_code=EXIT_DATA,
        )
    key = data_key(home)
    if terms.images is None:
        check_table(dataset.file, patient_column=dataset.patient_column, terms=terms, key=key)
        return
    try:
        index = read_index(dataset.file)
        mapping = read_mapping(dataset.file.with_name(MAPPING_FILE))
        fit = fitting(index, terms.images, mapping)
    except (IndexDamaged, ManifestError) as error:
        raise OperatorError(
            as_sentence(str(error)), fix=f"Correct it in {dataset.file.parent}, or restore it."
        ) from error
    except DoesNotFit as error:
        raise OperatorError(
            f"{dataset.folder}: {error.problem}.",
            fix=f"In {dataset.file.parent}: {error.fix}.",
            exit_code=EXIT_DATA,
        ) from error
    if len(fit.patients) < terms.patients_min:
        left_out = "; ".join(fit.notes) or "no more are registered"
        raise OperatorError(
            f"{len(fit.patients)} patients have what the study needs, it asks for "
            f"{terms.patients_min} ({left_out}).",
            fix="Register more patients, or refuse the study.",
            exit_code=EXIT_DATA,
        )


def keep_scan(scan: Path, dataset: Path) -> None:
    """Move the findings to the dataset's own directory. Raises OSError."""
    for file in sorted(scan.iterdir()):
        if file.is_file():
            os.replace(file, dataset / file.name)


def _file_keys(index: ImageIndex, key: bytes) -> tuple[bytes, ...]:
    """One per image of a patient; masks may be alike, as where nothing is marked."""
    found = {
        hmac.digest(key, _FILE_DOMAIN + f"{file.digest}/{file.channel}".encode(), "sha256")
        for patient in index.patients
        for file in patient.images.values()
    }
    return tuple(sorted(one[:KEYED_BYTES] for one in found))
