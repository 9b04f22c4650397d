"""Canaries tell noise that is missing from noise that is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from learn_manifests import PRIVATE, manifest, table

from p2pfl.learning.canary_bound import epsilon_lower, surprise
from p2pfl.learning.errors import PrivacyRefused
from p2pfl.learning.privacy_audit import audit


def keys(seed: int) -> Callable[[int], bytes]:
    """Random bytes that are the same each time."""

    def stream() -> Iterator[bytes]:
        count = 0
        while True:
            yield hashlib.sha256(f"{seed}/{count}".encode()).digest()
            count += 1

    blocks = stream()
    return lambda n: b"".join(next(blocks) for _ in range(-(-n // 32)))[:n]


def test_the_bound_of_a_perfect_guesser_is_the_published_one() -> None:
    # 100 of 100 right at error 0.05: e^ε / (1 + e^ε) = 0.05^(1/100).
    bias = 0.05 ** (1 / 100)
    expected = np.log(bias / (1 - bias))
    assert epsilon_lower(100, 100, 100, 0.0, error=0.05) == pytest.approx(expected, abs=1e-6)


def test_delta_only_weakens_the_bound() -> None:
    bounds = [epsilon_lower(1000, 200, 180, delta, error=0.05) for delta in (0.0, 1e-6, 1e-4)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < bounds[0]


def test_a_guesser_by_coin_proves_nothing() -> None:
    assert epsilon_lower(1000, 200, 104, 1e-5, error=0.05) == 0.0
    assert surprise(1000, 200, 104, 0.0, 0.0) > 0.2


@pytest.mark.parametrize("sampling", ["full", "poisson"])
def test_noise_six_times_too_small_is_found_and_right_noise_passes(sampling: str) -> None:
    rate = 1.0 if sampling == "full" else 0.5
    terms = {
        **PRIVATE,
        "sampling": sampling,
        "sampling_rate": rate,
        "noise_multiplier": 3.0,
        "delta": "1e-5",
    }
    study = manifest(table(2), privacy=terms, rounds=4)
    right = audit(study, canaries=400, noise_factor=1.0, random_bytes=keys(1))
    assert right.passed
    assert right.steps == 4
    wrong = audit(study, canaries=400, noise_factor=1 / 6, random_bytes=keys(1))
    assert not wrong.passed
    assert wrong.epsilon_claimed == right.epsilon_claimed


def test_a_study_without_privacy_has_nothing_to_audit() -> None:
    with pytest.raises(PrivacyRefused):
        audit(manifest(table(2)), canaries=16, noise_factor=1.0, random_bytes=keys(1))
