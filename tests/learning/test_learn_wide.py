"""Wide models look at a few patients at a time, and say the same of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.plans import tabular

FEATURES = 4


def patients(n: int) -> Prepared:
    random = np.random.default_rng(n)
    features = random.uniform(-1, 1, (n, FEATURES)).astype(np.float32)
    labels = (random.random(n) > 0.5).astype(np.float32)
    keys = tuple(number.to_bytes(32, "big") for number in range(n))
    return Prepared(features, labels, ("a", "b", "c", "d"), keys, ())


@pytest.mark.parametrize("n", [1, 2, 11, 12, 13, 50])
def test_a_score_does_not_depend_on_how_many_are_looked_at_together(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
    )
    on = patients(n)
    looked_at = []
    module[0].register_forward_hook(lambda _, given, __: looked_at.append(len(given[0])))
    together = tabular.binary_score(module, on)
    assert looked_at == [n]
    monkeypatch.setattr(tabular, "WIDE", 100)
    apart = tabular.binary_score(module, on)
    assert max(looked_at[1:]) <= tabular.WIDE_ROWS
    assert sum(looked_at[1:]) == n
    assert (apart.auc, apart.accuracy, apart.n) == (together.auc, together.accuracy, together.n)
    assert apart.loss == pytest.approx(together.loss, rel=1e-6)
