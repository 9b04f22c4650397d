"""Registered datasets as they lie at the site: where the file is, and how to know it is the same.

Nothing is copied: `data/<name>/dataset.toml` holds a reference (for images to their folder, with
`images.json` beside it as the index of their files, see `image_index`), `patients.keyed` one keyed
hash per patient (to find overlaps), `schema.toml` the [data] terms it was checked against. That a
dataset exists, its cap and its δ, are the ledger's to say.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli_w

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest_table import Table, parse_toml
from p2pfl.runtime.errors import EXIT_CONFIG, EXIT_DATA, EXIT_NO_INPUT, OperatorError, as_sentence
from p2pfl.runtime.home import Home, read_own, write_durably
from p2pfl.runtime.image_index import (
    CACHE_DIRECTORY,
    INDEX_FILE,
    FileChanged,
    IndexDamaged,
    check_files,
    read_index,
)
from p2pfl.runtime.image_mapping import MAPPING_FILE
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.table_rows import KEYED_BYTES, file_fingerprint

TERMS_BYTES_MAX = 65_536
FINGERPRINT_FIELD: Final = "dataset.fingerprint"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

KINDS: Final = ("tabular", "images")

_KEYS: Final = ("name", "ds", "kind", "file", "patient_column", "patients", "rows", "fingerprint")
_FILE: Final = re.compile(r"/[^\x00-\x1f]{1,4000}")
_COLUMN: Final = re.compile(r"[^\x00-\x1f\x7f]{0,64}")


@dataclass(frozen=True, slots=True)
class LocalDataset:
    """What the site itself knows about a dataset; none of it leaves the site."""

    name: str
    ds: bytes
    """The id in the ledger, 32 random bytes."""
    file: Path
    """What training opens: the table, or the index of images."""
    patient_column: str
    """"" where every row is another patient."""
    patients: int
    rows: int
    """Of images: volumes."""
    fingerprint: bytes
    """HMAC of the file under the site's data key."""
    folder: Path | None = None
    """Where the images lie; None for a table."""

    @property
    def kind(self) -> str:
        """tabular | images, as in [data] of a manifest."""
        return "tabular" if self.folder is None else "images"

    @property
    def given(self) -> Path:
        """What the data manager named."""
        return self.folder or self.file


@dataclass(frozen=True, slots=True)
class Keyed:
    """What later registrations are compared with: hashes under the site's data key."""

    patients: tuple[bytes, ...]
    columns: tuple[str, ...]
    rows: tuple[bytes, ...]
    """One per row, over `columns`."""


def write_dataset(home: Home, dataset: LocalDataset, keyed: Keyed, schema: bytes) -> None:
    """Store what the site has to remember; the ledger entry comes after it."""
    directory = home.dataset(dataset.name)
    directory.mkdir(mode=0o700, exist_ok=True)
    write_durably(directory / "patients.keyed", b"".join(keyed.patients))
    write_durably(directory / "rows.keyed", b"".join(keyed.rows))
    write_durably(directory / "columns.json", json.dumps(keyed.columns).encode())
    # An interrupted registration may have left one under the same name.
    (directory / "schema.toml").unlink(missing_ok=True)
    if schema:
        write_durably(directory / "schema.toml", schema)
    document = {
        "name": dataset.name,
        "ds": dataset.ds.hex(),
        "kind": dataset.kind,
        "file": str(dataset.given),
        "patient_column": dataset.patient_column,
        "patients": dataset.patients,
        "rows": dataset.rows,
        "fingerprint": dataset.fingerprint.hex(),
    }
    write_durably(directory / "dataset.toml", tomli_w.dumps(document).encode())


def read_dataset(home: Home, name: str) -> LocalDataset:
    """The dataset called `name`. Raises OperatorError."""
    path = home.dataset(name) / "dataset.toml"
    try:
        table = Table(
            parse_toml(read_own(path, TERMS_BYTES_MAX), bytes_max=TERMS_BYTES_MAX), "", _KEYS
        )
        given = Path(table.text("file", _FILE, "an absolute path"))
        # Written before there were images: a table.
        is_table = not table.has("kind") or table.choice("kind", KINDS) == "tabular"
        return LocalDataset(
            name=table.text("name", NAME, "a short name"),
            ds=table.digest("ds"),
            file=given if is_table else home.dataset(name) / INDEX_FILE,
            patient_column=table.text("patient_column", _COLUMN, "a column's name"),
            patients=table.integer("patients", 0, 1 << 40),
            rows=table.integer("rows", 0, 1 << 40),
            fingerprint=table.digest("fingerprint"),
            folder=None if is_table else given,
        )
    except (FileNotFoundError, NotADirectoryError):
        raise OperatorError(
            f'There is no dataset called "{name}" here.',
            fix="See `p2pfl data list`, or register it with `p2pfl data add`.",
            exit_code=EXIT_NO_INPUT,
        ) from None
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"{path}: {error}"),
            fix="Restore it from the backup of this home.",
            exit_code=EXIT_CONFIG,
        ) from error


