"""25 sites learn one map of handwritten digits: a variational autoencoder, 30 rounds, 10 epochs.

    python -m simulations.benchmarks.vae_digits [--out DIR] [--sites 25] [--rounds 30] [--json FILE]

scikit-learn's 1,797 digits of 8×8 pixels, dealt so that each site has some digits more than others
(Dirichlet over digits, α = 0.5). Plan `tabular-vae` with the node's own training and averaging:
gm_clip on a complete graph, in one process. Beside it, in the same run: all digits in one place for
as many steps, and the sites alone. `latent.png` shows where the model lays each digit, and what it
draws in between. The score is the share of variance explained on digits nobody trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from gossip.identifiers import Digest
from p2pfl.averaging import average
from p2pfl.core.manifest_terms import (
    NO_PRIVACY,
    AveragingTerms,
    DataTerms,
    Manifest,
    NumberColumn,
    PlanTerms,
    StudyId,
    StudyTerms,
)
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.initial import initial_model
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.plans.vae_module import Vae, parts_of
from p2pfl.learning.training import Trainer
from p2pfl.learning.vector import Vector
from simulations.benchmarks.report import (
    Measured,
    at_least,
    at_most,
    exit_status,
    machine,
    print_section,
    write_json,
)

PIXELS: Final = 64
SIDE: Final = 8
ALPHA: Final = 0.5
HOLDOUT: Final = 0.2
BATCH: Final = 16
EPOCHS: Final = 10
LATENT: Final = 2
HIDDEN: Final = 64
GAP_MAX: Final = 0.05
"""How far the collaborative model may stay behind the pooled one."""
DRAWN_SIDE: Final = 12
DRAWN_SPAN: Final = 2.0


@dataclass(frozen=True, slots=True)
class Digits:
    """images: float32[n, 64] in −1…1; digits: int64[n]."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]

    def prepared(self, rows: NDArray[np.int64]) -> Prepared:
        """Some of them as a site's patients."""
        return Prepared(
            features=np.ascontiguousarray(self.images[rows]),
            labels=np.zeros(len(rows), dtype=np.float32),
            columns=tuple(f"p{i}" for i in range(PIXELS)),
            patients=tuple(hashlib.sha256(str(row).encode()).digest() for row in rows),
            notes=(),
        )


@dataclass(frozen=True, slots=True)
class Learned:
    """A way to train: its last model, and the hold-out score after each round."""

    model: Vector
    scores: tuple[float, ...]


def load() -> Digits:
    """The digits that scikit-learn ships."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.data / 8.0 - 1.0).astype(np.float32)
    return Digits(images, np.asarray(found.target, dtype=np.int64))


def dealt(
    digits: NDArray[np.int64], sites: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Rows for each site, skewed by digit; nobody gets fewer than a batch."""
    shares = generator.dirichlet(np.full(sites, ALPHA), size=10)
    rows: list[list[int]] = [[] for _ in range(sites)]
    for digit in range(10):
        own = generator.permutation(np.flatnonzero(digits == digit))
        cuts = (np.cumsum(shares[digit])[:-1] * len(own)).astype(int)
        for site, part in enumerate(np.split(own, cuts)):
            rows[site].extend(int(row) for row in part)
    for few in rows:
        while len(few) < BATCH:
            few.append(max(rows, key=len).pop())
    return [np.array(sorted(some), dtype=np.int64) for some in rows]


def study(rounds: int, steps: int, seed: int) -> Manifest:
    """The study as its manifest would say it."""
    data = DataTerms(
        "tabular",
        2,
        HOLDOUT,
        None,
        tuple(NumberColumn(f"p{i}", 0.0, 16.0, 8.0, ()) for i in range(PIXELS)),
    )
    plan = plan_named("tabular-vae")
    arguments: dict[str, Scalar] = {
        "learning_rate": 0.003,
        "momentum": 0.9,
        "optimiser": "adam",
        "local_steps": steps,
        "batch_size": BATCH,
        "hidden": HIDDEN,
        "latent": LATENT,
        "beta": 1.0,
        "loss": "bernoulli",
    }
    parameters = plan.schema(data, plan.arguments(arguments)).parameters
    terms = StudyTerms("digits", rounds, 0, (), 1, 1, 30.0, 1, seed, Digest(bytes(32)), parameters)
    averaging = AveragingTerms("gm_clip", "complete", 0, (), "uniform", 1.0, 0.2, {})
    return Manifest(
        terms, PlanTerms("tabular-vae", arguments, {}), data, NO_PRIVACY, averaging, b"", NO_STUDY
    )


NO_STUDY: Final = StudyId(bytes(32))


def together(
    manifest: Manifest, parts: Sequence[Prepared], judge: Trainer, holdout: Prepared
) -> Learned:
    """Each site trains, then all average; on a complete graph all sites end with one model."""
    trainers = [_trainer(_with_steps(manifest, part), part) for part in parts]
    models = [initial_model(manifest)] * len(parts)
    weights = np.full(len(parts) - 1, 1.0 / len(parts), dtype=np.float32)
    scores = []
    for round_ in range(manifest.study.rounds):
        trained = [
            trainer.train(model, round_, {}).vector
            for trainer, model in zip(trainers, models, strict=True)
        ]
        models = []
        for site, own in enumerate(trained):
            others = np.stack(trained[:site] + trained[site + 1 :])
            models.append(average("gm_clip", own, others, weights).value)
        scores.append(
            statistics.fmean(judge.score(model, holdout).accuracy for model in models[:3])
        )
        _tell(f"together, round {round_ + 1}/{manifest.study.rounds}: {scores[-1]:.3f}")
    return Learned(models[0], tuple(scores))


