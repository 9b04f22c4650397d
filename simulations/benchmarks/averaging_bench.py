"""How long each averaging rule takes, and the least that any rule must take: reading its inputs.

    python -m simulations.benchmarks.averaging_bench [--models 12] [--parameters 1000000]

Prints one line per rule: median over repetitions, in milliseconds, with equal and with unequal
weights, and extra memory in vectors of d float32.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np

from p2pfl.averaging import RULES, average

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


def main() -> None:
    """Read the sizes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=12, help="own and neighbours, at least 2")
    parser.add_argument("--parameters", type=int, default=1_000_000)
    arguments = parser.parse_args()
    n, d = max(2, arguments.models), arguments.parameters
    models = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    equal = np.full(n - 1, 1 / n, dtype=np.float32)
    unequal = np.linspace(0.5 / n, 1 / n, n - 1).astype(np.float32)
    repetitions = min(_REPETITIONS_MAX, max(3, _PARAMETERS_PER_TIMING // (n * d)))
    print(f"{n} models of {d:,} parameters, median of {repetitions}")
    print(f"{'rule':<18}{'equal ms':>10}{'unequal ms':>12}{'extra vectors':>15}")
    print(f"{'(read all)':<18}{median_ms(models.sum, repetitions):>10.2f}")
    for rule in RULES:
        step = partial(average, rule, models[0], models[1:])
        timings = [median_ms(partial(step, weights), repetitions) for weights in (equal, unequal)]
        extra = extra_vectors(partial(step, equal), d)
        print(f"{rule:<18}{timings[0]:>10.2f}{timings[1]:>12.2f}{extra:>15.2f}")


if __name__ == "__main__":
    main()
