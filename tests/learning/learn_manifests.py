"""Manifests for the learning tests, written as the TOML a proposer would sign."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import tomli_w

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import DataTerms, Manifest, NumberColumn, Target
from p2pfl.learning import plans
from p2pfl.learning.demo_data import terms_toml

LOGISTIC = {"learning_rate": 0.5, "local_steps": 10, "momentum": 0.9}
MLP = {
    "learning_rate": 0.1,
    "local_steps": 10,
    "momentum": 0.9,
    "hidden": 64,
    "outputs": 2,
}
PRIVATE: Mapping[str, object] = {
    "mechanism": "gaussian",
    "epsilon": 3.0,
    "delta": "1e-3",
    "clip_norm": 2.0,
    "unit": "patient",
    "sampling": "full",
    "sampling_rate": 1.0,
    "noise_multiplier": 9.1,
    "steps_per_round": 1,
}
POISSON: Mapping[str, object] = {**PRIVATE, "sampling": "poisson", "sampling_rate": 0.3}


def table(features: int) -> DataTerms:
    """A table of so many numbers."""
    columns = tuple(NumberColumn(f"c{i}", -1.0, 1.0, 0.0, ()) for i in range(features))
    return DataTerms("tabular", 2, 0.34, Target("sick", 0.0), columns)


def manifest_bytes(
    terms: DataTerms,
    *,
    plan: str = "tabular-logistic",
    arguments: Mapping[str, object] = LOGISTIC,
    ranges: Mapping[str, list[float]] | None = None,
    privacy: Mapping[str, object] | None = None,
    seed: int = 7,
    rounds: int = 30,
    parameters: int | None = None,
    work_limit_s: float = 0.0,
) -> bytes:
    """A four-site manifest; d follows from the plan unless it is given."""
    if parameters is None:
        chosen = plans.plan_named(plan)
        parameters = chosen.schema(terms, chosen.arguments(dict(arguments))).parameters
    document = {
        "study": {
            "name": "learn",
            "rounds": rounds,
            "consensus_rounds": 0,
            "sites": [f"{site:02x}" * 32 for site in range(1, 5)],
            "sites_min": 4,
            "neighbours_min": 2,
            "round_deadline_s": 30.0,
            "expires": tomllib.loads("x = 2090-01-01T00:00:00Z")["x"],
            "seed": seed,
            "initial_model": "00" * 32,
            "parameters": parameters,
            **({"work_limit_s": work_limit_s} if work_limit_s else {}),
        },
        "plan": {"name": plan, "arguments": dict(arguments), "ranges": dict(ranges or {})},
        **tomllib.loads(terms_toml(terms).decode()),
        "privacy": dict(privacy or {"mechanism": "none"}),
        "averaging": {
            "rule": "gm_clip",
            "topology": "complete",
            "weighting": "patients",
            "share_max": 0.5,
            "byzantine": 0.2,
            "parameters": {},
        },
    }
    return tomli_w.dumps(document).encode()


def manifest(terms: DataTerms, **changes: object) -> Manifest:
    """The same, parsed."""
    return parse_manifest(manifest_bytes(terms, **changes))  # type: ignore[arg-type]
