"""A released model: listed, tried on patients, used for predictions, handed on with its proof."""

from __future__ import annotations

import csv
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from feat_stage import Finished
from onnx.reference import ReferenceEvaluator
from ops_sites import done, p2pfl
from safetensors import safe_open
from safetensors.numpy import load_file
from sklearn.metrics import brier_score_loss, roc_auc_score

from ledger.log import VerifierKey, note_verify, parse_entry, verify_inclusion
from ledger.log.notes import Checkpoint
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_IO,
    EXIT_NO_INPUT,
    EXIT_USAGE,
)


def test_list_names_the_model_as_the_ledger_does(finished: Finished) -> None:
    [model] = done("--home", finished.home, "model", "list", "--json").json
    entry = done("--home", finished.home, "ledger", "show", "--from", model["seq"], "-n", 1)
    assert "model.released" in entry.out
    assert model["study"] == finished.study
    assert model["hash"] in entry.out
    assert (
        hashlib.sha256((finished.home / "blobs" / model["hash"]).read_bytes()).hexdigest()
        == (model["hash"])
    )
    assert model["hash"][:12] in done("--home", finished.home, "model", "list").out


def test_a_home_without_models_says_so(tmp_path: Path) -> None:
    home = tmp_path / "new"
    words = ("--name", "new", "--listen", "127.0.0.1:7345", "--consortium", "x")
    done("--home", home, "init", *words)
    assert "No study has released a model" in done("--home", home, "model", "list").out
    assert done("--home", home, "model", "list", "--json").json == []


def test_evaluation_agrees_with_scikit_learn_on_the_released_hold_out(finished: Finished) -> None:
    """The release left hold-out and tensors behind: numpy alone computes the scores again."""
    folder = finished.home / "models" / finished.study
    tensors = load_file(folder / "model.safetensors")
    rows = np.loadtxt(folder / "holdout.csv", delimiter=",", skiprows=1, dtype=np.float64)
    labels = rows[:, -1]
    odds = rows[:, :-1] @ tensors["weight"][0] + tensors["bias"][0]
    probability = 1.0 / (1.0 + np.exp(-odds))
    ran = done("--home", finished.home, "model", "evaluate", finished.study, "--json").json
    scores = ran["scores"]
    assert scores["n"] == len(labels)
    assert scores["positives"] == labels.sum()
    assert scores["auc"] == pytest.approx(roc_auc_score(labels, probability), abs=1e-6)
    assert scores["brier"] == pytest.approx(brier_score_loss(labels, probability), abs=1e-6)
    assert scores["accuracy"] == pytest.approx(((odds > 0) == (labels > 0.5)).mean())
    assert scores["mean_predicted"] == pytest.approx(probability.mean(), abs=1e-6)
    assert "never trained on" in ran["patients"]


def test_evaluation_on_a_given_table_uses_all_of_it(finished: Finished) -> None:
    other = finished.tables[1]
    words = ("model", "evaluate", finished.study, "--file", other, "--patient-column", "patient")
    ran = done("--home", finished.home, *words)
    patients = len(table(other)) - 1
    assert f"{patients}, " in ran.out
    assert "not for other" in ran.out


def test_evaluation_names_what_is_wrong(finished: Finished, tmp_path: Path) -> None:
    def evaluate(*words: object) -> Any:
        return p2pfl("--home", finished.home, "model", "evaluate", *words)

    bad = tmp_path / "bad.csv"
    bad.write_text("patient,age\nP1,5\n")
    unfit = evaluate(finished.study, "--file", bad)
    assert (unfit.code, "no column" in unfit.err) == (EXIT_DATA, True)
    both = evaluate(finished.study, "--file", bad, "--data", finished.dataset)
    assert both.code == EXIT_USAGE
    missing = evaluate(finished.study, "--file", tmp_path / "none.csv")
    assert (missing.code, "There is no file" in missing.err) == (EXIT_NO_INPUT, True)
    assert evaluate("abcdef0123").code == EXIT_NO_INPUT
    assert evaluate(finished.study, "--data", "nobody").code == EXIT_NO_INPUT


def test_a_study_without_a_model_says_how_far_it_is(finished: Finished, tmp_path: Path) -> None:
    home, manifest = finished.copy(tmp_path / "home"), tmp_path / "next.toml"
    done("--home", home, "study", "new", "--data", finished.dataset, "-o", manifest)
    proposed = done("--home", home, "study", "propose", manifest, "--json").json["study"]
    ran = p2pfl("--home", home, "model", "evaluate", proposed)
    assert ran.code == EXIT_NO_INPUT
    assert "has released no model here: it is undecided, 0 of 33 rounds" in ran.err


def test_a_damaged_model_is_refused(finished: Finished, tmp_path: Path) -> None:
    home = finished.copy(tmp_path / "home")
    [model] = done("--home", home, "model", "list", "--json").json
    blob = home / "blobs" / model["hash"]
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    ran = p2pfl("--home", home, "model", "export", finished.study, "--out", tmp_path / "out")
    assert ran.code == EXIT_IO
    assert "is damaged" in ran.err
    assert not (tmp_path / "out").exists()


