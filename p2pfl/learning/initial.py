"""The model every site of a study starts from: `python -m p2pfl.learning.initial`.

Responsible for making it from plan, inputs and seed, the same bytes wherever it is made; the
manifest then names its SHA-256. Loads no torch: 0.3 s.

Either `--manifest FILE --out MODEL` (a whole manifest; its `initial_model` and `parameters` are
not compared, so that a draft may hold zeros there), or JSON on stdin
`{plan, arguments, features, seed, out}`. Prints JSON `{parameters, digest, path}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_manifest
from p2pfl.learning import plans
from p2pfl.learning.errors import LearningError, RequestRefused
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.vector import Vector, write_vector


def initial_model(
    plan: str, arguments: Mapping[str, Scalar], *, features: int, seed: int
) -> Vector:
    """The starting model, float32[d]. Raises PlanRefused."""
    chosen = plans.plan_named(plan)
    return chosen.initial(features, chosen.arguments(arguments), seed)


def main(arguments: Sequence[str]) -> int:
    """Write the model of a manifest or of the JSON on stdin, and print what it is."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.initial")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.manifest is None:
            model, out = _from_json(sys.stdin.read(1 << 20))
        elif given.out is None:
            raise RequestRefused("--out is missing")
        else:
            manifest = parse_manifest(given.manifest.read_bytes())
            model = initial_model(
                manifest.plan.name,
                manifest.plan.arguments,
                features=manifest.data.features,
                seed=manifest.study.seed,
            )
            out = given.out
        digest = write_vector(out, model)
    except (LearningError, ManifestError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    made = {"parameters": int(model.size), "digest": digest.hex(), "path": str(out)}
    sys.stdout.write(json.dumps(made) + "\n")
    return 0


def _from_json(text: str) -> tuple[Vector, Path]:
    try:
        wanted = json.loads(text)
        model = initial_model(
            str(wanted["plan"]),
            dict(wanted["arguments"]),
            features=int(wanted["features"]),
            seed=int(wanted["seed"]),
        )
        return model, Path(wanted["out"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestRefused(
            f"expected JSON with plan, arguments, features, seed and out ({error})"
        ) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
