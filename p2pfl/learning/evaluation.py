"""A released model on patients: `python -m p2pfl.learning.evaluation`, JSON in and out.

Responsible for scoring, predicting with and exporting a model that training has left behind.
What is computed from patients goes to this process's caller or into the file it names, readable
by its owner only; nothing here leaves the site. Must not know homes or ledgers.

  {request: "evaluate", manifest, model, dataset, patient_column, part: "holdout" | "all"}
     →  {n, positives, auc (null: one label only), accuracy, brier, loss, mean_predicted, notes}
        of a yes or no from a table; of any other plan
        {n, headline, score, auc (null), loss, measures: {name: value}, notes}
  {request: "predict", manifest, model, table, id_column ("": rows are numbered), out}
     →  {rows, notes}              a CSV with the id and one probability per row, nothing else
  {request: "describe", manifest}
     →  {tensors: [{name, shape}]}                        as the plan names them
  {request: "export", manifest, model, out, onnx ("": none), tensors (empty: the plan is asked)}
     →  {tensors: [{name, shape}]}                        safetensors with the plan's tensors

manifest, model, dataset, table, out: paths; evaluate and predict also take `materials`, use → path
of what the manifest builds on, and `home_layers`, the path of the layers that stay at this site,
there or not. `model` is a blob with the one tensor `vector`.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans, results
from p2pfl.learning.at_home import used_here
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.datasets.opening import open_patients
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.table_file import read_csv
from p2pfl.learning.datasets.tabular import Matrix, Prepared, encode_features, prepare
from p2pfl.learning.errors import DataRefused, RequestRefused
from p2pfl.learning.flat_model import FlatModel
from p2pfl.learning.json_request import Request, answer_request, answers_alone
from p2pfl.learning.materials import Materials
from p2pfl.learning.scoring import Score, score
from p2pfl.learning.standardisation import Standards
from p2pfl.learning.training import schema_of
from p2pfl.learning.vector import NamedShape, Schema, Vector, read_vector

ROW_COLUMN: Final = "row"
PROBABILITY_COLUMN: Final = "probability"
YES_OR_NO: Final = ("tabular-logistic", "tabular-mlp")
"""Plans that say yes or no from a table alone."""
HEADLINES: Final[Mapping[str, str]] = {
    "segmentation": "mean Dice",
    "tabular-cox": "concordance",
    "tabular-vae": "share of variance explained",
}
"""What `Score.accuracy` is, where it is not the share predicted correctly."""

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on n patients.

    brier: mean squared distance between probability and outcome, 0 best, 0.25 for "always 0.5";
    loss in nats; mean_predicted is to be compared with positives / n.
    """

    n: int
    positives: int
    auc: float | None
    accuracy: float
    brier: float
    loss: float
    mean_predicted: float


class Predictor:
    """A study's model, ready to predict."""

    def __init__(self, manifest: Manifest, vector: Vector) -> None:
        """vector: float32[d]. Raises PlanRefused, ModelRefused."""
        self._plan = plans.plan_of(manifest)
        self._arguments = self._plan.arguments(manifest.plan.arguments)
        module = self._plan.module(manifest.data, self._arguments)
        self._model = FlatModel(module, schema_of(manifest))
        self._model.load(vector)
        self._model.module.eval()

    @property
    def module(self) -> torch.nn.Module:
        """The network with the model in it, as it predicts."""
        return self._model.module

    @torch.no_grad()
    def score(self, on: Patients) -> Score:
        """What the plan measures on prepared patients."""
        return self._plan.score(self._model.module, on, self._arguments)

    @torch.no_grad()
    def log_odds(self, *inputs: Matrix) -> Vector:
        """inputs: float32[n, …], one per input of the model. Returns float32[n].

        Raises PlanRefused where the plan says no yes or no.
        """
        outputs = self._model.module(*(torch.from_numpy(part) for part in inputs))
        odds: Vector = self._plan.log_odds(outputs).numpy()
        return odds


def evaluate(predictor: Predictor, on: Prepared) -> Evaluation:
    """Score a model on prepared patients, at least one."""
    odds = predictor.log_odds(on.features)
    found = score(odds, on.labels)
    probability = probabilities(odds)
    return Evaluation(
        n=found.n,
        positives=int(on.labels.sum()),
        auc=found.auc,
        accuracy=found.accuracy,
        brier=brier_score(probability, on.labels),
        loss=found.loss,
        mean_predicted=float(probability.mean()),
    )


def probabilities(log_odds: Vector) -> Probabilities:
    """The logistic function, without overflow. log_odds: float32[n]. Returns float64[n] in 0…1.

    >>> probabilities(np.array([0.0, 800.0, -800.0], dtype=np.float32)).tolist()
    [0.5, 1.0, 0.0]
    """
    odds = log_odds.astype(np.float64)
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0.0, 1.0, small) / (1.0 + small)


def brier_score(probability: Probabilities, labels: Matrix) -> float:
    """Mean squared distance between probability and outcome.

    probability: float64[n]; labels: float32[n], 0 or 1. Source: Brier 1950.

    >>> brier_score(np.array([1.0, 0.5]), np.array([1.0, 1.0], dtype=np.float32))
    0.125
    """
    return float(np.mean((probability - labels.astype(np.float64)) ** 2))


