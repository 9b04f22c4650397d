"""A bundle tried before anybody runs it on patients: `python -m p2pfl.learning.bundles.check`.

Responsible for one round on patients who do not exist, and for the model that a study with it
starts from. Runs the bundle, so it is started confined and without data.

In:  {manifest: path, bundle: folder, out: path of the initial model}
Out: {parameters, metrics: [name of each that was a number], unit: [those within 0 to 1]}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from p2pfl.core.manifest import parse_manifest
from p2pfl.learning.bundles.hosting import BundleTrainer
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.synthetic import synthetic_patients
from p2pfl.learning.json_request import answer_request, answers_alone
from p2pfl.learning.vector import write_vector

PATIENTS: Final = 16


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    torch.set_num_threads(1)
    return answer_request(_answered, answers_alone())


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    manifest = parse_manifest(Path(str(request["manifest"])).read_bytes())
    train, holdout = split(
        synthetic_patients(manifest.data, PATIENTS, manifest.study.seed), manifest
    )
    trainer = BundleTrainer(manifest, Path(str(request["bundle"])), Path.cwd(), train, holdout)
    initial = trainer.initial()
    write_vector(Path(str(request["out"])), initial)
    trainer.train(initial, 0, {})
    found = trainer.metrics()
    return {
        "parameters": trainer.schema.parameters,
        "metrics": sorted(found),
        "unit": sorted(name for name, value in found.items() if 0.0 <= value <= 1.0),
    }


if __name__ == "__main__":
    sys.exit(main())