def test_predictions_hold_the_id_and_the_probability_alone(
    finished: Finished, tmp_path: Path
) -> None:
    """A table as a clinic has it: without the outcome, rows in any order."""
    rows = table(finished.tables[1])
    target = rows[0].index("malignant")
    given, out = tmp_path / "given.csv", tmp_path / "predicted.csv"
    write(given, [[cell for at, cell in enumerate(row) if at != target] for row in rows])
    words = ("model", "predict", finished.study, given, "-o", out, "--id", "patient")
    ran = done("--home", finished.home, *words)
    assert f"{len(rows) - 1} rows" in ran.out
    header, *predicted = table(out)
    assert header == ["patient", "probability"]
    assert [row[0] for row in predicted] == [row[rows[0].index("patient")] for row in rows[1:]]
    assert all(0.0 <= float(row[1]) <= 1.0 for row in predicted)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    labels = np.array([float(row[target]) for row in rows[1:]])
    assert roc_auc_score(labels, [float(row[1]) for row in predicted]) > 0.8


def test_predictions_number_the_rows_and_never_overwrite(
    finished: Finished, tmp_path: Path
) -> None:
    out = tmp_path / "predicted.csv"
    words = ("model", "predict", finished.study, finished.tables[0], "-o", out)
    done("--home", finished.home, *words, "--json")
    header, first, *_ = table(out)
    assert (header, first[0]) == (["row", "probability"], "1")
    again = p2pfl("--home", finished.home, *words)
    assert again.code == EXIT_CANNOT_CREATE
    assert "exists" in again.err
    wrong = p2pfl("--home", finished.home, *words[:-1], tmp_path / "b.csv", "--id", "name")
    assert wrong.code == EXIT_DATA
    assert 'no column "name"' in wrong.err
    assert not (tmp_path / "b.csv").exists()


@pytest.fixture(scope="module")
def exported(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The exported directory, and what the command said."""
    out = tmp_path_factory.mktemp("export") / "deep" / "exported"
    words = ("model", "export", finished.study, "--out", out, "--licence", "CC-BY-4.0")
    return out, done("--home", finished.home, *words).out


def test_an_export_proves_where_the_model_comes_from(
    finished: Finished, exported: tuple[Path, str]
) -> None:
    """Everything is checked with the exported files alone, as an outsider would."""
    out, _ = exported
    files = sorted(path.name for path in out.iterdir())
    assert files == ["README.md", "manifest.toml", "model.safetensors", "provenance.json"]
    assert hashlib.sha256((out / "manifest.toml").read_bytes()).hexdigest() == finished.study
    proof = json.loads((out / "provenance.json").read_text())
    entry = parse_entry(bytes.fromhex(proof["entry"]["raw"]))
    assert (entry.kind, entry.seq) == ("model.released", proof["entry"]["seq"])
    note = note_verify(proof["head"]["note"].encode(), VerifierKey.parse(proof["log_key"]))
    head = Checkpoint.parse(note.text)
    path = [bytes.fromhex(node) for node in proof["inclusion"]]
    verify_inclusion(entry.leaf, entry.seq, head.size, path, head.root)
    tensors = load_file(out / "model.safetensors")
    vector = np.concatenate([tensors[name].reshape(-1) for name in ("weight", "bias")])
    blob = (finished.home / "blobs" / bytes(entry.body["hash"]).hex()).read_bytes()  # type: ignore[arg-type]  # a digest
    assert blob.endswith(vector.tobytes())


def test_the_model_card_says_what_it_is_and_gives_no_patient_away(
    finished: Finished, exported: tuple[Path, str]
) -> None:
    out, said_aloud = exported
    assert "nobody has paid ε" in said_aloud
    card = (out / "README.md").read_text()
    front, text = card.removeprefix("---\n").split("---\n", 1)
    assert "license: CC-BY-4.0" in front
    assert "pipeline_tag: tabular-classification" in front
    for said in ("hospital-1, hospital-2", finished.study, "not a medical device", "ε = "):
        assert said in " ".join(text.split())
    sha256 = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert sha256 in text
    assert "AUC" not in card
    assert str(finished.home) not in card
    with safe_open(out / "model.safetensors", framework="np") as file:  # type: ignore[no-untyped-call]  # the library leaves it untyped
        assert file.metadata()["study"] == finished.study


def test_an_export_never_overwrites_and_leaves_nothing_half(
    finished: Finished, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    words = ("--home", finished.home, "model", "export", finished.study)
    assert p2pfl(*words, "--out", full).code == EXIT_CANNOT_CREATE
    assert p2pfl(*words, "--out", tmp_path / "x", "--licence", "a b\nc").code == EXIT_USAGE
    assert p2pfl(*words, "--out", "/proc/nowhere/x").code == EXIT_IO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_onnx_goes_with_the_export_and_says_the_same(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    words = ("--home", finished.home, "model")
    done(*words, "export", finished.study, "--out", out, "--onnx")
    graph = onnx.load(out / "model.onnx")
    rows = np.loadtxt(
        finished.home / "models" / finished.study / "holdout.csv", delimiter=",", skiprows=1
    )
    columns = rows[:, :-1].astype(np.float32)
    [odds] = ReferenceEvaluator(graph).run(None, {"columns": columns})
    tensors = load_file(out / "model.safetensors")
    expected = columns @ tensors["weight"][0] + tensors["bias"][0]
    assert odds[:, 0] == pytest.approx(expected, abs=1e-5)


def test_images_for_a_model_of_tables_are_refused(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    out = tmp_path / "out"
    words = ("model", "predict", finished.study, tmp_path / "scans", "-o", out)
    ran = p2pfl("--home", finished.home, *words)
    assert (ran.code, out.exists()) == (EXIT_USAGE, False)
    assert "predicts from a table" in ran.err


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
