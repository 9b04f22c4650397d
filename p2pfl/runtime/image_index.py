"""The index of a registered folder of images: which file is which patient's, and that it is still
the one that was registered. The images themselves are referred to and never copied.

`images.json` lies in the dataset's directory of the home. It holds the site's own names of
modalities; `mapping.toml` beside it (see `image_mapping`) says what a study calls them. Uses the
standard library only: the node reads it, and so does training.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INDEX_FILE: Final = "images.json"
CACHE_DIRECTORY: Final = "cache"
INDEX_BYTES_MAX: Final = 256 << 20
VERSION: Final = 1
SAMPLED_BYTES: Final = 1 << 16
"""Of a large file its first, middle and last bytes are hashed: a thousand volumes in seconds."""

_FILE_DOMAIN: Final = b"p2pfl/image-file/v1\0"
_KEYED_BYTES: Final = 16


class IndexDamaged(ValueError):
    """`images.json` is missing, too large, or not as this module writes it."""


class FileChanged(ValueError):
    """A file is gone, or not the one that was registered. `args[0]`: which and why."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file, or one folder of DICOM slices, relative to the index's root."""

    path: str
    size: int
    mtime_ns: int
    digest: str
    """Keyed, over the size and samples of the content; hex."""
    channel: int = -1
    """Which channel of a file with several; -1: the whole file."""


@dataclass(frozen=True, slots=True)
class IndexedPatient:
    """One patient's images by the site's own modality names, and the mask if there is one."""

    name: str
    images: Mapping[str, ImageFile]
    mask: ImageFile | None

    @property
    def files(self) -> Iterator[ImageFile]:
        """Every file once."""
        yield from self.images.values()
        if self.mask is not None:
            yield self.mask


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """A folder of images as it was registered."""

    root: Path
    layout: str
    """decathlon | folders | dicom"""
    patients: tuple[IndexedPatient, ...]
    table: ImageFile | None = None
    """The table of demographics, if there is one."""
    table_patient_column: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The site's own names, sorted."""
        return tuple(sorted({name for patient in self.patients for name in patient.images}))

    @property
    def files(self) -> Iterator[ImageFile]:
        """Every file; one with several channels as often as it has channels."""
        if self.table is not None:
            yield self.table
        for patient in self.patients:
            yield from patient.files


def file_facts(root: Path, path: str, key: bytes, *, channel: int = -1) -> ImageFile:
    """Look at a file or a folder of slices, reading a bounded part of it. Raises OSError."""
    digest = hmac.new(key, _FILE_DOMAIN, hashlib.sha256)
    size, mtime_ns = 0, 0
    for file in _parts(root / path):
        found = file.stat()
        size, mtime_ns = size + found.st_size, max(mtime_ns, found.st_mtime_ns)
        digest.update(found.st_size.to_bytes(8, "big"))
        with file.open("rb") as opened:
            for start in _samples(found.st_size):
                opened.seek(start)
                digest.update(opened.read(SAMPLED_BYTES))
    return ImageFile(path, size, mtime_ns, digest.digest()[:_KEYED_BYTES].hex(), channel)


def check_files(index: ImageIndex, key: bytes) -> None:
    """Look whether every file is the registered one: by size and time, else by content.

    Raises FileChanged naming the first that is not.
    """
    seen: set[str] = set()
    for file in index.files:
        if file.path in seen:
            continue
        seen.add(file.path)
        try:
            parts = [part.stat() for part in _parts(index.root / file.path)]
        except OSError as error:
            raise FileChanged(f"{file.path} cannot be read: {error.strerror}") from error
        size = sum(part.st_size for part in parts)
        mtime_ns = max((part.st_mtime_ns for part in parts), default=0)
        if (size, mtime_ns) == (file.size, file.mtime_ns):
            continue
        now = file_facts(index.root, file.path, key)
        if (now.size, now.digest) != (file.size, file.digest):
            raise FileChanged(f"{file.path} is not the file that was registered")


def encode_index(index: ImageIndex) -> bytes:
    """The index as JSON, the same bytes for the same index."""
    document = {
        "version": VERSION,
        "root": str(index.root),
        "layout": index.layout,
        "table": None if index.table is None else _encoded_file(index.table),
        "table_patient_column": index.table_patient_column,
        "patients": [
            {
                "name": patient.name,
                "images": {
                    name: _encoded_file(file) for name, file in sorted(patient.images.items())
                },
                "mask": None if patient.mask is None else _encoded_file(patient.mask),
            }
            for patient in index.patients
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def read_index(path: Path) -> ImageIndex:
    """Read an index strictly. Raises IndexDamaged."""
    try:
        with path.open("rb") as file:
            raw = file.read(INDEX_BYTES_MAX + 1)
    except OSError as error:
        raise IndexDamaged(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > INDEX_BYTES_MAX:
        raise IndexDamaged(f"{path} is larger than {INDEX_BYTES_MAX} bytes")
    try:
        return _decoded(json.loads(raw))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexDamaged(f"{path} is damaged ({type(error).__name__})") from None


def _parts(path: Path) -> list[Path]:
    """The file itself, or the files right inside a folder of slices."""
    if path.is_dir():
        return sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_file())
    return [path]


def _samples(size: int) -> list[int]:
    if size <= 3 * SAMPLED_BYTES:
        return list(range(0, size, SAMPLED_BYTES))
    return [0, size // 2, size - SAMPLED_BYTES]


def _encoded_file(file: ImageFile) -> list[object]:
    return [file.path, file.size, file.mtime_ns, file.digest, file.channel]


def _decoded(document: object) -> ImageIndex:
    fields = _mapping(document)
    if fields["version"] != VERSION:
        raise ValueError("another version")
    table, patients = fields["table"], fields["patients"]
    if not isinstance(patients, list):
        raise TypeError("patients")
    return ImageIndex(
        root=Path(_text(fields["root"])),
        layout=_text(fields["layout"]),
        patients=tuple(_decoded_patient(patient) for patient in patients),
        table=None if table is None else _decoded_file(table),
        table_patient_column=_text(fields["table_patient_column"]),
    )


def _decoded_patient(document: object) -> IndexedPatient:
    fields = _mapping(document)
    images, mask = _mapping(fields["images"]), fields["mask"]
    return IndexedPatient(
        name=_text(fields["name"]),
        images={name: _decoded_file(file) for name, file in images.items()},
        mask=None if mask is None else _decoded_file(mask),
    )


def _decoded_file(document: object) -> ImageFile:
    match document:
        case [str(path), int(size), int(mtime_ns), str(digest), int(channel)]:
            return ImageFile(path, size, mtime_ns, digest, channel)
        case _:
            raise TypeError("file")


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("mapping")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value
