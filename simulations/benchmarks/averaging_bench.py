"""How long each averaging rule takes, beside reading its inputs once and beside byzfl.

    python -m simulations.benchmarks.averaging_bench [--models 12] [--parameters 1000000]
        [--rules …] [--byzfl] [--threads 1] [--json FILE]

Prints one line per rule: processor time, median over repetitions, with equal and with unequal
weights, the ratio to reading all models once, extra memory in vectors of d float32, and, with
--byzfl, how many times as much byzfl takes on the same matrix in the same run. Processor time, not
the clock's: other work on the machine then disturbs least. It adds up over threads. Goals are for
`--models 25 --parameters 10000000 --threads 1 --byzfl`, which needs 1 GB for the models and 3 GB
for byzfl's copies. `prepare` is what the first average of a process waits for.
"""

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2pfl.averaging import RULES, average, prepare
from simulations.benchmarks.byzfl_rules import counterparts
from simulations.benchmarks.report import Measured, machine, write_json

# Small inputs are repeated until about so many parameters were read.
_PARAMETERS_PER_TIMING = 10_000_000
_REPETITIONS_MAX = 200

_CLIPPING, _SORTING, _PRODUCTS = 4.0, 6.0, 13.0
GOALS = {
    **dict.fromkeys(("gossip", "cs_plus", "cs_redescending", "clipped_gossip", "nna"), _CLIPPING),
    **dict.fromkeys(("trimmed_mean", "median"), _SORTING),
    **dict.fromkeys(
        ("gm_clip", "geometric_median", "krum", "multi_krum", "centered_clipping"), _PRODUCTS
    ),
}
"""Largest allowed time, in readings of all models, at 25 models of 10,000,000 on one thread."""
BYZFL_GOAL = 20.0

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in ms. extra: vectors of d float32. byzfl_ms: 0 where it has no such rule."""

    rule: str
    equal_ms: float
    unequal_ms: float
    read_ms: float
    extra: float
    byzfl_ms: float

    @property
    def reads(self) -> float:
        """In readings of all models."""
        return self.equal_ms / self.read_ms


def median_ms(step: Callable[[], object], repetitions: int) -> float:
    """Median processor time of `step` over the repetitions, after one that does not count."""
    step()
    taken = []
    for _ in range(repetitions):
        start_s = time.process_time()
        step()
        taken.append((time.process_time() - start_s) * 1e3)
    return statistics.median(taken)


def extra_vectors(step: Callable[[], object], d: int) -> float:
    """Peak memory that `step` allocates, in float32 vectors of d parameters."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1] / (4 * d)
    finally:
        tracemalloc.stop()


def timed(
    rule: str, models: Matrix, repetitions: int, byzfl: Callable[[Matrix], object] | None
) -> Timing:
    """One rule on these models, and reading them in the same moments."""
    n, d = models.shape
    equal = np.full(n - 1, 1 / n, dtype=np.float32)
    unequal = np.linspace(0.5 / n, 1 / n, n - 1).astype(np.float32)
    step = partial(average, rule, models[0], models[1:])
    return Timing(
        rule,
        median_ms(partial(step, equal), repetitions),
        median_ms(partial(step, unequal), repetitions),
        # Beside the rule, not once for all: other work on the machine comes and goes.
        median_ms(models.sum, repetitions),
        extra_vectors(partial(step, equal), d),
        0.0 if byzfl is None else _once_ms(partial(byzfl, models)),
    )


def _once_ms(step: Callable[[], object]) -> float:
    """byzfl takes seconds; it compiles nothing, so the first call counts."""
    start_s = time.process_time()
    step()
    return (time.process_time() - start_s) * 1e3


def line_of(timing: Timing) -> str:
    """One row of the table."""
    times = f"{timing.byzfl_ms / timing.equal_ms:>8.1f}" if timing.byzfl_ms else f"{'–':>8}"
    goal = GOALS.get(timing.rule)
    limit = f"≤{goal:g}" if goal else ""
    return (
        f"{timing.rule:<22}{timing.equal_ms:>10.2f}{timing.unequal_ms:>11.2f}"
        f"{timing.reads:>8.1f} {limit:>4}{timing.extra:>8.2f}{times}"
    )


def measured(timing: Timing, is_full_size: bool) -> list[Measured]:
    """The numbers as lines with goals; goals count at full size alone."""
    goal = GOALS.get(timing.rule) if is_full_size else None
    reads = timing.reads
    lines = [
        Measured(f"{timing.rule}, equal weights", timing.equal_ms, "ms"),
        Measured(f"{timing.rule}, unequal weights", timing.unequal_ms, "ms"),
        Measured(
            f"{timing.rule}, readings",
            reads,
            "×",
            f"≤ {goal:g}" if goal else "",
            reads <= goal if goal else None,
        ),
        Measured(f"{timing.rule}, extra vectors", timing.extra, "", "≤ 2", timing.extra <= 2.0),
    ]
    if timing.byzfl_ms:
        times = timing.byzfl_ms / timing.equal_ms
        met = times >= BYZFL_GOAL if is_full_size else None
        lines.append(Measured(f"{timing.rule}, byzfl / ours", times, "×", "≥ 20", met))
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=12, help="own and neighbours, ≥ 2 [12]")
    parser.add_argument("--parameters", type=int, default=1_000_000, help="of a model [1000000]")
    parser.add_argument("--rules", nargs="+", choices=sorted(RULES), help="[those without nnm+]")
    parser.add_argument("--byzfl", action="store_true", help="compare with byzfl")
    parser.add_argument("--threads", type=int, default=0, help="[as in a node]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    options = parse(arguments)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    n, d = max(2, options.models), options.parameters
    print(machine())
    start_s = time.perf_counter()
    prepare()
    print(f"prepare: {time.perf_counter() - start_s:.2f} s", flush=True)
    models = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    theirs = counterparts(int(0.2 * (n - 1))) if options.byzfl else {}
    repetitions = min(_REPETITIONS_MAX, max(3, _PARAMETERS_PER_TIMING // (n * d)))
    print(f"\n{n} models of {d:,} parameters, median of {repetitions}")
    print(
        f"{'rule':<22}{'equal ms':>10}{'unequal ms':>11}{'× read':>8} {'goal':>4}{'extra':>8}"
        f"{'byzfl ×':>8}",
        flush=True,
    )
    lines: list[Measured] = []
    for rule in options.rules or [name for name in RULES if not name.startswith("nnm+")]:
        timing = timed(rule, models, repetitions, theirs.get(rule))
        print(line_of(timing), flush=True)
        lines += measured(timing, is_full_size=n >= 25 and d >= 10_000_000)
    write_json(options.json, {"averaging": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
