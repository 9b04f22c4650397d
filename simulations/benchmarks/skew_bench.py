"""What each option for sites with different patients is worth: digits with skew, four hospitals.

    python -m simulations.benchmarks.skew_bench [--data DIR] [--seeds 3] [--rounds 20]

Digits: scikit-learn's, ten sites, Dirichlet(0.1) over labels, a network of 64–32–10. Hospitals: the
four of UCI's heart disease data in DIR (without it they are left out), logistic regression,
weighted by patients. Everybody averages with everybody by the plain mean, so that the option alone
makes the difference; ten full-batch steps a round. Accuracy and AUC are means over sites, each on
its own hold-out, then over seeds. ± is the standard deviation of the difference to the first line
of the group over seeds, each seed compared with itself.

Consolidation is for a study that goes on elsewhere: a model of three hospitals is trained on at
the fourth alone; the table says what it keeps at the three.
"""

import argparse
import hashlib
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector
from simulations.benchmarks.report import Measured, machine, write_json
from simulations.lab.play import play
from simulations.lab.shares import Share, shares_of
from simulations.lab.staging import manifest_of
from simulations.lab.terms import Averaging, DataSource, Partition, Scenario


@dataclass(frozen=True, slots=True)
class Steps:
    """How a site takes its ten steps. Momentum 0.9 goes ten times as far with the same rate."""

    rate: float
    momentum: float


MOMENTUM, FAR, SHORT = Steps(0.05, 0.9), Steps(0.5, 0.0), Steps(0.1, 0.0)
Options = dict[str, object]
GROUPS: Final[tuple[tuple[Steps, tuple[Options, ...]], ...]] = (
    (
        MOMENTUM,
        (
            {},
            {"proximal": 0.1},
            {"proximal": 1.0},
            {"correction": "quasi-global"},
            {"input_norm": True},
            {"input_norm": True, "at_home": "norm"},
            {"at_home": "threshold"},
            {"at_home": "head"},
        ),
    ),
    (FAR, ({}, {"correction": "control"})),
    (SHORT, ({}, {"correction": "control"})),
)
CONSOLIDATION: Final = (0.0, 1.0, 10.0, 100.0)
SECOND_STUDY_ROUNDS: Final = 30


def digits(seed: int, rounds: int) -> Scenario:
    """Ten sites that miss most digits."""
    return Scenario(
        "digits",
        seed=seed,
        sites=10,
        rounds=rounds,
        hidden=32,
        data=DataSource("digits", classes=10),
        partition=Partition("dirichlet", 0.1),
        averaging=Averaging("gossip", "complete"),
    )


def hospitals(seed: int, rounds: int, folder: Path) -> Scenario:
    """Four real ones."""
    return Scenario(
        "hospitals",
        seed=seed,
        sites=4,
        rounds=rounds,
        model="logistic",
        data=DataSource("heart-disease", str(folder)),
        partition=Partition("column"),
        averaging=Averaging("gossip", "complete", weighting="patients"),
    )


def with_options(scenario: Scenario, steps: Steps, options: Options) -> Scenario:
    """The scenario with an option, and with the outputs its data needs."""
    outputs = 1 if scenario.model == "logistic" else scenario.data.classes
    plain = Arguments(
        learning_rate=steps.rate,
        momentum=steps.momentum,
        local_steps=10,
        hidden=scenario.hidden,
        outputs=outputs,
    )
    return replace(scenario, training=replace(plain, **options))  # type: ignore[arg-type]


def named(options: Options) -> str:
    """As an operator writes it."""
    words = [f"{k} = {str(v).lower() if isinstance(v, bool) else v}" for k, v in options.items()]
    return ", ".join(words) or "none of them"


def lines_of(
    scenarios: Sequence[Scenario],
    measures: Sequence[str],
    steps: Steps,
    tried: Sequence[Options],
) -> list[Measured]:
    """One line per option: means over seeds, and how far each is from the first."""
    measured: list[Measured] = []
    first: dict[str, list[float]] = {}
    print(f"learning_rate = {steps.rate:g}, momentum = {steps.momentum:g}")
    for options in tried:
        played = [play(with_options(one, steps, options)).final for one in scenarios]
        cells = []
        for measure in measures:
            found = [100.0 * final[measure] for final in played]
            first.setdefault(measure, found)
            apart = [value - before for value, before in zip(found, first[measure], strict=True)]
            spread = statistics.stdev(apart) if len(apart) > 1 else 0.0
            gain = f"{statistics.mean(apart):+5.1f} ±{spread:4.1f}" if options else " " * 11
            measured.append(Measured(f"{named(options)}: {measure}", statistics.mean(found), "%"))
            cells.append(f"{statistics.mean(found):5.1f} {gain}")
        print(f"{named(options):<36}" + "  ".join(cells), flush=True)
    return measured


