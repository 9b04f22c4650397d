"""Registered images as patients to train on: opened lazily, prepared once, kept in the home.

Responsible for bringing every patient to the study's channels, orientation, spacing and intensity
by agreed terms alone: a volume is scaled by itself or by an agreed range, nothing is computed over
patients. Prepared volumes lie as plain arrays in the dataset's own directory of the home, and are
mapped into memory where they are needed; removing them costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest_terms import DataTerms, ImageTerms
from p2pfl.learning.datasets.augmentation import Augmentation
from p2pfl.learning.datasets.patients import Batch, Rows, Values
from p2pfl.learning.datasets.prepared_volume import Masks, prepared_mask, prepared_volume
from p2pfl.learning.datasets.table_file import CsvTable, read_csv
from p2pfl.learning.datasets.tabular import encode_features, outcomes
from p2pfl.learning.errors import DataRefused, TooFewPatients
from p2pfl.learning.standardisation import Standards
from p2pfl.runtime.image_fit import DoesNotFit, fitting
from p2pfl.runtime.image_index import (
    CACHE_DIRECTORY,
    ImageFile,
    ImageIndex,
    IndexDamaged,
    IndexedPatient,
    read_index,
)
from p2pfl.runtime.image_mapping import MAPPING_FILE, ImageMapping, read_mapping

FOREGROUND_SHARE: Final = 0.5
"""How many training patches are drawn around a marked voxel, where the study marks any."""
_CACHE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One patient's files by the study's channels; None where a modality is missing."""

    name: str
    key: bytes
    channels: tuple[ImageFile | None, ...]
    mask: ImageFile | None


