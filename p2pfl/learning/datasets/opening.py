"""A registered dataset of any kind, as patients to train on."""

from __future__ import annotations

from pathlib import Path

from p2pfl.core.manifest_terms import DataTerms
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.tabular import prepare
from p2pfl.learning.standardisation import Standards


def open_patients(
    path: Path,
    terms: DataTerms,
    *,
    patient_column: str,
    standards: Standards | None = None,
    prepared: Path | None = None,
) -> Patients:
    """Prepare what lies at `path` by the manifest's [data] terms.

    path: a table, or the index of registered images; patient_column: of a table, "" for one
    patient per row; standards: released means and deviations that scale the columns; prepared: see
    `open_images`. Raises
    DataRefused, TooFewPatients.
    """
    if terms.images is None:
        return prepare(path, terms, patient_column=patient_column, standards=standards)
    from p2pfl.learning.datasets.images import open_images  # loads nibabel

    return open_images(path, terms, standards, prepared)