def local_datasets(home: Home) -> Iterator[LocalDataset]:
    """All datasets, by name. Raises OperatorError for a damaged one."""
    for directory in sorted(home.data.iterdir()):
        if (directory / "dataset.toml").is_file():
            yield read_dataset(home, directory.name)


def dataset_of(home: Home, ds: bytes) -> LocalDataset:
    """The dataset with this ledger id. Raises OperatorError."""
    for dataset in local_datasets(home):
        if dataset.ds == ds:
            return dataset
    raise OperatorError(
        f"The particulars of dataset {ds.hex()[:12]} are missing from {home.data}.",
        fix="Restore them from the backup of this home, or revoke the dataset.",
        exit_code=EXIT_NO_INPUT,
    )


def check_unchanged(home: Home, dataset: LocalDataset) -> None:
    """Refuse to train on a file that is not the one that was registered. Raises OperatorError."""
    if not dataset.file.exists():
        raise OperatorError(
            f'The file of dataset "{dataset.name}" is no longer at {dataset.file}.',
            fix="Put it back, or a link to where it is now; or withdraw it with `p2pfl data "
            f"revoke {dataset.name}`.",
            exit_code=EXIT_NO_INPUT,
        )
    if file_fingerprint(dataset.file, data_key(home)) != dataset.fingerprint:
        raise OperatorError(
            f'The file of dataset "{dataset.name}" changed since it was registered.',
            fix=f"Restore {dataset.file} as it was. Other data is another dataset: `p2pfl data "
            "add`.",
            exit_code=EXIT_DATA,
        )
    if dataset.folder is not None:
        _check_images(home, dataset)


def _check_images(home: Home, dataset: LocalDataset) -> None:
    try:
        check_files(read_index(dataset.file), data_key(home))
    except IndexDamaged as error:
        raise OperatorError(
            as_sentence(str(error)), fix="Restore it from the backup of this home."
        ) from error
    except FileChanged as error:
        raise OperatorError(
            f'Of dataset "{dataset.name}", {error}.',
            fix=f"Restore it below {dataset.folder}. Other images are another dataset: `p2pfl "
            "data add`.",
            exit_code=EXIT_DATA,
        ) from error


def reached_by_training(dataset: LocalDataset) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """What a training process has to read besides `file`, and where it keeps prepared images.

    Raises OperatorError.
    """
    if dataset.folder is None:
        return (), ()
    try:
        index = read_index(dataset.file)
    except IndexDamaged as error:
        raise OperatorError(
            as_sentence(str(error)), fix="Restore it from the backup of this home."
        ) from error
    cache = dataset.file.with_name(CACHE_DIRECTORY)
    cache.mkdir(mode=0o700, exist_ok=True)
    mapping = dataset.file.with_name(MAPPING_FILE)
    tables = () if index.table is None else ((index.root / index.table.path).resolve(),)
    return (index.root.resolve(), mapping, *tables), (cache,)


def forget_prepared(dataset: LocalDataset) -> None:
    """Remove what training kept of a dataset's images. What is missing is no error."""
    if dataset.folder is not None:
        shutil.rmtree(dataset.file.with_name(CACHE_DIRECTORY), ignore_errors=True)


def registered_patients(home: Home, name: str) -> frozenset[bytes]:
    """The keyed patient hashes of a dataset. Raises OperatorError."""
    return _keyed(home.dataset(name) / "patients.keyed")


def registered_rows(home: Home, name: str) -> tuple[tuple[str, ...], frozenset[bytes]]:
    """The columns of a dataset, and its keyed row hashes over them. Raises OperatorError."""
    path = home.dataset(name) / "columns.json"
    try:
        columns: Json = json.loads(path.read_bytes())
    except (OSError, ValueError):
        columns = None
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise _damaged(path)
    return tuple(map(str, columns)), _keyed(home.dataset(name) / "rows.keyed")


def _keyed(path: Path) -> frozenset[bytes]:
    try:
        raw = path.read_bytes()
    except OSError:
        raw = b""
    # Nothing to compare with would let the same patients in again.
    if not raw or len(raw) % KEYED_BYTES:
        raise _damaged(path)
    return frozenset(raw[at : at + KEYED_BYTES] for at in range(0, len(raw), KEYED_BYTES))


def _damaged(path: Path) -> OperatorError:
    return OperatorError(
        f"{path} is missing or damaged.",
        fix="Restore it from the backup of this home.",
        exit_code=EXIT_CONFIG,
    )


def schema_of(home: Home, name: str) -> bytes:
    """The TOML with the [data] section a dataset was checked against; empty if there is none."""
    path = home.dataset(name) / "schema.toml"
    return read_own(path, TERMS_BYTES_MAX) if path.is_file() else b""


def write_data_key(home: Home, key: bytes) -> None:
    """Store the key of fingerprints and patient hashes (32 bytes), once."""
    write_durably(home.keys / "data.key", key.hex().encode() + b"\n")


def data_key(home: Home) -> bytes:
    """The key of fingerprints and patient hashes. Raises OperatorError."""
    path = home.keys / "data.key"
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise _damaged(path)
    return key
