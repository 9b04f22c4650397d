"""The floor under the benchmarks: training and averaging without anything around them."""

import torch
from torch import nn

from simulations.benchmarks.noise_bench import noise_lines
from simulations.benchmarks.plain_torch import WARM_UP_ROUNDS, Site, average, round_times


def site(seed: int) -> Site:
    torch.manual_seed(seed)
    features = torch.randn(20, 3)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return Site(features, (features[:, 0] > 0).long(), model, optimizer, steps=3)


def test_models_are_averaged_by_weight() -> None:
    models = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    for model, value in zip(models, (0.0, 4.0), strict=True):
        nn.init.constant_(model.weight, value)
    average(models, [0.25, 0.75])
    assert [model.weight.item() for model in models] == [3.0, 3.0]


def test_plain_training_learns_and_every_round_is_timed() -> None:
    sites = [site(1), site(2)]
    _, before = round_times(sites, 1)
    taken_s, after = round_times(sites, 20)
    assert len(taken_s) == 20
    assert WARM_UP_ROUNDS >= 1
    assert min(taken_s) > 0
    assert after < before


def test_noise_is_timed_beside_torch() -> None:
    assert all(line.value > 0 for line in noise_lines(100_000))
