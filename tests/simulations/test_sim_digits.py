"""The digits study: gradients, partitions, the guard, and that a seed decides everything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations import digits_sites as digits
from simulations import digits_study as study
from simulations.adversaries_adaptive import RuleInUse
from simulations.digits_guard import Guarded
from simulations.digits_sites import Images, Local
from simulations.digits_study import Setting, run

SMALL = Setting(
    RuleInUse("gm_clip"), honest=4, attackers=1, rounds=2, alpha=1.0, local=Local(steps=3)
)


def images(seed: int, count: int = 12) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.random((count, 64)).astype(np.float32), rng.integers(0, 10, count))


def test_gradients_are_those_of_the_loss() -> None:
    model, seen = digits.initial_model(3), images(1)
    gradient = digits.gradient_of(model.astype(np.float64), seen)
    direction = np.random.default_rng(2).standard_normal(model.size).astype(np.float32)
    direction /= np.linalg.norm(direction)
    step = np.float32(1e-2)
    up, down = (
        digits.losses(model + sign * step * direction, seen).astype(np.float64).mean()
        for sign in (1, -1)
    )
    assert (up - down) / (2 * step) == pytest.approx(float(gradient @ direction), rel=0.02)


def test_sites_trained_together_end_where_each_alone_would() -> None:
    parts = (images(1), images(2))
    model = digits.initial_model(0)
    offsets = np.zeros((2, 10), dtype=np.float32)
    pixels = np.stack([part.pixels for part in parts])
    labels = np.stack([part.labels for part in parts])
    both = digits.stacked_gradient(np.stack([model, model]), pixels, labels, offsets)
    for at, part in enumerate(parts):
        assert both[at] == pytest.approx(
            digits.gradient_of(model.astype(np.float64), part), abs=1e-6
        )


def test_a_small_alpha_gives_sites_few_digits_and_every_image_to_one_site() -> None:
    even, skewed = digits.divided(5, 100.0, 1), digits.divided(5, 0.1, 1)

    def kinds(shares: digits.Shares) -> float:
        """Mean over sites of the effective number of digits."""
        counts = [np.bincount(part.labels, minlength=10) for part in shares.train]
        return float(np.mean([count.sum() ** 2 / (count**2).sum() for count in counts]))

    assert kinds(even) > 8 > 5 > kinds(skewed)
    for shares in (even, skewed):
        parts = [*shares.train, *shares.holdout, shares.test]
        assert sum(len(part.labels) for part in parts) == 1797
        assert len(shares.pooled.labels) == sum(len(part.labels) for part in shares.train)


def test_a_seed_decides_everything_and_attacks_are_felt() -> None:
    assert run(SMALL, 3) == run(SMALL, 3)
    assert run(SMALL, 3) != run(SMALL, 4)
    attacked = replace(SMALL, attack="ascent", rule=RuleInUse("gossip"))
    assert run(attacked, 3).mean < run(SMALL, 3).mean


@pytest.mark.parametrize("attack", ["dissensus", "label-flip", "not-a-number"])
def test_other_graphs_rules_and_guards_run(attack: str) -> None:
    setting = replace(
        SMALL, attack=attack, topology="ring", rule=RuleInUse("cs_redescending"), is_guarded=True
    )
    found = run(setting, 1)
    assert 0.0 <= found.worst <= found.mean <= 1.0
    assert 0.0 <= found.cut <= 1.0


def test_a_guard_takes_a_good_step_and_refuses_a_ruinous_one() -> None:
    seen, model = images(5, 40), digits.initial_model(1)
    better = model - np.float32(0.5) * digits.gradient_of(model.astype(np.float64), seen).astype(
        np.float32
    )
    guard = Guarded(seen)
    assert np.array_equal(guard.taken(model, model, better), model + (better - model))
    assert guard.cut == 0
    assert np.array_equal(guard.taken(model, better, -30 * better), better)
    assert guard.cut == 1


def test_the_command_prints_a_line_per_attack_and_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "rows.json"
    words = ["--honest", "4", "--attackers", "1", "--rounds", "1", "--local-steps", "1"]
    words += ["--seeds", "1", "--alpha", "1", "--attacks", "none", "ipm-2", "--guard"]
    assert study.main([*words, "--json", str(written)]) == 0
    shown = capsys.readouterr().out
    assert "worst of 1 attacks" in shown
    assert [row["attack"] for row in json.loads(written.read_text())] == ["none", "ipm-2"]
    assert study.attacks_named(["fixed", "undo", "undo"])[-1] == "undo"
