"""What a finished study leaves at a site: the model with names, and the hold-out to check it on.

Responsible for two files from which anyone can compute the score again with numpy alone:
a safetensors file of named tensors whose metadata says plan, study and column order, and
`holdout.csv` with the *prepared* columns in that order and the label as last column `target`.
The hold-out are patients' records: it stays at the site.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safetensors.numpy import save

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.datasets.tabular import Prepared, feature_names, prepare
from p2pfl.learning.vector import Schema, Vector, read_vector, replace_file, unflatten

TARGET_COLUMN: Final = "target"


def write_model(path: Path, vector: Vector, schema: Schema, manifest: Manifest) -> None:
    """Write a model as named tensors with metadata plan, study, columns (JSON list), target.

    vector: float32[d]. Raises OSError, ModelRefused.
    """
    replace_file(path, save(unflatten(vector, schema), metadata=model_metadata(manifest)))


def model_metadata(manifest: Manifest) -> dict[str, str]:
    """What a file that holds the model says of it: plan, study, and how inputs are prepared."""
    return {
        "plan": manifest.plan.name,
        "arguments": json.dumps(dict(sorted(manifest.plan.arguments.items()))),
        "study": manifest.study_id.hex(),
        **_image_metadata(manifest),
        "columns": json.dumps(list(feature_names(manifest.data.columns))),
        "target": manifest.data.predicted,
    }


def _image_metadata(manifest: Manifest) -> dict[str, str]:
    """How images have to be prepared for the model."""
    images = manifest.data.images
    if images is None:
        return {}
    return {"images": json.dumps(dataclasses.asdict(images), sort_keys=True)}


def write_holdout(path: Path, holdout: Prepared) -> None:
    """Write the prepared hold-out: a header, then one row per patient. Raises OSError.

    Numbers are written so that reading them as float32 gives the same bits.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*holdout.columns, TARGET_COLUMN])
    for features, label in zip(holdout.features, holdout.labels, strict=True):
        writer.writerow([*(repr(float(value)) for value in features), int(label)])
    replace_file(path, text.getvalue().encode())


def write_holdout_names(path: Path, holdout: ImagePatients) -> None:
    """Write which patients were held out, one name a line; their images stay where they are.

    Raises OSError.
    """
    lines = ["patient", *(record.name for record in holdout.records)]
    replace_file(path, ("\n".join(lines) + "\n").encode())


def main(arguments: Sequence[str]) -> int:
    """Write both files from a manifest, a dataset and a model vector; print their paths as JSON."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.results")
    for name in ("manifest", "dataset", "model", "model-out", "holdout-out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--patient-column", default="")
    given = parser.parse_args(arguments)
    manifest = parse_manifest(given.manifest.read_bytes())
    plan = plans.plan_of(manifest)
    schema = plan.schema(manifest.data, plan.arguments(manifest.plan.arguments))
    prepared = prepare(given.dataset, manifest.data, patient_column=given.patient_column)
    _, holdout = split(prepared, manifest)
    write_model(given.model_out, read_vector(given.model, schema.parameters), schema, manifest)
    write_holdout(given.holdout_out, holdout)
    paths = {"model_path": str(given.model_out), "holdout_path": str(given.holdout_out)}
    sys.stdout.write(json.dumps(paths) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
