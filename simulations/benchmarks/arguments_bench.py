"""How much the demonstration's learning rate matters: other rates on the same four hospitals.

    python -m simulations.benchmarks.arguments_bench --data DIR [--seeds 5]

Runs `p2pfl demo --data DIR` once per privacy setting for its manifest and tables, then repeats the
study in one process, without network or ledger, with other learning rates and seeds: the node's
own training and `gm_clip`, weights by training patients with the demonstration's cap. Scores are
AUC on the union of hold-outs, so a rate chosen by this table was chosen by looking at them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from p2pfl.averaging import average
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import NO_PRIVACY, Manifest
from p2pfl.learning.initial import initial_model
from p2pfl.learning.reference import SiteData, load_site, pooled_patients
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector
from simulations.benchmarks.demo_run import run_demo
from simulations.benchmarks.report import Measured, machine, print_section, write_json

RATES: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
SHARE_MAX: Final = 0.3


def study_auc(manifest: Manifest, sites: Sequence[SiteData]) -> float:
    """Run the study's training rounds in this process. Returns the union AUC, mean over sites."""
    trainers = [
        Trainer(manifest, site.train, denominator=site.denominator, random_bytes=os.urandom)
        for site in sites
    ]
    total = sum(site.train.size for site in sites)
    shares = np.array([min(SHARE_MAX, site.train.size / total) for site in sites], np.float32)
    start = initial_model(manifest)
    models = [start] * len(sites)
    for round_ in range(manifest.study.rounds_total):
        if round_ < manifest.study.rounds:
            pairs = zip(trainers, models, strict=True)
            models = [trainer.train(model, round_, {}).vector for trainer, model in pairs]
        models = mixed(models, shares)
    union = pooled_patients([site.holdout for site in sites])
    judge = Trainer(
        replace(manifest, privacy=NO_PRIVACY),
        sites[0].train,
        denominator=1,
        random_bytes=os.urandom,
    )
    scores = [judge.score(model, union).auc for model in models]
    return statistics.fmean(score for score in scores if score is not None)


def mixed(models: Sequence[Vector], shares: Vector) -> list[Vector]:
    """Every site's robust average around its own model; what is left of 1 is its own weight."""
    together = np.stack(models)
    return [
        average("gm_clip", own, np.delete(together, at, 0), np.delete(shares, at)).value
        for at, own in enumerate(models)
    ]


def rate_lines(homes: Path, result: dict[str, Any], seeds: int) -> list[Measured]:
    """Mean union AUC over seeds, by learning rate."""
    written = parse_manifest((homes / "study.toml").read_bytes())
    lines = []
    for rate in RATES:
        scores = []
        for seed in range(seeds):
            arguments = {**written.plan.arguments, "learning_rate": rate}
            manifest = replace(
                written,
                study=replace(written.study, seed=seed),
                plan=replace(written.plan, arguments=arguments),
            )
            scores.append(study_auc(manifest, load(manifest, homes, result)))
        lines.append(Measured(f"learning rate {rate:g}", statistics.fmean(scores), "AUC"))
    return lines


def load(manifest: Manifest, homes: Path, result: dict[str, Any]) -> list[SiteData]:
    """Every hospital's patients, cut by the manifest's seed."""
    return [
        load_site(
            manifest,
            site["name"],
            homes / "data" / f"{site['name']}.csv",
            patient_column="patient",
            denominator=max(1, site["patients_train"]),
        )
        for site in result["sites"]
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the four UCI files' folder")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N-1 [5]")
    parser.add_argument("--privacy", nargs="+", default=["none", "eps=3", "eps=1"], help="settings")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    torch.set_num_threads(1)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    for privacy in options.privacy:
        with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
            words = ["--data", str(options.data.absolute()), "--privacy", privacy]
            result = run_demo(words, Path(folder)).result
            homes = Path(folder) / "homes"
            sections[privacy] = rate_lines(homes, result, options.seeds)
        print_section(f"privacy {privacy}, mean of {options.seeds} seeds", sections[privacy])
    write_json(options.json, sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
