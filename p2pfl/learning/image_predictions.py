"""A released model on scans nobody marked: `python -m p2pfl.learning.image_predictions`, JSON.

Responsible for folders of images that are registered nowhere: patients are found as registration
finds them, each is prepared, predicted and written before the next one, and one that cannot be
read does not stop the others. What is written goes into the folder of the request, readable by its
owner only.

In:  {manifest, model, home_layers: path, there or not, given, mapping: path or "",
      table: path or "", patient_column, out, scratch, format: "auto" | "nifti" | "dicom-seg",
      materials: {use: path}}
Out: lines {"done": n, "of": m}, at last {"facts": {patients, refused: [{patient, problem}], notes,
     files: [name]}}
Of regions: PATIENT_seg.nii.gz or PATIENT_seg.dcm, PATIENT.png, and volumes.csv with millilitres.
Of a yes or no: predictions.csv with the patient and a probability.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import ImageTerms, Manifest
from p2pfl.learning.at_home import used_here
from p2pfl.learning.datasets.images import ImagePatients, image_record, rows_of_table
from p2pfl.learning.datasets.layouts import FoundFile, FoundFolder, find_patients
from p2pfl.learning.datasets.patients import Values
from p2pfl.learning.datasets.registration import patient_column_of
from p2pfl.learning.datasets.table_file import read_csv
from p2pfl.learning.datasets.tabular import encode_features
from p2pfl.learning.datasets.volumes import read_voxels
from p2pfl.learning.errors import DataRefused, LearningError, PlanRefused, RequestRefused
from p2pfl.learning.evaluation import Predictor, probabilities
from p2pfl.learning.json_request import complain, tell_line
from p2pfl.learning.marked_files import (
    MadeBy,
    draw_marks,
    require_series,
    write_labels,
    write_segmentation,
)
from p2pfl.learning.marking import Marker
from p2pfl.learning.materials import Materials
from p2pfl.learning.scan_grid import Labels, ScanGrid, back_on_scan, grid_of, labels_of
from p2pfl.learning.vector import Vector, read_vector
from p2pfl.runtime.image_fit import DoesNotFit, fitting
from p2pfl.runtime.image_index import ImageFile, ImageIndex, IndexedPatient
from p2pfl.runtime.image_mapping import ImageMapping, read_mapping

REQUEST_BYTES_MAX: Final = 1 << 20
FORMATS: Final = ("auto", "nifti", "dicom-seg")
VOLUMES_FILE: Final = "volumes.csv"
PREDICTIONS_FILE: Final = "predictions.csv"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, opened."""

    manifest: Manifest
    terms: ImageTerms
    model: Vector
    out: Path
    format: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A patient nothing could be predicted for, and why."""

    patient: str
    problem: str


def main() -> int:
    """Answer one request; a refusal is one line on stderr."""
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    try:
        facts = predict(json.loads(sys.stdin.read(REQUEST_BYTES_MAX)))
    except (LearningError, ManifestError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"{error.filename or 'a file'}: {error.strerror}")
    tell_line({"facts": facts})
    return 0


def predict(request: Mapping[str, object]) -> dict[str, object]:
    """Predict for every patient of the folder; see the module. Raises LearningError, OSError."""
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    if manifest.data.images is None:
        raise RequestRefused("the study's data are no images")
    if request["format"] not in FORMATS:
        raise RequestRefused(f'"format" is {request["format"]!r}, expected {", ".join(FORMATS)}')
    shared = read_vector(Path(str(request["model"])), manifest.study.parameters)
    asked = Asked(
        manifest,
        manifest.data.images,
        used_here(shared, manifest, Path(str(request["home_layers"]))),
        Path(str(request["out"])),
        str(request["format"]),
    )
    found = find_patients(Path(str(request["given"])))
    mapping = read_mapping(Path(str(request["mapping"]))) if request["mapping"] else ImageMapping()
    patients, notes = _opened(asked, found, mapping, request)
    each: Callable[[ImagePatients, int], list[str]]
    if asked.terms.regions:
        header, each = [f"{region.name} (ml)" for region in asked.terms.regions], _Marks(asked)
        summary = VOLUMES_FILE
    elif manifest.data.target is not None:
        header, each, summary = ["probability"], _Probability(asked), PREDICTIONS_FILE
    else:
        raise PlanRefused(f'plan "{manifest.plan.name}" predicts nothing about a patient')
    rows, refused = _one_by_one(patients, each)
    if not rows:
        first = refused[0]
        raise DataRefused(first.patient, first.problem, fix="correct the files and predict again")
    _write_rows(asked.out / summary, ["patient", *header], rows)
    return {
        "patients": len(rows),
        "refused": [{"patient": one.patient, "problem": one.problem} for one in refused],
        "notes": [*notes, *_window_notes(asked.terms)],
        "files": sorted(path.name for path in asked.out.iterdir()),
    }


class _Marks:
    """Labels, picture and volumes of one patient after the other."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._marker = Marker(asked.manifest)
        self._made_by = MadeBy.of(asked.manifest)

    def __call__(self, patients: ImagePatients, row: int) -> list[str]:
        record, terms = patients.records[row], self._asked.terms
        # Every modality lies on one grid; the first that is there names it.
        first = next(file for file in record.channels if file is not None)
        source = patients.root / first.path
        if self._asked.format == "dicom-seg":
            require_series(source, first.path)
        grid = grid_of(source, first.path)
        volume, _ = patients.volume(row)
        logits = back_on_scan(self._marker.logits(self._asked.model, volume), grid, terms)
        labels = labels_of(logits, terms.regions)
        stem = self._asked.out / _file_name(record.name, row)
        if source.is_dir() and self._asked.format != "nifti":
            made = stem.with_name(f"{stem.name}_seg.dcm")
            write_segmentation(made, labels, source, terms.regions, self._made_by)
        else:
            made = stem.with_name(f"{stem.name}_seg.nii.gz")
            write_labels(made, labels, grid)
        picture = stem.with_name(f"{stem.name}.png")
        shown, _ = read_voxels(source, first.path, channel=first.channel)
        draw_marks(picture, record.name, shown, labels, terms.regions, grid)
        for path in (made, picture):
            os.chmod(path, 0o600)
        return _millilitres(labels, grid, terms)


