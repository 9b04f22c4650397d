"""Every rule that byzfl has gives byzfl's result, on thousands of random cases.

Ties, duplicates, zero vectors, one neighbour and large or tiny values are among the cases. Where
several models are equally good, byzfl takes whichever its sort leaves first; any of them is right.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from p2pfl.averaging import average
from p2pfl.averaging.decisions import count_of

Matrix = npt.NDArray[np.float64]
Rule = Callable[..., bool]

QUICK, MANY = 100, 10_000
CLOSE = 1e-5
_TIED = 1e-9


def case(seed: int) -> tuple[Matrix, int]:
    """Models [N, d], own first, and f: what byzfl is told and we declare."""
    rng = np.random.default_rng([seed, 77])
    n, d = int(rng.integers(2, 13)), int(rng.integers(1, 40))
    models = rng.standard_normal((n, d))
    if seed % 2:  # quarters: ties and duplicates of single values are common
        models = np.round(models * 2) / 4
    if seed % 3 == 0:
        models[rng.integers(n)] = models[rng.integers(n)]
    if seed % 5 == 0:
        models[rng.integers(n)] = 0.0
    if seed % 7 == 0:
        models *= 10.0 ** rng.integers(-6, 7)
    f = count_of(_share(int(rng.integers(0, (n - 1) // 2 + 1)), n), n - 1)
    return models.astype(np.float32).astype(np.float64), f


def _share(f: int, n: int) -> float:
    """The declared share that makes f whole neighbours, as far as a share may go."""
    return min(0.49, f / (n - 1))


def ours(rule: str, models: Matrix, f: int | None = None, **parameters: float) -> Matrix:
    n = len(models)
    if f is not None:
        parameters["byzantine"] = _share(f, n)
    narrow = models.astype(np.float32)
    weights = np.full(n - 1, 1.0 / n, dtype=np.float32)
    return average(rule, narrow[0], narrow[1:], weights, **parameters).value.astype(np.float64)


def close(value: Matrix, expected: Matrix, models: Matrix) -> bool:
    return bool(np.abs(value - expected).max() <= CLOSE * max(1e-30, np.abs(models).max()))


def scores(models: Matrix, f: int) -> Matrix:
    """Krum's, as byzfl defines it."""
    squares = ((models[:, None] - models[None]) ** 2).sum(axis=2)
    return np.asarray(np.sort(squares, axis=1)[:, 1 : len(models) - f].mean(axis=1))


def is_mean_of_the_best(value: Matrix, models: Matrix, cost: Matrix, k: int) -> bool:
    """Whether it is the mean of k models of which none could be exchanged for a better one."""
    edge = np.sort(cost)[k - 1]
    slack = _TIED * max(1e-300, float(cost.max()))
    sure = np.flatnonzero(cost < edge - slack)
    tied = np.flatnonzero(np.abs(cost - edge) <= slack)
    choices = combinations(tied.tolist(), k - len(sure))
    return any(close(value, models[[*sure, *some]].mean(axis=0), models) for some in choices)


def check_mean(byzfl, models: Matrix, f: int) -> bool:
    return close(ours("gossip", models), byzfl.Average()(models), models)


def check_median(byzfl, models: Matrix, f: int) -> bool:
    return close(ours("median", models), byzfl.Median()(models), models)


def check_trimmed_mean(byzfl, models: Matrix, f: int) -> bool:
    return close(ours("trimmed_mean", models, f), byzfl.TrMean(f)(models), models)


def check_krum(byzfl, models: Matrix, f: int) -> bool:
    value = ours("krum", models, f)
    if close(value, byzfl.Krum(f)(models), models):
        return True
    return is_mean_of_the_best(value, models, scores(models, f), 1)


def check_multi_krum(byzfl, models: Matrix, f: int) -> bool:
    value = ours("multi_krum", models, f)
    if close(value, byzfl.MultiKrum(f)(models), models):
        return True
    return is_mean_of_the_best(value, models, scores(models, f), len(models) - f)


def check_nna(byzfl, models: Matrix, f: int) -> bool:
    value = ours("nna", models, f)
    if close(value, byzfl.MoNNA(f, 0)(models), models):
        return True
    to_own = ((models - models[0]) ** 2).sum(axis=1)
    return is_mean_of_the_best(value, models, to_own, len(models) - f)


def check_centered_clipping(byzfl, models: Matrix, f: int) -> bool:
    radius = float(np.median(np.linalg.norm(models - models[0], axis=1)))
    if radius == 0.0:
        return True  # zero stands for a radius from the spread here
    theirs = byzfl.CenteredClipping(L=3, tau=radius)
    theirs.m = models[0].copy()  # its constructor refuses every start
    with np.errstate(divide="ignore"):
        expected = theirs(models)
    return close(ours("centered_clipping", models, radius=radius, steps=3), expected, models)


def check_geometric_median(byzfl, models: Matrix, f: int) -> bool:
    # A hundred steps, as few cases need more: those where a member is the best point, or nearly.
    return any(_is_geometric_median(byzfl, models, steps) for steps in (100, 1000))


def _is_geometric_median(byzfl, models: Matrix, steps: int) -> bool:
    # Their nu and their start at zero have units: they converge on models of size 1 alone.
    size = float(np.abs(models).max()) or 1.0
    scaled = models / size
    expected = byzfl.GeometricMedian(nu=1e-9, T=steps)(scaled)
    value = ours("geometric_median", models, steps=steps) / size
    if close(value, expected, scaled):
        return True
    # On a line, or at a member, the best point is not one or is approached slowly: then what is
    # minimised must agree, and theirs be no better.
    reached, theirs = (
        float(np.linalg.norm(scaled - point, axis=1).sum()) for point in (value, expected)
    )
    return reached <= theirs * (1 + CLOSE)


def check_nnm(byzfl, models: Matrix, f: int) -> bool:
    squares = np.sort(((models[:, None] - models[None]) ** 2).sum(axis=2), axis=1)
    k = len(models) - f
    if f and np.any(squares[:, k] - squares[:, k - 1] <= _TIED * squares.max()):
        return True  # tied neighbours: each model has several nearest-neighbour means
    mixed = byzfl.NNM(f)(models)
    trimmed = close(ours("nnm", models, f), byzfl.TrMean(f)(mixed), models)
    return trimmed and close(ours("nnm+median", models, f), byzfl.Median()(mixed), models)


CHECKS: dict[str, Rule] = {
    "mean": check_mean,
    "median": check_median,
    "trimmed_mean": check_trimmed_mean,
    "krum": check_krum,
    "multi_krum": check_multi_krum,
    "nna": check_nna,
    "centered_clipping": check_centered_clipping,
    "geometric_median": check_geometric_median,
    "nnm": check_nnm,
}


@pytest.mark.parametrize("name", CHECKS)
def test_results_are_byzfls(byzfl, name: str) -> None:
    wrong = [seed for seed in range(QUICK) if not CHECKS[name](byzfl, *case(seed))]
    assert not wrong


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CHECKS)
def test_results_are_byzfls_in_ten_thousand_cases(byzfl, name: str) -> None:
    wrong = [seed for seed in range(MANY) if not CHECKS[name](byzfl, *case(seed))]
    assert not wrong


def test_the_cases_hold_what_they_promise() -> None:
    made = [case(seed)[0] for seed in range(QUICK)]
    assert sum(len(models) == 2 for models in made) > 3
    assert sum(not models.any(axis=1).all() for models in made) > 10
    assert sum(len(np.unique(models, axis=0)) < len(models) for models in made) > 10
