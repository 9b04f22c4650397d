"""Anyone can compute a site's score again from the two files it keeps, with numpy alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from learn_manifests import LOGISTIC, MLP, manifest
from safetensors import safe_open

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.tabular import feature_names, prepare
from p2pfl.learning.demo_terms import CANCER_TERMS
from p2pfl.learning.initial import initial_model
from p2pfl.learning.results import write_holdout, write_model
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import write_vector


def recomputed(model: Path, holdout: Path) -> tuple[dict[str, str], float, float]:
    """Metadata, AUC and accuracy from the two files, by numpy and counting pairs."""
    with safe_open(model, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    with holdout.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [*json.loads(metadata["columns"]), "target"]
    table = np.array(rows[1:], dtype=np.float32)
    values, target = table[:, :-1], table[:, -1]
    if metadata["plan"] == "tabular-mlp":
        hidden = np.maximum(values @ tensors["0.weight"].T + tensors["0.bias"], 0)
        logits = hidden @ tensors["2.weight"].T + tensors["2.bias"]
        odds = logits[:, 1] - logits[:, 0]
    else:
        odds = (values @ tensors["weight"].T + tensors["bias"])[:, 0]
    pairs = odds[target == 1][:, None] - odds[target == 0][None, :]
    auc = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    return metadata, auc, float(((odds > 0) == (target == 1)).mean())


def trained(chosen: Manifest, table: Path) -> tuple[Trainer, np.ndarray]:
    train, _ = split(prepare(table, chosen.data, patient_column="patient"), chosen)
    trainer = Trainer(chosen, train, denominator=1, random_bytes=os.urandom)
    start = initial_model(chosen)
    return trainer, trainer.train(start, 0, {}).vector


@pytest.mark.parametrize(
    ("plan", "arguments"), [("tabular-logistic", LOGISTIC), ("tabular-mlp", MLP)]
)
def test_the_score_follows_from_model_and_holdout(
    tmp_path: Path,
    cancer_csvs: tuple[Path, ...],
    plan: str,
    arguments: dict[str, float],
) -> None:
    chosen = manifest(CANCER_TERMS, plan=plan, arguments=arguments)
    trainer, model = trained(chosen, cancer_csvs[1])
    _, holdout = split(prepare(cancer_csvs[1], chosen.data, patient_column="patient"), chosen)
    write_model(tmp_path / "model.safetensors", model, trainer.schema, chosen)
    write_holdout(tmp_path / "holdout.csv", holdout)
    metadata, auc, accuracy = recomputed(tmp_path / "model.safetensors", tmp_path / "holdout.csv")
    score = trainer.score(model, holdout)
    assert auc == pytest.approx(score.auc, abs=1e-6)
    assert accuracy == pytest.approx(score.accuracy)
    assert metadata["study"] == chosen.study_id.hex()
    assert json.loads(metadata["columns"]) == list(feature_names(CANCER_TERMS.columns))
    assert json.loads(metadata["arguments"]) == arguments
    assert metadata["target"] == "malignant > 0"


def test_the_command_writes_the_same_files(tmp_path: Path, cancer_csvs: tuple[Path, ...]) -> None:
    chosen = manifest(CANCER_TERMS)
    trainer, model = trained(chosen, cancer_csvs[0])
    (tmp_path / "study.toml").write_bytes(chosen.raw)
    write_vector(tmp_path / "vector", model)
    command = [sys.executable, "-m", "p2pfl.learning.results"]
    for option, value in (
        ("--manifest", tmp_path / "study.toml"),
        ("--dataset", cancer_csvs[0]),
        ("--model", tmp_path / "vector"),
        ("--model-out", tmp_path / "model.safetensors"),
        ("--holdout-out", tmp_path / "holdout.csv"),
        ("--patient-column", "patient"),
    ):
        command += [option, str(value)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    paths = json.loads(done.stdout)
    _, auc, _ = recomputed(Path(paths["model_path"]), Path(paths["holdout_path"]))
    _, holdout = split(prepare(cancer_csvs[0], chosen.data, patient_column="patient"), chosen)
    assert auc == pytest.approx(trainer.score(model, holdout).auc, abs=1e-6)
