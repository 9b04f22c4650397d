"""What counts as a leak in a chaos run: growth that goes on, and nothing else."""

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from simulations.chaos.memory import growth, is_leak
from simulations.chaos.node import Life, Sample

IDLE_MB = 150.0


def life(minutes: float, grown_mb: Callable[[float], float]) -> Life:
    """A process looked at every five seconds; its memory goes up and down by some MB."""
    noise = random.Random(3)  # noqa: S311 - the same life each time
    samples = []
    for look in range(int(minutes * 12)):
        resident_mb = IDLE_MB + grown_mb(look / 12) + noise.uniform(-3.0, 3.0)
        samples.append(Sample(1000.0 + 5.0 * look, resident_mb, Counter()))
    return Life(1000.0, samples=samples)


def after_start(minute: float) -> float:
    return 30.0 * (1 - math.exp(-minute / 1.5))


@pytest.mark.parametrize("minutes", [9.0, 15.0, 25.0])
def test_a_leak_of_three_megabytes_a_minute_is_found(minutes: float) -> None:
    leaks = life(minutes, lambda minute: after_start(minute) + 3.0 * minute)
    assert is_leak(growth(leaks))


@pytest.mark.parametrize(
    "grown_mb",
    [
        after_start,
        lambda minute: 60.0 * (1 - math.exp(-minute / 4)),  # a slow machine
        lambda minute: 40.0 * (minute > 8) + 20.0 * (minute > 11),  # neighbours that come back
        lambda minute: 0.5 * minute,  # what is known of the others' ledgers
    ],
)
def test_caches_that_fill_steps_and_ledgers_are_no_leak(grown_mb: Callable[[float], float]) -> None:
    grown = growth(life(15.0, grown_mb))
    assert grown
    assert not is_leak(grown)


def test_a_short_life_proves_nothing() -> None:
    assert growth(life(4.0, lambda minute: 10.0 * minute)) == ()
    assert not is_leak(())
