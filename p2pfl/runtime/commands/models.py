"""Released models: which there are, how good they are on patients here, and predictions.

Everything reads a snapshot of the ledger and works beside a running node. What is computed from
patients is told to the person who asks, and to nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gossip.identifiers import Digest
from ledger.log import Entry, LogReader
from ledger.provenance import kinds
from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import StudyId
from p2pfl.core.planned import rounds_planned
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.datasets import usable_dataset
from p2pfl.runtime.commands.model_code import (
    CHILD,
    DEADLINE_S,
    ask_confined,
    predicted_confined,
    require_runnable,
    scores_of,
)
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.datasets import (
    LocalDataset,
    check_unchanged,
    dataset_of,
    reached_by_training,
)
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home, write_durably
from p2pfl.runtime.jsonable import Json, from_json


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """A model that a study released at this site."""

    study: bytes
    name: str
    round: int
    """The last round, counted from 0."""
    hash: bytes
    """SHA-256 of the vector's file, as in the ledger."""
    distance: str
    """How far the neighbours' models were, relative to its own length; decimal text."""
    inputs: int
    """Neighbours' models in the last averaging."""
    seq: int
    leaf: bytes
    time_us: int
    path: Path | None
    """The file with named tensors, None where the release was interrupted."""


@dataclass(frozen=True, slots=True)
class Released:
    """One released model with everything that is known about where it comes from."""

    seen: ModelSeen
    manifest: Manifest
    past: StudyHistory
    entries: tuple[Entry, ...]
    vector: Path
    """The verified blob."""


def model_list(home: Home) -> tuple[ModelSeen, ...]:
    """All released models, oldest first."""
    with_entries = _snapshot(home)
    return tuple(models_on_record(home, with_entries))


def trained_model(home: Home, prefix: str) -> Released:
    """Like `released_model`, of a study that trained one. Raises OperatorError, BlobError."""
    found = released_model(home, prefix)
    if found.manifest.is_counting:
        raise OperatorError(
            f"{found.seen.name} counted patients: what it released is no model.",
            fix=f"`p2pfl model show {prefix}` shows the statistics or metrics.",
            exit_code=EXIT_USAGE,
        )
    return found


def released_model(home: Home, prefix: str) -> Released:
    """The model that a study released here, its bytes verified. Raises OperatorError, BlobError."""
    entries = _snapshot(home)
    history = History(entries)
    study = find_study(home, history, prefix)
    manifest = read_manifest(home, study)
    seen = next((model for model in models_on_record(home, entries) if model.study == study), None)
    if seen is None:
        past = history.study(study)
        raise OperatorError(
            f"{manifest.study.name} ({study.hex()[:12]}) has released no model here: it is "
            f"{past.standing.value}, {len(past.averaged)} of "
            f"{rounds_planned(manifest, past).total} rounds are done.",
            fix="Wait until it is complete: `p2pfl study watch` shows how far it is.",
            exit_code=EXIT_NO_INPUT,
        )
    store = BlobStore(home.blobs)
    store.read_vector(seen.hash, manifest.study.parameters)
    return Released(seen, manifest, history.study(study), entries, store.path(seen.hash))


@dataclass(frozen=True, slots=True)
class ModelEvaluate:
    """On which patients: at most one of `data` and `file`; neither is the study's own hold-out."""

    study: str
    data: str = ""
    file: Path | None = None
    patient_column: str = ""
    """Of `file`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the evaluating process answers; see there for the units."""

    n: int
    positives: int
    auc: float | None
    accuracy: float
    brier: float
    loss: float
    mean_predicted: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the evaluating process answers for plans that say no yes or no from a table.

    score: in 0…1, of what `headline` names; loss: in nats where it is a likelihood.
    """

    n: int
    headline: str
    score: float
    auc: float | None
    loss: float
    measures: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's scores, and on whom."""

    study: bytes
    name: str
    hash: bytes
    patients: str
    """In words: whose and which."""
    scores: Scores | Measured


def model_evaluate(home: Home, request: ModelEvaluate) -> Evaluated:
    """Score a released model on patients of this site. Raises OperatorError."""
    if request.data and request.file is not None:
        raise OperatorError(
            "--data and --file exclude each other.",
            fix="Name a registered dataset or a file, not both.",
            exit_code=EXIT_USAGE,
        )
    model = trained_model(home, request.study)
    if request.file is not None:
        if model.manifest.data.images is not None:
            raise OperatorError(
                f"{model.seen.name} is about images, and --file names a table.",
                fix="Register marked images with `p2pfl data add FOLDER`, then give --data NAME.",
                exit_code=EXIT_USAGE,
            )
        require_file(request.file)
        where, column, part = request.file, request.patient_column, "all"
        read: tuple[Path, ...] = ()
        patients = f"all patients of {request.file.name}"
    else:
        dataset = _dataset(home, model, request.data)
        check_unchanged(home, dataset)
        where, column = dataset.file, dataset.patient_column
        read, _ = reached_by_training(dataset)
        trained_on = {training.ds for training in model.past.trained.values()}
        # Patients a model was trained on would flatter it.
        part = "holdout" if dataset.ds in trained_on else "all"
        which = "the hold-out (never trained on)" if part == "holdout" else "all patients"
        patients = f'{which} of dataset "{dataset.name}"'
    asked: dict[str, Json] = {
        "request": "evaluate",
        "model": str(model.vector),
        "dataset": str(where),
        "patient_column": column,
        "part": part,
        "materials": dict(material_paths(home, model.manifest)),
    }
    answer = _evaluated(home, model, asked, read)
    is_measured = isinstance(answer, dict) and "headline" in answer
    scores = from_json(Measured, answer) if is_measured else from_json(Scores, answer)
    return Evaluated(model.seen.study, model.seen.name, model.seen.hash, patients, scores)


