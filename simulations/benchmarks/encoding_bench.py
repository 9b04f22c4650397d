"""What encodings of updates cost in accuracy and bytes: digits at eight sites, in one process.

    python -m simulations.benchmarks.encoding_bench [--seeds 5] [--rounds 40]

Scikit-learn's 1,797 digits, dealt by label so that sites differ, a 64-128-10 perceptron, full
batches, a plain mean on a complete graph. Each site's update is written and read back by the code
that nodes use, also for the site itself; the rounding is random and differs at every site.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from p2pfl.core.encoding import ENCODINGS, Encoding, blob_size_bytes
from p2pfl.runtime.blobs import BlobStore
from simulations.benchmarks.report import Measured, machine, print_section, write_json

Vector = NDArray[np.float32]
SITES, HIDDEN, STEPS, RATE = 8, 128, 5, 0.3
SHARE_BY_LABEL = 0.6
"""Of a site's patients: those whose digit is one of its own two."""


def network() -> nn.Module:
    """64-128-10."""
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


def load(model: nn.Module, vector: Vector) -> None:
    """Set all parameters."""
    nn.utils.vector_to_parameters(torch.from_numpy(vector), model.parameters())


def vector(model: nn.Module) -> Vector:
    """All parameters, float32[d]."""
    found: Vector = nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
    return found


def accuracy(encoding: Encoding, seed: int, rounds: int, store: BlobStore) -> float:
    """Of the average after the last round, on the fifth of the digits that nobody trained on."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    digits = load_digits()
    order = generator.permutation(len(digits.target))
    x = torch.from_numpy((digits.data[order] / 16.0).astype(np.float32))
    y = torch.from_numpy(digits.target[order].astype(np.int64))
    held = len(y) // 5
    by_label = y[held:] % SITES
    dealt = torch.from_numpy(generator.integers(0, SITES, len(y) - held))
    is_own = torch.from_numpy(generator.random(len(y) - held) < SHARE_BY_LABEL)
    site_of = torch.where(is_own, by_label, dealt)
    model = network()
    base, d = vector(model), sum(parameter.numel() for parameter in model.parameters())
    for _ in range(rounds):
        decoded = []
        for site in range(SITES):
            mine = torch.nonzero(site_of == site).squeeze(1) + held
            load(model, base)
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            for _ in range(STEPS):
                optimizer.zero_grad()
                functional.cross_entropy(model(x[mine]), y[mine]).backward()  # type: ignore[no-untyped-call]  # torch
                optimizer.step()
            digest, _ = store.write_vector(vector(model), encoding, os.urandom)
            decoded.append(store.read_vector(digest, d))
            store.path(digest).unlink()
        base = np.stack(decoded).mean(axis=0)
    load(model, base)
    with torch.no_grad():
        return float((model(x[:held]).argmax(1) == y[:held]).float().mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="repetitions [5]")
    parser.add_argument("--rounds", type=int, default=40, help="rounds [40]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    for encoding in ENCODINGS:
        with TemporaryDirectory() as folder:
            store = BlobStore(Path(folder))
            found = [
                100 * accuracy(encoding, seed, options.rounds, store)
                for seed in range(options.seeds)
            ]
        d = 64 * HIDDEN + HIDDEN + 10 * HIDDEN + 10
        sections[encoding] = [
            Measured(f"accuracy, mean of {options.seeds} seeds", statistics.fmean(found), "%"),
            Measured("  worst seed", min(found), "%"),
            Measured("bytes of an update", blob_size_bytes(d, encoding), ""),
        ]
        print_section(encoding, sections[encoding])
    write_json(options.json, sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