def write_predictions(
    path: Path, ids: Sequence[str], probability: Probabilities, *, id_column: str
) -> None:
    """Write the id and the probability of every row; never overwrites. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([id_column or ROW_COLUMN, PROBABILITY_COLUMN])
    for known_as, value in zip(ids, probability, strict=True):
        writer.writerow([known_as, f"{value:.6f}"])
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    torch.set_num_threads(1)
    answers = answers_alone()
    return answer_request(lambda request: _REQUESTS[str(request["request"])](request), answers)


def _evaluated(request: Request) -> dict[str, object]:
    manifest, vector = _study_here(request)
    part = str(request["part"])
    if part not in ("holdout", "all"):
        raise RequestRefused(f'"part" is {part!r}, expected holdout or all')
    # How many patients a site needs to train says nothing about how many a model is tried on.
    terms = manifest.data if part == "holdout" else replace(manifest.data, patients_min=1)
    column = str(request["patient_column"])
    if manifest.plan.name not in YES_OR_NO:
        return _measured(request, replace(manifest, data=terms), vector, column, part)
    prepared = prepare(
        Path(str(request["dataset"])),
        terms,
        patient_column=column,
        standards=_standards(request, manifest),
    )
    notes = prepared.notes
    if part == "holdout":
        _, prepared = split(prepared, manifest)
    found = evaluate(Predictor(manifest, vector), prepared)
    return {name: getattr(found, name) for name in Evaluation.__slots__} | {"notes": list(notes)}


def _measured(
    request: Request, manifest: Manifest, vector: Vector, column: str, part: str
) -> dict[str, object]:
    """What the plan itself measures."""
    patients = open_patients(
        Path(str(request["dataset"])),
        manifest.data,
        patient_column=column,
        standards=_standards(request, manifest),
        prepared=Path(str(request["prepared"])) if "prepared" in request else None,
    )
    notes = patients.notes
    if part == "holdout":
        _, patients = split(patients, manifest)
    found = Predictor(manifest, vector).score(patients)
    measures = dict(found.measures)
    if manifest.code is None and isinstance(patients, ImagePatients) and patients.terms.regions:
        from p2pfl.learning.marking import Marker

        distance = Marker(manifest).distance(vector, patients)
        unit = "mm" if patients.terms.spacing else "voxels"
        measures |= {} if distance is None else {f"distance (HD95, {unit})": distance}
    return {
        "n": found.n,
        "headline": HEADLINES.get(manifest.plan.name, "accuracy"),
        "score": found.accuracy,
        "auc": found.auc,
        "loss": found.loss,
        "measures": measures,
        "notes": list(notes),
    }


def _predicted(request: Request) -> dict[str, object]:
    manifest, vector = _study_here(request)
    table = read_csv(Path(str(request["table"])))
    id_column = str(request["id_column"])
    if id_column:
        ids = table.column(id_column)
        empty = next((row for row, text in enumerate(ids) if not text), None)
        if empty is not None:
            raise DataRefused(
                table.place(empty, id_column),
                "no patient is named",
                fix="fill in the pseudonym, or leave --id out so that rows are numbered",
            )
    else:
        ids = [str(number) for number in range(1, len(table.rows) + 1)]
    standards = _standards(request, manifest)
    features, notes = encode_features(table, manifest.data.columns, standards)
    probability = probabilities(Predictor(manifest, vector).log_odds(features))
    write_predictions(Path(str(request["out"])), ids, probability, id_column=id_column)
    return {"rows": len(ids), "notes": list(notes)}


def _standards(request: Request, manifest: Manifest) -> Standards | None:
    """How released statistics scale the columns, where the study says so."""
    paths = request["materials"]
    if not isinstance(paths, Mapping):
        raise RequestRefused('"materials" is no map')
    return Materials.open(manifest, paths).standards


def _exported(request: Request) -> dict[str, object]:
    manifest, vector = _study(request)
    schema = _schema_given(request["tensors"]) or schema_of(manifest)
    results.write_model(Path(str(request["out"])), vector, schema, manifest)
    if request["onnx"]:
        from p2pfl.learning.onnx_export import write_onnx  # takes seconds to load

        write_onnx(Path(str(request["onnx"])), vector, manifest)
    return {
        "tensors": [{"name": tensor.name, "shape": list(tensor.shape)} for tensor in schema.tensors]
    }


def _described(request: Request) -> dict[str, object]:
    schema = schema_of(parse_manifest(Path(str(request["manifest"])).read_bytes()))
    return {"tensors": [{"name": one.name, "shape": list(one.shape)} for one in schema.tensors]}


def _schema_given(tensors: object) -> Schema | None:
    """Names and shapes that the caller knows already, and checked."""
    if not isinstance(tensors, list) or not tensors:
        return None
    return Schema(tuple(NamedShape(str(one["name"]), tuple(one["shape"])) for one in tensors))


def _study(request: Request) -> tuple[Manifest, Vector]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    return manifest, read_vector(Path(str(request["model"])), manifest.study.parameters)


def _study_here(request: Request) -> tuple[Manifest, Vector]:
    """The same with the layers that stay at this site."""
    manifest, vector = _study(request)
    return manifest, used_here(vector, manifest, Path(str(request["home_layers"])))


_REQUESTS: Final[Mapping[str, Callable[[Request], dict[str, object]]]] = {
    "evaluate": _evaluated,
    "predict": _predicted,
    "describe": _described,
    "export": _exported,
}


if __name__ == "__main__":
    sys.exit(main())
