"""Score a released logistic model on its hold-out, with numpy alone.

    python examples/score_model.py MODEL.safetensors HOLDOUT.csv

Both files lie in <home>/models/<study>/ when a study with the plan `tabular-logistic` is complete.
Nothing of this project is imported: this is how anybody can check a score.
"""

# ruff: noqa: T201 - an example prints its result.

import csv
import json
import sys
from pathlib import Path

import numpy as np


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Named float32 tensors and metadata of a safetensors file: a JSON header, then raw numbers."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, about in header.items():
        start, stop = about["data_offsets"]
        numbers = np.frombuffer(raw[end + start : end + stop], dtype="<f4")
        tensors[name] = numbers.reshape(about["shape"])
    return tensors, metadata


def read_holdout(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Column names, float32[n, p] prepared features and the n labels (0 or 1)."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    values = np.array(rows, dtype=np.float32)
    return header[:-1], values[:, :-1], values[:, -1]


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a positive patient scores above a negative one; ties count half."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    above = (positive[:, None] > negative[None, :]).mean()
    tied = (positive[:, None] == negative[None, :]).mean()
    return float(above + tied / 2)


def main(model_file: str, holdout_file: str) -> None:
    """Print the scores."""
    tensors, metadata = read_tensors(Path(model_file))
    columns, features, labels = read_holdout(Path(holdout_file))
    if metadata["plan"] != "tabular-logistic":
        sys.exit(f"this example scores tabular-logistic, not {metadata['plan']}")
    if json.loads(metadata["columns"]) != columns:
        sys.exit("the hold-out has other columns than the model was trained on")
    log_odds = features @ tensors["weight"][0] + tensors["bias"][0]
    accuracy = float(((log_odds > 0) == (labels == 1)).mean())
    print(f"study     {metadata['study']}")
    print(f"predicts  {metadata['target']}")
    print(f"patients  {len(labels)} held out, {int(labels.sum())} of them positive")
    print(f"accuracy  {accuracy:.3f}")
    if 0 < labels.sum() < len(labels):
        print(f"AUC       {auc(log_odds, labels):.3f}")
    else:
        print("AUC       not defined: all held-out patients have one label")


if __name__ == "__main__":
    main(*sys.argv[1:])
