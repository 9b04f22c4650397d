"""Runs many variants through a target, and stops at the first that breaks a rule.

The rules: only named refusals; no case takes seconds; what is held does not grow."""

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fuzz_mutations import Mutator
from fuzz_targets import Target

HANG_S = 5.0
"""Of one case: they take microseconds; more than this is a hang, however busy the machine."""
GROWTH_MB_MAX = 24.0
WARM_UP = 2000
"""Cases until caches, bounded queues and the allocator are as large as they get."""


class Broken(AssertionError):
    """A case that breaks a rule, with its bytes to repeat it."""


def fuzz(target: Target, seed: int, cases: int) -> int:
    """Returns how many of the variants were taken and not refused. Raises Broken."""
    mutator = Mutator(seed, target.corpus)
    taken, before_mb = 0, 0.0
    with _alarm():
        for number in range(cases):
            if number == WARM_UP:
                before_mb = _memory_mb()
            taken += _one(target, mutator.bytes(), number)
    if cases > 2 * WARM_UP:
        grown_mb = _memory_mb() - before_mb
        if grown_mb > GROWTH_MB_MAX:
            raise Broken(f"{target.name}: {grown_mb:.0f} MB more after {cases} cases")
    return taken


def _one(target: Target, raw: bytes, number: int) -> int:
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        target.run(raw)
    except target.refusals:
        return 0
    except BaseException as error:
        shown = raw[:2000].hex()
        raise Broken(
            f"{target.name}, case {number}: {type(error).__name__}: {error}; bytes {shown}"
        ) from error
    return 1


@contextmanager
def _alarm() -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"one case took more than {HANG_S} s")

    before = signal.signal(signal.SIGALRM, late)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _memory_mb() -> float:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    (held,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(held) / 1024
