"""The same study in plain torch: one process, no network, no ledger, no files between rounds.

    python -m simulations.benchmarks.plain_torch   (a JSON request on stdin, see round_bench)

Every site's batches, steps, model and hyper-parameters are those of the manifest; the sites take
their turns in one thread and the models are averaged by a plain weighted mean. With privacy it
is Opacus as its users write it, with noise from torch's own generator. This is what a round costs
if nothing has to be exchanged, recorded or protected: the floor under the benchmark of rounds.

In:  {manifest: path, sites: [{dataset, patient_column, denominator}]}
Out: {round_s: [per round], used_s: processor seconds per round, loss: after the last}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest, PrivacyTerms
from p2pfl.learning.reference import load_site

WARM_UP_ROUNDS: Final = 2
REQUEST_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """One site's training patients, its model, and the optimizer that keeps its momentum."""

    features: torch.Tensor
    labels: torch.Tensor
    model: nn.Module
    optimizer: Any  # Opacus' optimizer is untyped
    steps: int

    def train(self) -> float:
        """One round's local work over full batches. Returns the last loss."""
        loss = torch.zeros(())
        for _ in range(self.steps):
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(self.features), self.labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimizer.step()
        return float(loss.detach())


def round_times(sites: Sequence[Site], rounds: int) -> tuple[list[float], float]:
    """Train and average; seconds of every round after a few that warm up, and the last loss."""
    taken_s, loss = [], 0.0
    total = sum(len(site.labels) for site in sites)
    for _ in range(rounds + WARM_UP_ROUNDS):
        started_s = time.perf_counter()
        loss = sum(site.train() * len(site.labels) for site in sites) / total
        average([site.model for site in sites], [len(site.labels) / total for site in sites])
        taken_s.append(time.perf_counter() - started_s)
    return taken_s[WARM_UP_ROUNDS:], loss


@torch.no_grad()
def average(models: Sequence[nn.Module], weights: Sequence[float]) -> None:
    """Give all models the weighted mean of their parameters."""
    for together in zip(*(model.parameters() for model in models), strict=True):
        mean = sum(weight * one for weight, one in zip(weights, together, strict=True))
        for parameter in together:
            parameter.copy_(torch.as_tensor(mean))


def make_site(manifest: Manifest, given: Mapping[str, Any]) -> Site:
    """Build what a site needs, from the very patients that its node trains on."""
    loaded = load_site(
        manifest,
        "site",
        Path(given["dataset"]),
        patient_column=given["patient_column"],
        denominator=int(given["denominator"]),
    )
    features = torch.from_numpy(loaded.train.features)
    labels = torch.from_numpy(loaded.train.labels).long()
    arguments = manifest.plan.arguments
    torch.manual_seed(manifest.study.seed)
    model: nn.Module = nn.Sequential(
        nn.Linear(features.shape[1], int(arguments["hidden"])),
        nn.ReLU(),
        nn.Linear(int(arguments["hidden"]), int(arguments["outputs"])),
    )
    privacy, steps = manifest.privacy, int(arguments["local_steps"])
    if privacy.sampling == "poisson":
        raise SystemExit("plain torch here trains over full batches, the study samples them")
    if privacy.is_private:
        model, steps = _with_sample_gradients(model), privacy.steps_per_round
    optimizer: Any = torch.optim.SGD(
        model.parameters(),
        lr=float(arguments["learning_rate"]),
        momentum=float(arguments["momentum"]),
    )
    if privacy.is_private:
        optimizer = _noisy(optimizer, privacy, len(labels))
    return Site(features, labels, model, optimizer, steps)


def _with_sample_gradients(model: nn.Module) -> nn.Module:
    from opacus.grad_sample import GradSampleModule

    wrapped: nn.Module = GradSampleModule(model)
    return wrapped


def _noisy(optimizer: torch.optim.Optimizer, privacy: PrivacyTerms, patients: int) -> object:
    from opacus.optimizers import DPOptimizer

    return DPOptimizer(
        optimizer,
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.clip_norm,
        expected_batch_size=patients,
    )


def main() -> int:
    """Answer the request."""
    torch.set_num_threads(1)
    request = json.loads(sys.stdin.read(REQUEST_BYTES_MAX))
    manifest = parse_manifest(Path(request["manifest"]).read_bytes())
    sites = [make_site(manifest, given) for given in request["sites"]]
    taken_s, loss = round_times(sites, manifest.study.rounds)
    sys.stdout.write(json.dumps({"round_s": taken_s, "loss": loss}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
