"""From a hospital's table to a float32 matrix, by the terms all sites agreed on.

Responsible for preparation without statistics: ranges, typical values and categories come from
the manifest, so preparing data computes nothing from patients and costs no privacy (ARCHITECTURE
invariant 9). Must not know models or torch.

Numbers go from the agreed range to −1…1 and are clipped; a missing number becomes the agreed
typical value (with released statistics: numbers are standardised by them, and a missing one
becomes the mean); categories become one 0/1 column per agreed code; a missing or unknown code is
all zeros, and unknown codes are counted and told to the data manager.

Contribution cap: the unit of privacy is the patient, so a patient gives exactly one record. With
a patient column only the *first* row of each patient is kept (the others are counted and told);
without one, the data manager states that every row is another patient.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import (
    CategoryColumn,
    Column,
    DataTerms,
    NumberColumn,
    SurvivalTarget,
    Target,
)
from p2pfl.learning.datasets.augmentation import Augmentation
from p2pfl.learning.datasets.patients import Batch, Rows
from p2pfl.learning.datasets.table_file import CsvTable, read_csv
from p2pfl.learning.errors import DataRefused, TooFewPatients
from p2pfl.learning.standardisation import Standards

Matrix = NDArray[np.float32]

MISSING: Final = ("", "?")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One record per patient, ready for training.

    features: float32[n, p] in −1…1, contiguous; labels: float32[n], 0 or 1; columns: the p names;
    patients: n keys that tell patients apart (32 bytes each, never leave the process);
    notes: sentences for the data manager, with counts but without values. Of a survival study,
    labels say whether the event happened, and times: float32[n] when, or when last seen. present:
    bool[n, columns], false where a value is missing or its code was not agreed on.
    """

    features: Matrix
    labels: Matrix
    columns: tuple[str, ...]
    patients: tuple[bytes, ...]
    notes: tuple[str, ...]
    times: Matrix | None = None
    present: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.bool_))

    @property
    def size(self) -> int:
        """n, the number of patients."""
        return len(self.labels)

    def rows(self, chosen: NDArray[np.bool_]) -> Prepared:
        """The patients where `chosen` (bool[n]) is true."""
        return Prepared(
            features=np.ascontiguousarray(self.features[chosen]),
            labels=np.ascontiguousarray(self.labels[chosen]),
            columns=self.columns,
            patients=tuple(
                patient for patient, keep in zip(self.patients, chosen, strict=True) if keep
            ),
            notes=self.notes,
            times=None if self.times is None else self.times[chosen],
            present=self.present[chosen] if self.present.size else self.present,
        )

    def augmented(self, augmentation: Augmentation | None) -> Prepared:
        """Tables are trained on as they are."""
        return self

    def batch(self, chosen: Rows | None, generator: np.random.Generator | None) -> Batch:
        """Inputs float32[n, p]; target float32[n], or float32[n, 2] of times and events."""
        everything = slice(None) if chosen is None else chosen
        target = self.labels
        if self.times is not None:
            target = np.stack([self.times, self.labels], axis=1)
        return Batch((self.features[everything],), target[everything])


def prepare(
    path: Path,
    terms: DataTerms,
    *,
    patient_column: str,
    standards: Standards | None = None,
) -> Prepared:
    """Read a CSV file and prepare it by the manifest's [data] terms.

    patient_column: names the column that tells patients apart; "" means one row per patient;
    standards: released means and deviations that scale the numbers.
    Raises DataRefused naming file, line, column and the fix; TooFewPatients.
    """
    table, dropped = _one_row_per_patient(read_csv(path), patient_column)
    if len(table.rows) < terms.patients_min:
        raise TooFewPatients(
            table.name,
            f"{len(table.rows)} patients, the study asks for at least {terms.patients_min}",
            fix="register a larger dataset, or refuse the study",
        )
    features, present, notes = _encode(table, terms.columns, standards)
    labels, times = outcomes(table, terms)
    left_out = (f"{dropped} rows left out: one record per patient",) if dropped else ()
    return Prepared(
        features=features,
        labels=labels,
        columns=feature_names(terms.columns),
        patients=_patient_keys(table, patient_column),
        notes=left_out + notes,
        times=times,
        present=present,
    )


def encode_features(
    table: CsvTable, columns: Sequence[Column], standards: Standards | None = None
) -> tuple[Matrix, tuple[str, ...]]:
    """The model's inputs for every row: float32[n, p] contiguous, and notes for the data manager.

    The label is not looked at: patients whose outcome is unknown have inputs, too.
    Raises DataRefused naming file, line, column and the fix.
    """
    features, _, notes = _encode(table, columns, standards)
    return features, notes


def _encode(
    table: CsvTable, columns: Sequence[Column], standards: Standards | None
) -> tuple[Matrix, NDArray[np.bool_], tuple[str, ...]]:
    """Inputs float32[n, p], which values are there bool[n, columns], and notes."""
    blocks: list[Matrix] = []
    there: list[NDArray[np.bool_]] = []
    notes: list[str] = []
    for column in columns:
        block, present, unknown = _encoded(table, column, standards)
        blocks.append(block)
        there.append(present)
        if unknown:
            notes.append(f'{unknown} rows with a code not agreed on in column "{column.name}"')
    features = np.ascontiguousarray(np.concatenate(blocks, axis=1))
    return features, np.stack(there, axis=1), tuple(notes)


