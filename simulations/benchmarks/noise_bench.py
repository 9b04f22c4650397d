"""What secure privacy noise costs per step, beside torch's own generator in the same process.

    python -m simulations.benchmarks.noise_bench [--parameters 2114 1000000]

The node draws noise from a ChaCha20 stream and sums four Gaussians per value; torch's generator
is fast, predictable once observed, and therefore not used. Opacus' own secure mode is four draws
from a cryptographic generator that torch itself does not ship; four draws from torch's default
one stand for the least it could cost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch

from p2pfl.privacy.noise import KEY_BYTES, GaussianStream
from simulations.benchmarks.report import Measured, exit_status, machine, print_section, write_json

VALUES_PER_TIMING: Final = 20_000_000
REPETITIONS_MAX: Final = 2_000


def median_ms(step: Callable[[], object], repetitions: int) -> float:
    """Median wall time of `step`, after three that do not count."""
    taken = []
    for number in range(repetitions + 3):
        started_s = time.perf_counter()
        step()
        if number >= 3:
            taken.append((time.perf_counter() - started_s) * 1e3)
    return statistics.median(taken)


def noise_lines(d: int) -> list[Measured]:
    """Milliseconds for one noise vector of d values, by each way, in one thread."""
    repetitions = max(5, min(REPETITIONS_MAX, VALUES_PER_TIMING // d))
    stream = GaussianStream(os.urandom(KEY_BYTES))
    ours = median_ms(lambda: stream.normal(d, std=1.0), repetitions)
    plain = median_ms(lambda: torch.normal(0.0, 1.0, (d,)), repetitions)
    summed = median_ms(lambda: _four_draws(d), repetitions)
    return [
        Measured("ChaCha20 stream, four Gaussians summed", ours, "ms"),
        Measured("torch.normal, one draw", plain, "ms"),
        Measured("torch.normal, four draws summed", summed, "ms"),
        Measured("ours / torch, one draw", ours / plain, "×"),
        Measured("ours / torch, four draws", ours / summed, "×"),
        Measured("ours, values per second", d / ours / 1e3, "M/s"),
    ]


def _four_draws(d: int) -> torch.Tensor:
    return torch.normal(0.0, 1.0, (4, d)).sum(dim=0) / 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [2_114, 1_000_000]
    parser.add_argument("--parameters", type=int, nargs="+", default=sizes, help="vector sizes")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    torch.set_num_threads(1)
    print(machine(), flush=True)
    sections: dict[str, list[Measured]] = {}
    for d in options.parameters:
        title = f"noise for {d:,} parameters"
        sections[title] = noise_lines(d)
        print_section(title, sections[title])
    write_json(options.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
