"""What privacy costs in segmentation: ε against Dice, as numbers and as a plot.

    python -m simulations.benchmarks.privacy_curve [--epsilon 1 2 4 8 16] [--seeds 3]
        [--patients 200] [--out DIR] [--json FILE]

Five hospitals with synthetic tumours as in `make demo-tumour`: the same volumes, scanners and
network, the node's own private training and averaging, in one process. Every ε is a study of its
own with the noise that gives it; beside it, in the same run, the same network without privacy,
with the same steps and with the demonstration's. Dice is the mean of whole tumour, core and
enhancing tumour over all hospitals' hold-outs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from gossip.identifiers import Digest, SiteId
from p2pfl.averaging import average
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import (
    NO_PRIVACY,
    AveragingTerms,
    Manifest,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
)
from p2pfl.core.manifest_writing import render_manifest
from p2pfl.learning.datasets.holdout import split
from p2pfl.learning.datasets.images import ImagePatients, open_images
from p2pfl.learning.datasets.registration import register
from p2pfl.learning.demo_terms import (
    OPEN_ARGUMENTS,
    PRIVATE_ARGUMENTS,
    PRIVATE_CLIP_NORM,
    PRIVATE_STEPS,
    SHARED_ARGUMENTS,
)
from p2pfl.learning.demo_tumours import (
    site_scanner,
    site_sizes,
    tumour_terms,
    write_site,
)
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.reference_images import pooled_patients
from p2pfl.learning.training import Trainer
from p2pfl.privacy.accounting import calibrate
from p2pfl.privacy.buckets import patients_bucket
from simulations.benchmarks.report import Measured, machine, print_section, write_json

SITES: Final = 5
SIDE: Final = 24
ROUNDS: Final = 15
DELTA: Final = "1e-3"
SHARE_MAX: Final = 0.4
YEAR_2090_S: Final = 3_786_912_000
KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Reached:
    """Mean Dice on all hold-outs after the last round. epsilon None: without privacy."""

    seed: int
    epsilon: float | None
    sigma: float
    dice: float


def study(seed: int, rounds: int, epsilon: float | None) -> Manifest:
    """The demonstration's study as its manifest says it. epsilon: of the whole study."""
    data = tumour_terms(SIDE)
    plan = plan_named("segmentation")
    arguments: dict[str, Scalar] = {**SHARED_ARGUMENTS}
    privacy = NO_PRIVACY
    if epsilon is None:
        arguments |= OPEN_ARGUMENTS
    else:
        arguments |= PRIVATE_ARGUMENTS
        sigma = calibrate(epsilon, 1.0, rounds * PRIVATE_STEPS, float(DELTA))
        privacy = PrivacyTerms(
            "gaussian",
            epsilon,
            DELTA,
            PRIVATE_CLIP_NORM,
            "patient",
            "full",
            1.0,
            sigma,
            PRIVATE_STEPS,
        )
    sites = tuple(SiteId(bytes([site + 1]) * 32) for site in range(SITES))
    parameters = plan.schema(data, plan.arguments(arguments)).parameters
    raw = render_manifest(
        study=StudyTerms(
            "curve",
            rounds,
            0,
            sites,
            SITES,
            1,
            60.0,
            YEAR_2090_S,
            seed,
            Digest(bytes(32)),
            parameters,
        ),
        plan=PlanTerms("segmentation", arguments, {}),
        data=data,
        privacy=privacy,
        averaging=AveragingTerms("gm_clip", "complete", 0, (), "patients", SHARE_MAX, 0.2, {}),
    )
    return parse_manifest(raw)


def hospitals(folder: Path, patients: int, seed: int) -> list[ImagePatients]:
    """Made and looked at as the demonstration does."""
    found = []
    for site, count in enumerate(site_sizes(SITES, patients)):
        generator = np.random.Generator(np.random.PCG64([seed, site]))
        given, out = folder / f"images-{site}", folder / f"look-{site}"
        write_site(given, count, SIDE, site_scanner(site, generator), generator)
        out.mkdir()
        request = dict.fromkeys(("schema", "mapping", "table", "patient_column"), "")
        register(request | {"given": str(given), "key": KEY.hex(), "out": str(out)})
        found.append(open_images(out / "images.json", tumour_terms(SIDE)))
    return found


