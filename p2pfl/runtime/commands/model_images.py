"""A released model on folders of scans that are registered nowhere: what it marks, or says.

Nothing of it is recorded: no patient is trained on and nothing leaves the site. The folder that is
written shows patients, and only its owner can read it.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.core.names import StudyId
from p2pfl.runtime.commands.models import Released, material_paths, trained_model
from p2pfl.runtime.datasets import dataset_of
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_IO,
    EXIT_NO_INPUT,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.image_mapping import MAPPING_FILE
from p2pfl.runtime.image_scan import Progress, run_followed
from p2pfl.runtime.jsonable import from_json

CHILD: Final = "p2pfl.learning.image_predictions"
FORMATS: Final = ("auto", "nifti", "dicom-seg")
_SCRATCH_PREFIX: Final = ".predict-"


@dataclass(frozen=True, slots=True)
class ImagesPredict:
    """Predict for every patient of a folder; paths absolute, None where not given.

    given: a folder as registration takes it, or a dataset.json; mapping: how the folder names what
    the study needs, by default as the dataset did that this site trained on; table, patient_column:
    of models that use columns, too; format: of what is marked, see `FORMATS`.
    """

    study: str
    given: Path
    out: Path
    mapping: Path | None = None
    table: Path | None = None
    patient_column: str = ""
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class PatientRefused:
    """A patient nothing was predicted for, and why."""

    patient: str
    problem: str


@dataclass(frozen=True, slots=True)
class ImagesMade:
    """What the predicting process answers."""

    patients: int
    refused: tuple[PatientRefused, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagesPredicted:
    """Where the predictions are."""

    study: bytes
    name: str
    hash: bytes
    target: str
    out: Path
    made: ImagesMade


def images_predict(home: Home, request: ImagesPredict, progress: Progress) -> ImagesPredicted:
    """Write predictions into a new folder. Raises OperatorError; then no folder is left."""
    model = trained_model(home, request.study)
    _check(model, request)
    mapping = request.mapping or _own_mapping(home, model)
    try:
        request.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=home.data))
    except OSError as error:
        raise OperatorError(
            f"{request.out} cannot be written: {error.strerror}.",
            fix="Check the path, its owner and free space.",
            exit_code=EXIT_IO,
        ) from error
    made = None
    try:
        facts = run_followed(
            CHILD,
            "Predicting",
            {
                "manifest": str(home.study(StudyId(model.seen.study))),
                "model": str(model.vector),
                "home_layers": str(home.home_layers(model.seen.study)),
                "given": str(request.given),
                "mapping": str(mapping or ""),
                "table": str(request.table or ""),
                "patient_column": request.patient_column,
                "out": str(request.out),
                "scratch": str(scratch),
                "format": request.format,
                "materials": dict(material_paths(home, model.manifest)),
            },
            progress,
            scratch=scratch,
        )
        made = from_json(ImagesMade, facts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if made is None:  # it was empty before
            shutil.rmtree(request.out, ignore_errors=True)
    return ImagesPredicted(
        study=model.seen.study,
        name=model.seen.name,
        hash=model.seen.hash,
        target=model.manifest.data.predicted,
        out=request.out,
        made=made,
    )


def _check(model: Released, request: ImagesPredict) -> None:
    if model.manifest.foreign is not None:
        raise OperatorError(
            f"{model.seen.name} has a plan of its own, which does not predict from images here.",
            fix="`p2pfl model evaluate` tries it on registered patients; `p2pfl model export` "
            "writes its tensors.",
            exit_code=EXIT_USAGE,
        )
    if model.manifest.data.images is None:
        raise OperatorError(
            f"{model.seen.name} predicts from a table, and {request.given.name} is none.",
            fix="Name a CSV file with the study's columns.",
            exit_code=EXIT_USAGE,
        )
    if request.format not in FORMATS:
        raise OperatorError(
            f'--format is "{request.format}".',
            fix=f"Choose {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
            exit_code=EXIT_USAGE,
        )
    for path in (request.given, request.mapping, request.table):
        if path is not None and not path.exists():
            raise OperatorError(
                f"There is no {path}.", fix="Check the path.", exit_code=EXIT_NO_INPUT
            )
    out = request.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OperatorError(
            f"{out} exists and is not an empty directory.",
            fix="Name another directory with --out; nothing is ever overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )


def _own_mapping(home: Home, model: Released) -> Path | None:
    """How the dataset that this site trained on names what the study needs."""
    if model.past.approval is None:
        return None
    try:
        dataset = dataset_of(home, model.past.approval.ds)
    except OperatorError:
        return None  # it is gone; names that everybody knows still fit
    mapping = dataset.file.with_name(MAPPING_FILE)
    return mapping if mapping.is_file() else None