# -- consolidation -----------------------------------------------------------------------------


def held(share: Share, number: int) -> tuple[Prepared, Prepared]:
    """A hospital's patients, for training and held out."""
    names = tuple(f"c{n}" for n in range(share.x.shape[1]))

    def prepared(x: Vector, labels: np.ndarray, part: str) -> Prepared:
        keys = (hashlib.sha256(f"{number}/{part}/{row}".encode()).digest() for row in range(len(x)))
        return Prepared(x, labels.astype(np.float32), names, tuple(keys), ())

    train = prepared(share.x, share.y, "train")
    return train, prepared(share.holdout_x, share.holdout_y, "held out")


def together(parts: Sequence[Prepared]) -> Prepared:
    """Several hospitals' patients in one table."""
    return Prepared(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].columns,
        tuple(key for part in parts for key in part.patients),
        (),
    )


def gone_on(manifest: Manifest, train: Prepared, start: Vector, strength: float) -> Vector:
    """A study at one hospital from a model of others."""
    arguments = {**manifest.plan.arguments, "consolidation": strength}
    changed = replace(manifest, plan=replace(manifest.plan, arguments=arguments))
    trainer = Trainer(changed, train, denominator=1, random_bytes=os.urandom)
    model = start
    for round_ in range(SECOND_STUDY_ROUNDS):
        model = trainer.train(model, round_, {}).vector
    return model


def consolidated(scenarios: Sequence[Scenario]) -> list[Measured]:
    """AUC at the three hospitals and at the fourth, each hospital being the fourth once."""
    kept: dict[float, list[float]] = {strength: [] for strength in (-1.0, *CONSOLIDATION)}
    gained: dict[float, list[float]] = {strength: [] for strength in kept}
    for scenario in scenarios:
        shares = shares_of(scenario)
        parts = [held(share, number) for number, share in enumerate(shares)]
        sites = [bytes([number]) * 32 for number in range(len(parts))]
        zero = np.zeros(shares[0].x.shape[1] + 1, dtype=np.float32)
        manifest = manifest_of(scenario, sites, zero, shares[0].x.shape[1])  # type: ignore[arg-type]
        written = {"learning_rate": FAR.rate, "local_steps": 10, "momentum": FAR.momentum}
        manifest = replace(manifest, plan=replace(manifest.plan, arguments=written))
        for last in range(len(parts)):
            others = [part for number, part in enumerate(parts) if number != last]
            before, old = (together([part[n] for part in others]) for n in (0, 1))
            start = gone_on(manifest, before, initial_model(manifest), 0.0)
            judge = Trainer(manifest, before, denominator=1, random_bytes=os.urandom)
            for strength in kept:
                model = start
                if strength >= 0.0:
                    model = gone_on(manifest, parts[last][0], start, strength)
                kept[strength].append(100.0 * (judge.score(model, old).auc or 0.5))
                gained[strength].append(100.0 * (judge.score(model, parts[last][1]).auc or 0.5))
    print("\nconsolidation                       AUC at the three   at the fourth")
    measured: list[Measured] = []
    for strength in kept:
        name = "before the second study" if strength < 0.0 else f"consolidation = {strength:g}"
        means = statistics.mean(kept[strength]), statistics.mean(gained[strength])
        print(f"{name:<36}{means[0]:10.1f}{means[1]:18.1f}")
        measured.append(Measured(f"{name}: AUC at the three", means[0], "%"))
        measured.append(Measured(f"{name}: AUC at the fourth", means[1], "%"))
    return measured


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="simulations.benchmarks.skew_bench")
    parser.add_argument("--data", type=Path, help="folder of the four processed.*.data files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print."""
    given = parse(arguments)
    seeds = range(1, given.seeds + 1)
    print(f"{machine()}\n\ndigits, Dirichlet 0.1                accuracy           worst site")
    sections: dict[str, list[Measured]] = {}
    for steps, tried in GROUPS:
        scenarios = [digits(seed, given.rounds) for seed in seeds]
        measures: tuple[str, ...] = ("accuracy_mean", "accuracy_worst")
        sections[f"digits, {steps}"] = lines_of(scenarios, measures, steps, tried)
    if given.data is None:
        write_json(given.json, sections)
        return 0
    real = [hospitals(seed, given.rounds, given.data) for seed in seeds]
    print("\nfour hospitals                       accuracy           worst site         AUC")
    for steps, tried in GROUPS:
        fitting = [one for one in tried if one.get("at_home") != "head"]
        measures = ("accuracy_mean", "accuracy_worst", "auc_mean")
        sections[f"hospitals, {steps}"] = lines_of(real, measures, steps, fitting)
    sections["consolidation"] = consolidated(real)
    write_json(given.json, sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