def reached(manifest: Manifest, sites: Sequence[ImagePatients]) -> float:
    """Train everywhere, average, and score the first site's model on all hold-outs."""
    parts = [split(patients, manifest) for patients in sites]
    union = pooled_patients([holdout for _, holdout in parts])
    trainers = [
        Trainer(manifest, train, denominator=patients_bucket(train.size), random_bytes=os.urandom)
        for train, _ in parts
    ]
    sizes = np.array([patients_bucket(train.size) for train, _ in parts], dtype=np.float64)
    shares = np.minimum(sizes / sizes.sum(), manifest.averaging.share_max).astype(np.float32)
    models = [initial_model(manifest)] * len(trainers)
    for round_ in range(manifest.study.rounds):
        trained = [
            trainer.train(model, round_, {}).vector
            for trainer, model in zip(trainers, models, strict=True)
        ]
        models = [
            average(
                "gm_clip",
                own,
                np.stack(trained[:site] + trained[site + 1 :]),
                np.delete(shares, site),
            ).value
            for site, own in enumerate(trained)
        ]
    return trainers[0].score(models[0], union).accuracy


def draw(path: Path, found: Sequence[Reached], patients: int) -> None:
    """Every run a point, their mean a line, the model without privacy dashed. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    private: dict[float, list[float]] = {}
    for one in found:
        if one.epsilon is not None:
            private.setdefault(one.epsilon, []).append(one.dice)
    figure = Figure(figsize=(6.4, 4.2))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for epsilon, dice in private.items():
        axes.plot([epsilon] * len(dice), dice, "o", color="#1d6996", alpha=0.5, markersize=5)
    means = [(epsilon, statistics.fmean(dice)) for epsilon, dice in sorted(private.items())]
    axes.plot(*zip(*means, strict=True), color="#1d6996", linewidth=2.0, label="together, private")
    without = statistics.fmean(one.dice for one in found if one.epsilon is None)
    axes.axhline(without, color="#555555", linestyle="--", label="together, without privacy")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(private), [f"{epsilon:g}" for epsilon in sorted(private)])
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel(f"ε for one patient, at δ = {DELTA}")
    axes.set_ylabel("Dice on all hold-outs")
    axes.set_title(f"{SITES} hospitals, {patients} patients, {SIDE}³ voxels", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(arguments: Sequence[str]) -> int:
    """Run the studies, print the table, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0, 16.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("privacy-curve"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sys.stdout.write(f"{machine()}\n")
    found: list[Reached] = []
    for seed in range(7, 7 + given.seeds):
        with tempfile.TemporaryDirectory(prefix="p2pfl-curve-") as folder:
            sites = hospitals(Path(folder), given.patients, seed)
            for epsilon in (None, *given.epsilon):
                manifest = study(seed, given.rounds, epsilon)
                sigma = manifest.privacy.noise_multiplier
                found.append(Reached(seed, epsilon, sigma, reached(manifest, sites)))
                _tell(found[-1])
    lines = []
    for epsilon in (None, *given.epsilon):
        dice = [one.dice for one in found if one.epsilon == epsilon]
        name = "without privacy" if epsilon is None else f"ε = {epsilon:g}"
        lines.append(Measured(f"{name}, mean of {len(dice)} seeds", statistics.fmean(dice), "Dice"))
        lines.append(Measured(f"{name}, worst", min(dice), "Dice"))
    sections = {"privacy curve": lines}
    print_section("Dice against ε", lines)
    draw(given.out / "curve.png", found, given.patients)
    sys.stdout.write(f"Look at {given.out / 'curve.png'}\n")
    write_json(given.json, sections)
    return 0


def _tell(one: Reached) -> None:
    words = {"seed": one.seed, "epsilon": one.epsilon, "sigma": one.sigma, "dice": one.dice}
    sys.stderr.write(json.dumps(words) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