def single(manifest: Manifest, part: Prepared, judge: Trainer, holdout: Prepared) -> Learned:
    """One site, or all patients as one, for the same rounds."""
    trainer, model = _trainer(_with_steps(manifest, part), part), initial_model(manifest)
    scores = []
    for round_ in range(manifest.study.rounds):
        model = trainer.train(model, round_, {}).vector
        scores.append(judge.score(model, holdout).accuracy)
    return Learned(model, tuple(scores))


def _trainer(manifest: Manifest, part: Prepared) -> Trainer:
    return Trainer(manifest, part, denominator=1, random_bytes=lambda count: bytes(count))


def _with_steps(manifest: Manifest, part: Prepared) -> Manifest:
    """Ten epochs of this part, at most as many steps as a usual site's ten epochs times eight."""
    steps = EPOCHS * max(1, part.size // BATCH)
    arguments = {**manifest.plan.arguments, "local_steps": min(steps, MOST_STEPS)}
    return replace(manifest, plan=replace(manifest.plan, arguments=arguments))


MOST_STEPS: Final = 8 * EPOCHS


def draw(path: Path, manifest: Manifest, learned: Learned, digits: Digits, curves: Curves) -> None:
    """Where each digit lies, what is drawn in between, and the curves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    module = Vae(PIXELS, HIDDEN, LATENT).eval()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(learned.model), module.parameters())
    with torch.no_grad():
        places = parts_of(module(torch.from_numpy(digits.images)), LATENT).mean.numpy()
        span = np.linspace(-DRAWN_SPAN, DRAWN_SPAN, DRAWN_SIDE, dtype=np.float32)
        grid = torch.from_numpy(np.stack(np.meshgrid(span, span), axis=-1).reshape(-1, 2))
        made = torch.sigmoid(module.out(module.act(module.decoder(grid)))).numpy()
    tiles = made.reshape(DRAWN_SIDE, DRAWN_SIDE, SIDE, SIDE)
    figure = Figure(figsize=(14.0, 4.6))
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    shown = left.scatter(*places.T, c=digits.digits, cmap="tab10", s=7, vmin=-0.5, vmax=9.5)
    figure.colorbar(shown, ax=left, ticks=range(10), label="digit (not trained on)")
    left.set_title(f"Latent space of {manifest.study.name}, {len(digits.digits)} held-out digits")
    # Row 0 of the grid is the lowest second number: upwards, as in the scatter.
    rows = [np.concatenate(list(row), axis=1) for row in tiles[::-1]]
    middle.imshow(np.concatenate(rows), cmap="gray_r", extent=(-DRAWN_SPAN, DRAWN_SPAN) * 2)
    middle.set_title("What the model draws there")
    for name, scores in curves.items():
        right.plot(range(1, len(scores) + 1), scores, label=name)
    right.set_xlabel("round")
    right.set_ylabel("variance explained, held-out digits")
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


Curves = dict[str, tuple[float, ...]]


def main(arguments: Sequence[str]) -> int:
    """Train all three ways, print the table, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("vae-digits"))
    parser.add_argument("--sites", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = load()
    generator = np.random.Generator(np.random.PCG64(given.seed))
    order = generator.permutation(len(found.digits))
    held, kept = np.split(order, [int(HOLDOUT * len(order))])
    manifest = study(given.rounds, EPOCHS, given.seed)
    parts = [
        found.prepared(kept[rows]) for rows in dealt(found.digits[kept], given.sites, generator)
    ]
    holdout = found.prepared(held)
    judge = _trainer(manifest, holdout)
    joint = together(manifest, parts, judge, holdout)
    pooled = single(manifest, found.prepared(np.sort(kept)), judge, holdout)
    alone = [single(manifest, part, judge, holdout) for part in parts[:3]]
    curves = {
        f"{given.sites} sites together": joint.scores,
        "pooled": pooled.scores,
        "three sites alone, mean": tuple(
            statistics.fmean(each) for each in zip(*(one.scores for one in alone), strict=True)
        ),
    }
    tested = Digits(found.images[held], found.digits[held])
    draw(given.out / "latent.png", manifest, joint, tested, curves)
    sizes = [part.size for part in parts]
    late = joint.scores[-1] - joint.scores[-max(2, given.rounds // 3)]
    lines = [
        Measured("sites", len(parts), ""),
        Measured("digits at the smallest site", min(sizes), ""),
        Measured("digits at the largest site", max(sizes), ""),
        Measured("together, round 1", joint.scores[0], "R²"),
        Measured("together, last round", joint.scores[-1], "R²"),
        at_most("together, change over the last third", abs(late), "R²", GAP_MAX),
        Measured("pooled", pooled.scores[-1], "R²"),
        Measured("alone, mean of three", curves["three sites alone, mean"][-1], "R²"),
        at_most("pooled − together", pooled.scores[-1] - joint.scores[-1], "R²", GAP_MAX),
        at_least(
            "together − alone",
            joint.scores[-1] - curves["three sites alone, mean"][-1],
            "R²",
            0.0,
        ),
    ]
    sections = {"A variational autoencoder of digits": lines}
    print(machine())
    print_section(*next(iter(sections.items())))
    print(f"Look at {given.out / 'latent.png'}")
    write_json(given.json, sections)
    return exit_status(sections)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