def _evaluated(home: Home, model: Released, asked: dict[str, Json], read: tuple[Path, ...]) -> Json:
    """read: what the patients' file refers to."""
    purpose, manifest = "Evaluating the model", model.manifest
    if manifest.foreign is None:
        return ask_child(purpose, {**asked, **_here(home, model)})
    require_runnable(manifest, model.past)
    reached = (model.vector, Path(str(asked["dataset"])), *read, *_material_files(home, manifest))
    answer, _ = ask_confined(home, manifest, purpose, asked, read=reached)
    return scores_of(answer, manifest)


def _here(home: Home, model: Released) -> dict[str, Json]:
    """Files that only a process of ours gets to see."""
    study = StudyId(model.seen.study)
    return {"manifest": str(home.study(study)), "home_layers": str(home.home_layers(study))}


@dataclass(frozen=True, slots=True)
class ModelPredict:
    """Predict for every row of a table. id_column "": rows are numbered from 1."""

    study: str
    table: Path
    out: Path
    id_column: str = ""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the predicting process answers."""

    rows: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Where the probabilities are."""

    study: bytes
    name: str
    hash: bytes
    target: str
    out: Path
    made: Predictions


def model_predict(home: Home, request: ModelPredict) -> Predicted:
    """Write one probability per row, and no other column than the id. Raises OperatorError."""
    require_file(request.table)
    if request.out.exists():
        raise OperatorError(
            f"{request.out} exists.",
            fix="Name another file with --out; nothing is ever overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    model = trained_model(home, request.study)
    if model.manifest.data.images is not None:
        raise OperatorError(
            f"{model.seen.name} predicts from images, and {request.table.name} is a table.",
            fix="Name a folder of patients' images, or a dataset.json that lists them.",
            exit_code=EXIT_USAGE,
        )
    asked: dict[str, Json] = {
        "request": "predict",
        "model": str(model.vector),
        "table": str(request.table),
        "id_column": request.id_column,
        "materials": dict(material_paths(home, model.manifest)),
    }
    if model.manifest.foreign is None:
        answer = ask_child("Predicting", {**asked, **_here(home, model), "out": str(request.out)})
    else:
        require_runnable(model.manifest, model.past)
        reached = (model.vector, request.table, *_material_files(home, model.manifest))
        answer, whole = predicted_confined(home, model.manifest, asked, reached)
        write_durably(request.out, whole)
    return Predicted(
        study=model.seen.study,
        name=model.seen.name,
        hash=model.seen.hash,
        target=model.manifest.data.predicted,
        out=request.out,
        made=from_json(Predictions, answer),
    )


def _material_files(home: Home, manifest: Manifest) -> tuple[Path, ...]:
    return tuple(map(Path, material_paths(home, manifest).values()))


def ask_child(purpose: str, request: Mapping[str, Json]) -> Json:
    """One question to the evaluating process. Raises OperatorError with its complaint."""
    finished = run_module(
        CHILD,
        (),
        given=json.dumps(request).encode(),
        deadline_s=DEADLINE_S,
        purpose=purpose,
    )
    answer: Json = json.loads(output_of(finished, purpose))
    return answer


def require_file(path: Path) -> None:
    """Raises OperatorError unless there is a file."""
    if not path.is_file():
        raise OperatorError(
            f"There is no file {path}.",
            fix="Check the path.",
            exit_code=EXIT_NO_INPUT,
        )


def material_paths(home: Home, manifest: Manifest) -> dict[str, str]:
    """Where lies what a study builds on, its bytes verified. Raises BlobError."""
    store = BlobStore(home.blobs)
    paths: dict[str, str] = {}
    for found in manifest.materials:
        store.read_vector(found.model, found.parameters)
        paths[found.use] = str(store.path(found.model))
    return paths


def _snapshot(home: Home) -> tuple[Entry, ...]:
    reader = LogReader.open(home.path)
    try:
        return tuple(reader.entries())
    finally:
        reader.close()


def models_on_record(home: Home, entries: Iterable[Entry]) -> Iterator[ModelSeen]:
    """Every `model.released` among the entries."""
    for entry in entries:
        if entry.kind != kinds.ModelReleased.KIND:
            continue
        record = kinds.parse(entry)
        assert isinstance(record, kinds.ModelReleased), "parse keeps to the entry's kind"
        file = home.study_models(record.study) / "model.safetensors"
        yield ModelSeen(
            study=record.study,
            name=_name(home, StudyId(record.study)),
            round=record.round,
            hash=Digest(record.hash),
            distance=record.distance,
            inputs=record.inputs,
            seq=entry.seq,
            leaf=entry.leaf,
            time_us=entry.time_us,
            path=file if file.is_file() else None,
        )


def _name(home: Home, study: StudyId) -> str:
    try:
        return read_manifest(home, study).study.name
    except (OperatorError, ManifestError):
        return study.hex()[:12]  # its manifest is gone; the ledger still names it


def _dataset(home: Home, model: Released, name: str) -> LocalDataset:
    """The dataset a person named, or the one the study was trained on."""
    if name:
        return usable_dataset(home, History(model.entries), name)
    if model.past.approval is None:
        raise OperatorError(
            f"{model.seen.name} was trained on no dataset of this site.",
            fix="Name patients to try it on, with --data NAME or --file CSV.",
            exit_code=EXIT_REFUSED,
        )
    return dataset_of(home, model.past.approval.ds)