@dataclass(frozen=True, slots=True)
class ImagePatients:
    """A site's patients with images; see `Patients`. table: float32[n, p] prepared columns."""

    terms: ImageTerms
    root: Path
    cache: Path
    records: tuple[ImageRecord, ...]
    table: Values
    labels: Values
    times: Values | None
    label_map: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    has_outcome: bool
    augmentation: Augmentation | None = None

    @property
    def size(self) -> int:
        """n, the number of patients."""
        return len(self.records)

    @property
    def patients(self) -> tuple[bytes, ...]:
        """n keys of 32 bytes."""
        return tuple(record.key for record in self.records)

    def rows(self, chosen: NDArray[np.bool_]) -> ImagePatients:
        """The patients where `chosen` (bool[n]) is true."""
        return replace(
            self,
            records=tuple(
                record for record, keep in zip(self.records, chosen, strict=True) if keep
            ),
            table=self.table[chosen],
            labels=self.labels[chosen],
            times=None if self.times is None else self.times[chosen],
        )

    def augmented(self, augmentation: Augmentation | None) -> ImagePatients:
        """The same patients, drawn a little differently each time they are trained on."""
        return replace(self, augmentation=augmentation)

    def batch(self, chosen: Rows | None, generator: np.random.Generator | None) -> Batch:
        """Windows float32[n, channels, …], columns if there are any; target: regions or outcome."""
        rows = np.arange(self.size) if chosen is None else chosen
        images, masks = [], []
        for row in rows:
            image, mask = self._window(int(row), generator)
            images.append(image)
            masks.append(mask)
        stacked = np.stack(images) if images else np.zeros((0,), dtype=np.float32)
        inputs = (stacked,) if self.table.shape[1] == 0 else (stacked, self.table[rows])
        if not self.has_outcome:
            return Batch(inputs, np.stack([self._marked(mask) for mask in masks]))
        target = self.labels[rows]
        if self.times is not None:
            target = np.stack([self.times[rows], target], axis=1)
        return Batch(inputs, target)

    def volume(self, row: int) -> tuple[Values, Masks]:
        """A whole prepared volume: float32[channels, x, y, z] and its mask uint8[x, y, z].

        Both are mapped, not read. Raises DataRefused.
        """
        record = self.records[row]
        volume = prepared_volume(
            self.terms, record.channels, root=self.root, cache=self._cached(record, "image")
        )
        if record.mask is None:
            return volume, np.zeros(volume.shape[1:], dtype=np.uint8)
        mask = prepared_mask(
            self.terms,
            record.mask,
            shape=volume.shape[1:],
            labels=dict(self.label_map),
            root=self.root,
            cache=self._cached(record, "mask"),
        )
        return volume, mask

    def regions_of(self, mask: Masks) -> Values:
        """float32[regions, …], 1 where a voxel's label belongs to the region."""
        return self._marked(mask)

    def _marked(self, mask: Masks) -> Values:
        return np.stack(
            [np.isin(mask, region.labels).astype(np.float32) for region in self.terms.regions]
        )

    def _window(self, row: int, generator: np.random.Generator | None) -> tuple[Values, Masks]:
        """One window of one patient; of two-dimensional studies a slice without its third axis."""
        volume, mask = self.volume(row)
        window = (*self.terms.window, 1)[:3]
        corner = [(side - size) // 2 for side, size in zip(mask.shape, window, strict=True)]
        if generator is not None and self.terms.placement == "patches":
            corner = self._drawn_corner(mask, window, generator)
        place = tuple(slice(at, at + size) for at, size in zip(corner, window, strict=True))
        image = np.array(volume[(slice(None), *place)], dtype=np.float32)
        marked = np.array(mask[place])
        if len(self.terms.window) == 2:
            image, marked = image[..., 0], marked[..., 0]
        if generator is not None and self.augmentation is not None:
            image, marked = self.augmentation.drawn(
                image, marked, generator, measured=len(self.terms.modalities)
            )
        return image, marked

    def _drawn_corner(
        self, mask: Masks, window: Sequence[int], generator: np.random.Generator
    ) -> list[int]:
        room = [side - size for side, size in zip(mask.shape, window, strict=True)]
        marked = np.flatnonzero(np.asarray(mask)) if self.terms.regions else np.empty(0)
        if len(marked) and generator.random() < FOREGROUND_SHARE:
            middle = np.unravel_index(int(generator.choice(marked)), mask.shape)
            return [
                int(min(max(0, at - size // 2), free))
                for at, size, free in zip(middle, window, room, strict=True)
            ]
        return [int(generator.integers(0, free + 1)) for free in room]

    def _cached(self, record: ImageRecord, part: str) -> Path:
        """Where this patient's prepared part lies: named by the files and by how it is prepared."""
        terms = self.terms
        told = {
            "version": _CACHE_VERSION,
            "part": part,
            "files": [
                None if file is None else [file.path, file.digest, file.channel]
                for file in (*record.channels, record.mask)
            ],
            "window": terms.window,
            "placement": terms.placement,
            "spacing": terms.spacing,
            "intensity": [terms.intensity, *terms.intensity_range],
            "masked": terms.channels,
            "labels": self.label_map,
        }
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:40]
        return self.cache / f"{name}.npy"


def open_images(
    path: Path,
    terms: DataTerms,
    standards: Standards | None = None,
    prepared: Path | None = None,
) -> ImagePatients:
    """Open a registered folder of images by its index; no volume is read yet.

    standards: released means and deviations that scale the columns beside the images. prepared:
    where volumes are kept once they are prepared [default: beside the index, for every study].
    Raises DataRefused, TooFewPatients.
    """
    assert terms.images is not None, "called for images"
    try:
        index, mapping = read_index(path), read_mapping(path.with_name(MAPPING_FILE))
    except (IndexDamaged, ManifestError, OSError) as error:
        raise DataRefused(
            path.name, str(error), fix="restore the home from its backup, or correct the mapping"
        ) from None
    try:
        fit = fitting(index, terms.images, mapping)
    except DoesNotFit as error:
        raise DataRefused(str(index.root), error.problem, fix=error.fix) from None
    kept, notes = fit.patients, fit.notes
    table = rows_of_table(index, terms, mapping, [patient.name for patient in kept])
    if len(kept) < terms.patients_min:
        raise TooFewPatients(
            str(index.root),
            f"{len(kept)} patients with what the study needs, it asks for at least "
            f"{terms.patients_min}",
            fix="register more patients, or refuse the study",
        )
    if table is None:
        features = np.zeros((len(kept), 0), dtype=np.float32)
        labels, times = np.zeros(len(kept), dtype=np.float32), None
    else:
        features, more = (
            encode_features(table, terms.columns, standards)
            if terms.columns
            else (np.zeros((len(kept), 0), dtype=np.float32), ())
        )
        labels, times = outcomes(table, terms)
        notes += more
    return ImagePatients(
        terms=terms.images,
        root=index.root,
        cache=prepared or path.parent / CACHE_DIRECTORY,
        records=tuple(image_record(patient, index, terms.images, mapping) for patient in kept),
        table=features,
        labels=labels,
        times=times,
        label_map=tuple(sorted(mapping.labels.items())),
        notes=notes,
        has_outcome=terms.target is not None,
    )


def image_record(
    patient: IndexedPatient, index: ImageIndex, terms: ImageTerms, mapping: ImageMapping
) -> ImageRecord:
    """A patient's files in the order of the study's modalities."""
    own = [mapping.own_modality(name, index.modalities) for name in terms.modalities]
    return ImageRecord(
        name=patient.name,
        key=hashlib.sha256(f"id\0{patient.name}".encode()).digest(),
        channels=tuple(patient.images.get(name) if name else None for name in own),
        mask=patient.mask if terms.regions else None,
    )


def rows_of_table(
    index: ImageIndex, terms: DataTerms, mapping: ImageMapping, names: Sequence[str]
) -> CsvTable | None:
    """The patients' rows of the demographics, in the images' order and by the study's names.

    None where the study needs no columns. Raises DataRefused.
    """
    if not terms.columns and terms.target is None:
        return None
    if index.table is None:
        raise DataRefused(
            str(index.root),
            "the study needs columns of a table, and none was registered with the images",
            fix="register the folder again with --table FILE",
        )
    table = read_csv(index.root / index.table.path)
    patient_cells = table.column(index.table_patient_column)
    place = {cell: row for row, cell in reversed(list(enumerate(patient_cells)))}
    missing = [name for name in names if name not in place]
    if missing:
        raise DataRefused(
            table.name,
            f"{len(missing)} of {len(names)} patients with images have no row",
            fix=f'complete the column "{index.table_patient_column}"',
        )
    study_name = {mapping.own_column(name): name for name in _wanted_columns(terms)}
    rows = [place[name] for name in names]
    return CsvTable(
        table.name,
        tuple(study_name.get(cell, cell) for cell in table.header),
        tuple(table.rows[row] for row in rows),
        tuple(table.lines[row] for row in rows),
    )


def _wanted_columns(terms: DataTerms) -> tuple[str, ...]:
    names = tuple(column.name for column in terms.columns)
    return names + (terms.target.names if terms.target is not None else ())