def feature_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """The p names of the prepared columns, in the order in which they reach the model.

    A category column `cp` with the codes 1 and 2 gives `cp=1` and `cp=2`.
    """
    names: list[str] = []
    for column in columns:
        match column:
            case NumberColumn(name=name):
                names.append(name)
            case CategoryColumn(name=name, categories=categories):
                names.extend(f"{name}={category:g}" for category in categories)
            case _:
                assert_never(column)
    return tuple(names)


def _one_row_per_patient(table: CsvTable, patient_column: str) -> tuple[CsvTable, int]:
    """Keep the first row of every patient; return the table and the number of rows left out."""
    if not patient_column:
        return table, 0
    seen: set[str] = set()
    kept: list[int] = []
    for row, patient in enumerate(table.column(patient_column)):
        if not patient:
            raise DataRefused(
                table.place(row, patient_column),
                "no patient is named",
                fix="fill in the patient's pseudonym, or remove the row",
            )
        if patient not in seen:
            seen.add(patient)
            kept.append(row)
    only = CsvTable(
        table.name,
        table.header,
        tuple(table.rows[row] for row in kept),
        tuple(table.lines[row] for row in kept),
    )
    return only, len(table.rows) - len(kept)


def _patient_keys(table: CsvTable, patient_column: str) -> tuple[bytes, ...]:
    """A key per patient that depends on this patient's own record alone, not on its position.

    Without a patient column equal rows are told apart by counting them.
    """
    if patient_column:
        texts = [f"id\0{patient}" for patient in table.column(patient_column)]
    else:
        times: Counter[tuple[str, ...]] = Counter()
        texts = []
        for row in table.rows:
            times[row] += 1
            texts.append("row\0" + "\0".join((*row, str(times[row]))))
    return tuple(hashlib.sha256(text.encode()).digest() for text in texts)


def _encoded(
    table: CsvTable, column: Column, standards: Standards | None
) -> tuple[Matrix, NDArray[np.bool_], int]:
    """One column as float32[n, width], where it has a value, and how many codes are unknown."""
    values, missing = _numbers(table, column.name, column.missing)
    match column:
        case NumberColumn(low=low, high=high, typical=typical):
            values[missing] = typical
            scaled = np.clip((values - low) * (2.0 / (high - low)) - 1.0, -1.0, 1.0)
            if standards is not None:
                mean, deviation = standards[column.name]
                scaled = np.where(missing, 0.0, (scaled - mean) / deviation)
            return scaled.astype(np.float32)[:, None], ~missing, 0
        case CategoryColumn(categories=categories):
            hit = values[:, None] == np.asarray(categories, dtype=np.float64)[None, :]
            hit[missing] = False
            unknown = ~(hit.any(axis=1) | missing)
            return hit.astype(np.float32), hit.any(axis=1), int(unknown.sum())
        case _:
            assert_never(column)


def outcomes(table: CsvTable, terms: DataTerms) -> tuple[Matrix, Matrix | None]:
    """What the rows' patients have: float32[n] labels, 0 or 1 (zeros without a target), and of a
    survival study float32[n] times. Raises DataRefused naming file, line, column and the fix.
    """
    match terms.target:
        case None:
            return np.zeros(len(table.rows), dtype=np.float32), None
        case Target(column=column, positive_above=above):
            return (_complete(table, column) > above).astype(np.float32), None
        case SurvivalTarget(time=time, event=event):
            times = _complete(table, time)
            if (times <= 0.0).any():
                row = int(np.flatnonzero(times <= 0.0)[0])
                raise DataRefused(
                    table.place(row, time), "not above zero", fix="correct it, or remove the row"
                )
            return (_complete(table, event) > 0.0).astype(np.float32), times.astype(np.float32)
        case _:
            assert_never(terms.target)


def _complete(table: CsvTable, column: str) -> NDArray[np.float64]:
    """A column in which nothing may be missing. Returns float64[n]."""
    values, missing = _numbers(table, column, ())
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise DataRefused(
            table.place(row, column),
            "the target is missing",
            fix="fill it in, or remove the row",
        )
    return values


def _numbers(
    table: CsvTable, column: str, codes: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as float64[n] and where it is missing (the values there are NaN)."""
    values = np.full(len(table.rows), np.nan)
    for row, cell in enumerate(table.column(column)):
        if cell in MISSING:
            continue
        try:
            values[row] = float(cell)
        except ValueError:
            raise DataRefused(
                table.place(row, column),
                "not a number",
                fix="write numbers with a decimal point, and leave the cell empty where missing",
            ) from None
        if not np.isfinite(values[row]):
            raise DataRefused(
                table.place(row, column),
                "not a finite number",
                fix="leave the cell empty where the value is missing",
            )
    for code in codes:
        values[values == code] = np.nan
    return values, np.isnan(values)


def label_counts(prepared: Prepared) -> Mapping[str, int]:
    """How many patients have each label; for the data manager's eyes only."""
    positive = int(prepared.labels.sum())
    return {"negative": prepared.size - positive, "positive": positive}