class _Probability:
    """The chance of the target for one patient after the other."""

    def __init__(self, asked: Asked) -> None:
        self._predictor = Predictor(asked.manifest, asked.model)

    def __call__(self, patients: ImagePatients, row: int) -> list[str]:
        batch = patients.batch(np.array([row]), None)
        odds = self._predictor.log_odds(*batch.inputs)
        return [f"{probabilities(odds)[0]:.6f}"]


def _one_by_one(
    patients: ImagePatients, each: Callable[[ImagePatients, int], list[str]]
) -> tuple[list[list[str]], list[Refused]]:
    """A row for each patient who could be read; nothing prepared is kept."""
    rows: list[list[str]] = []
    refused: list[Refused] = []
    for row, record in enumerate(patients.records):
        try:
            rows.append([record.name, *each(patients, row)])
        except DataRefused as error:
            refused.append(Refused(record.name, str(error)))
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(patients.cache)
        tell_line({"done": row + 1, "of": patients.size})
    return rows, refused


def _opened(
    asked: Asked, found: FoundFolder, mapping: ImageMapping, request: Mapping[str, object]
) -> tuple[ImagePatients, tuple[str, ...]]:
    """The folder's patients, without masks and outcomes. Raises DataRefused."""
    unmarked = replace(asked.terms, regions=())
    index = _index_of(found)
    try:
        fit = fitting(index, unmarked, mapping)
    except DoesNotFit as error:
        raise DataRefused(str(found.root), error.problem, fix=error.fix) from None
    if not fit.patients:
        raise DataRefused(
            str(found.root),
            "no patient has the images that the model needs; " + "; ".join(fit.notes),
            fix=f"it needs {', '.join(asked.terms.modalities)}",
        )
    names = [patient.name for patient in fit.patients]
    features, more = _columns(asked, found, index, mapping, names, request)
    patients = ImagePatients(
        terms=asked.terms,
        root=index.root,
        cache=Path(str(request["scratch"])) / "prepared",
        records=tuple(image_record(patient, index, unmarked, mapping) for patient in fit.patients),
        table=features,
        labels=np.zeros(len(names), dtype=np.float32),
        times=None,
        label_map=(),
        notes=fit.notes,
        has_outcome=not asked.terms.regions,
    )
    return patients, fit.notes + more


def _columns(
    asked: Asked,
    found: FoundFolder,
    index: ImageIndex,
    mapping: ImageMapping,
    names: Sequence[str],
    request: Mapping[str, object],
) -> tuple[Values, tuple[str, ...]]:
    """What the model takes from a table, float32[n, p], and notes. Raises DataRefused."""
    data = asked.manifest.data
    if not data.columns:
        return np.zeros((len(names), 0), dtype=np.float32), ()
    given = str(request["table"]) or (str(found.root / found.table) if found.table else "")
    if given:
        column = patient_column_of(read_csv(Path(given)), str(request["patient_column"]))
        file = ImageFile(os.path.relpath(given, found.root), 0, 0, "")
        index = replace(index, table=file, table_patient_column=column)
    rows = rows_of_table(index, replace(data, target=None), mapping, names)
    assert rows is not None, "the study has columns"
    materials = request["materials"]
    if not isinstance(materials, Mapping):
        raise RequestRefused('"materials" is no map')
    return encode_features(rows, data.columns, Materials.open(asked.manifest, materials).standards)


def _index_of(found: FoundFolder) -> ImageIndex:
    """The folder as an index; nothing is known of the files' content."""

    def as_file(file: FoundFile) -> ImageFile:
        return ImageFile(file.path, 0, 0, "", file.channel)

    patients = tuple(
        IndexedPatient(
            patient.name, {name: as_file(file) for name, file in patient.images.items()}, None
        )
        for patient in found.patients
    )
    return ImageIndex(found.root, found.layout, patients)


def _file_name(patient: str, row: int) -> str:
    """A patient's name as part of a file's, with a number where signs had to go."""
    plain = _NOT_IN_NAMES.sub("_", patient).lstrip(".")
    return plain if plain == patient else f"{plain}_{row + 1}"


def _millilitres(labels: Labels, grid: ScanGrid, terms: ImageTerms) -> list[str]:
    voxel_ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000.0
    return [
        f"{int(np.isin(labels, region.labels).sum()) * voxel_ml:.3f}" for region in terms.regions
    ]


def _window_notes(terms: ImageTerms) -> list[str]:
    if not terms.regions or terms.placement == "patches":
        return []
    sides = " x ".join(str(side) for side in (*terms.window, 1)[:3])
    return [f"the model looks at the middle {sides} voxels of a scan alone, nothing else is marked"]


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
