"""The model every site of a study starts from: `python -m p2pfl.learning.initial`.

Responsible for making it from plan, inputs and seed, the same bytes wherever it is made; the
manifest then names its SHA-256. For tables it loads no torch: 0.3 s.

`--manifest FILE --out MODEL`: a whole manifest; its `initial_model` and `parameters` are not
compared, so that a draft may hold zeros there. Prints JSON `{parameters, digest,
path, clip_norm (of a plan that counts, else 0)}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning import plans
from p2pfl.learning.errors import LearningError
from p2pfl.learning.tallies import tally_of
from p2pfl.learning.tallies.tally import clip_norm
from p2pfl.learning.tallies.tally import schema_of as tally_schema_of
from p2pfl.learning.vector import Vector, write_vector


def initial_model(manifest: Manifest) -> Vector:
    """The starting model, float32[d]. Raises PlanRefused, PrivacyRefused."""
    if manifest.is_counting:
        tally = tally_of(manifest)
        tally.check(manifest)
        return np.zeros(tally_schema_of(tally, manifest).parameters, dtype=np.float32)
    chosen = plans.plan_of(manifest)
    arguments = chosen.arguments(manifest.plan.arguments)
    chosen.check(manifest.data, arguments, manifest.privacy)
    return chosen.initial(manifest.data, arguments, manifest.study.seed)


def main(arguments: Sequence[str]) -> int:
    """Write the model of a manifest, and print what it is."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.initial")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        manifest = parse_manifest(given.manifest.read_bytes())
        model = initial_model(manifest)
        digest = write_vector(given.out, model)
    except (LearningError, ManifestError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    made = {
        "parameters": int(model.size),
        "digest": digest.hex(),
        "path": str(given.out),
        "clip_norm": clip_norm(tally_of(manifest), manifest) if manifest.is_counting else 0.0,
    }
    sys.stdout.write(json.dumps(made) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
