"""How long each averaging rule takes, and the least that any rule must take: reading its inputs.

    python -m simulations.benchmarks.averaging_bench [--models 12] [--parameters 1000000]

Prints one line per rule: median over repetitions, in milliseconds, with equal and with unequal
weights, and extra memory in vectors of d float32.
"""

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from p2pfl.averaging import RULES, average
from simulations.benchmarks.report import Measured, machine, write_json

# Small inputs are repeated until about so many parameters were read.
_PARAMETERS_PER_TIMING = 10_000_000
_REPETITIONS_MAX = 200


def median_ms(step: Callable[[], object], repetitions: int) -> float:
    """Median wall time of `step` over the repetitions, after one that does not count."""
    step()
    taken = []
    for _ in range(repetitions):
        start_s = time.perf_counter()
        step()
        taken.append((time.perf_counter() - start_s) * 1e3)
    return statistics.median(taken)


def extra_vectors(step: Callable[[], object], d: int) -> float:
    """Peak memory that `step` allocates, in float32 vectors of d parameters."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1] / (4 * d)
    finally:
        tracemalloc.stop()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=12, help="own and neighbours, ≥ 2 [12]")
    parser.add_argument("--parameters", type=int, default=1_000_000, help="of a model [1000000]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    options = parse(arguments)
    n, d = max(2, options.models), options.parameters
    models = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    equal = np.full(n - 1, 1 / n, dtype=np.float32)
    unequal = np.linspace(0.5 / n, 1 / n, n - 1).astype(np.float32)
    repetitions = min(_REPETITIONS_MAX, max(3, _PARAMETERS_PER_TIMING // (n * d)))
    read_ms = median_ms(models.sum, repetitions)
    measured = [Measured("(read all)", read_ms, "ms")]
    print(machine())
    print(f"\n{n} models of {d:,} parameters, median of {repetitions}")
    print(f"{'rule':<18}{'equal ms':>10}{'unequal ms':>12}{'× read all':>12}{'extra vectors':>15}")
    print(f"{'(read all)':<18}{read_ms:>10.2f}", flush=True)
    for rule in RULES:
        step = partial(average, rule, models[0], models[1:])
        timings = [median_ms(partial(step, weights), repetitions) for weights in (equal, unequal)]
        extra = extra_vectors(partial(step, equal), d)
        print(
            f"{rule:<18}{timings[0]:>10.2f}{timings[1]:>12.2f}{timings[0] / read_ms:>12.1f}"
            f"{extra:>15.2f}",
            flush=True,
        )
        measured.append(Measured(f"{rule}, equal weights", timings[0], "ms"))
        measured.append(Measured(f"{rule}, unequal weights", timings[1], "ms"))
    write_json(options.json, {"averaging": measured})
    return 0


if __name__ == "__main__":
    sys.exit(main())
