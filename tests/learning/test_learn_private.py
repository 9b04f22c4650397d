"""What the privacy accounting assumes about one step, measured."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from learn_manifests import LOGISTIC, MLP, POISSON, PRIVATE, manifest
from scipy.stats import kstest
from test_learn_training import TERMS, patients, trainer

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning import plans
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.errors import PrivacyRefused
from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.private_steps import PrivateSteps
from p2pfl.learning.training import Trainer
from p2pfl.privacy.noise import GaussianStream

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

KEY = bytes(range(32))
PLAIN_STEP = Arguments(learning_rate=1.0, momentum=0.0, hidden=64, outputs=2)
FULL = PrivacyTerms("gaussian", 3.0, "1e-3", 0.5, "patient", "full", 1.0, 2.0, 1)


class Steps:
    """One model with private steps whose learning rate is 1: the step is minus the gradient."""

    def __init__(self, privacy: PrivacyTerms, *, plan: str = "tabular-mlp", piece: int = 1 << 24):
        self.plan = plans.plan_named(plan)
        schema = self.plan.schema(TERMS, PLAIN_STEP)
        self.start = self.plan.initial(TERMS, PLAIN_STEP, 7)
        self.model = FlatModel(self.plan.module(TERMS, PLAIN_STEP), schema)
        momentum = LocalOptimizer(self.model)
        momentum.begin_round(PLAIN_STEP)
        self.private = PrivateSteps(
            self.plan, self.model, momentum, privacy, denominator=25, gradient_values_max=piece
        )

    def gradient(self, features: np.ndarray, labels: np.ndarray, key: bytes = KEY) -> np.ndarray:
        """What one round subtracts from the model, float64[d]."""
        self.model.load(self.start)
        keys = tuple(bytes([0]) * 32 for _ in labels)
        met = Prepared(features, labels, ("a", "b", "c"), keys, ())
        self.private.run(met, GaussianStream(key), None)
        return self.start.astype(np.float64) - self.model.vector()

    def clipped_one_at_a_time(self, features: np.ndarray, labels: np.ndarray, clip: float):
        """Σ of each patient's gradient scaled to norm ≤ clip, from plain autograd."""
        plain = FlatModel(self.plan.module(TERMS, PLAIN_STEP), self.plan.schema(TERMS, PLAIN_STEP))
        plain.load(self.start)
        total = np.zeros(len(self.start))
        for i in range(len(labels)):
            plain.gradient.zero_()
            logits = plain.module(torch.from_numpy(features[i : i + 1]))
            self.plan.loss_sum(logits, torch.from_numpy(labels[i : i + 1]), PLAIN_STEP).backward()
            one = plain.gradient.numpy().astype(np.float64)
            total += one * min(1.0, clip / (np.linalg.norm(one) + 1e-6))
        return total


def without_noise(privacy: PrivacyTerms) -> PrivacyTerms:
    return dataclasses.replace(privacy, noise_multiplier=0.0)


@pytest.mark.parametrize("clip", [0.05, 0.5, 50.0])
def test_clipped_sums_are_those_of_one_patient_at_a_time(clip: float) -> None:
    privacy = dataclasses.replace(without_noise(FULL), clip_norm=clip)
    data, steps = patients(), Steps(privacy)
    expected = steps.clipped_one_at_a_time(data.features, data.labels, clip) / 25
    assert steps.gradient(data.features, data.labels) == pytest.approx(expected, abs=2e-6)


def test_one_patient_moves_the_sum_by_at_most_the_clip_norm() -> None:
    data, steps = patients(), Steps(without_noise(FULL))
    everyone = steps.gradient(data.features, data.labels)
    norms = [
        np.linalg.norm(
            everyone
            - steps.gradient(np.delete(data.features, i, axis=0), np.delete(data.labels, i))
        )
        for i in range(5)
    ]
    assert max(norms) * 25 <= 0.5 * (1 + 1e-4)
    assert max(norms) * 25 > 0.49  # clipping binds here, or the test would show nothing


def test_a_batch_in_pieces_gives_the_same_sum_and_one_noise() -> None:
    data = patients()
    whole = Steps(FULL).gradient(data.features, data.labels)
    pieces = Steps(FULL, piece=386 * 7).gradient(data.features, data.labels)
    assert pieces == pytest.approx(whole, abs=2e-6)


def test_noise_is_normal_with_sigma_times_clip_over_the_public_denominator() -> None:
    data, steps = patients(), Steps(FULL)
    center = Steps(without_noise(FULL)).gradient(data.features, data.labels)
    noises = [
        steps.gradient(data.features, data.labels, bytes([i] * 32)) - center for i in range(20)
    ]
    drawn = np.concatenate(noises) * 25 / (2.0 * 0.5)
    assert drawn.std() == pytest.approx(1.0, abs=0.03)
    assert kstest(drawn, "norm").pvalue > 1e-3


def test_noise_is_the_chacha_stream_and_not_torch_s_generator() -> None:
    data, steps = patients(), Steps(FULL)
    torch.manual_seed(1)
    first = steps.gradient(data.features, data.labels)
    torch.manual_seed(1)
    other_key = steps.gradient(data.features, data.labels, bytes(32))
    torch.manual_seed(2)
    same_key = steps.gradient(data.features, data.labels)
    assert np.array_equal(first, same_key)
    assert np.abs(first - other_key).max() > 0.01
    center = Steps(without_noise(FULL)).gradient(data.features, data.labels)
    expected = GaussianStream(KEY).normal(386, std=2.0 * 0.5) / 25
    assert first - center == pytest.approx(expected, abs=2e-6)


def test_an_empty_poisson_batch_still_adds_noise() -> None:
    privacy = dataclasses.replace(FULL, sampling="poisson", sampling_rate=0.3)
    steps = Steps(privacy)
    nobody = np.empty((0, 3), dtype=np.float32)
    found = steps.gradient(nobody, np.empty(0, dtype=np.float32))
    assert found.std() == pytest.approx(2.0 * 0.5 / (25 * 0.3), rel=0.15)


def test_poisson_steps_divide_by_the_public_expectation_and_draw_secretly() -> None:
    privacy = dataclasses.replace(
        without_noise(FULL), sampling="poisson", sampling_rate=0.3, steps_per_round=1
    )
    data, steps = patients(400), Steps(privacy)
    stream = GaussianStream(KEY)
    drawn = stream.chosen(400, 0.3)
    expected = steps.clipped_one_at_a_time(data.features[drawn], data.labels[drawn], 0.5)
    found = steps.gradient(data.features, data.labels)
    assert found == pytest.approx(expected / (25 * 0.3), abs=2e-5)
    assert not np.array_equal(found, steps.gradient(data.features, data.labels, bytes(32)))


def test_a_round_takes_the_manifest_s_steps_whatever_local_steps_says() -> None:
    chosen = manifest(TERMS, privacy={**POISSON, "steps_per_round": 3}, arguments=LOGISTIC)
    local = Trainer(chosen, patients(), denominator=25, random_bytes=lambda n: bytes(n))
    assert local.train(np.zeros(4, dtype=np.float32), 0, {}).steps == 3


def test_every_round_takes_a_fresh_key() -> None:
    keys: list[int] = []

    def random_bytes(count: int) -> bytes:
        keys.append(count)
        return bytes([len(keys)] * count)

    chosen = manifest(TERMS, privacy=PRIVATE, arguments={**LOGISTIC, "momentum": 0.0})
    local = Trainer(chosen, patients(), denominator=25, random_bytes=random_bytes)
    zero = np.zeros(4, dtype=np.float32)
    first, second = (local.train(zero, round_, {}).vector for round_ in range(2))
    assert keys == [32, 8, 32, 8]  # 32 bytes for the noise, 8 for what networks draw
    assert not np.array_equal(first, second)


def test_the_exact_number_of_patients_is_no_denominator() -> None:
    data = patients()
    twice = np.concatenate([data.features, data.features])
    steps = Steps(without_noise(FULL))
    once = steps.gradient(data.features, data.labels)
    double = steps.gradient(twice, np.concatenate([data.labels, data.labels]))
    assert double == pytest.approx(2 * once, abs=2e-6)


def test_a_gradient_that_overflows_counts_as_nothing() -> None:
    data, steps = patients(), Steps(without_noise(FULL))
    steps.start = steps.start * np.float32(3e37)
    found = steps.gradient(data.features, data.labels)
    assert np.isfinite(found).all()
    assert not np.any(np.isnan(steps.model.vector()))


def test_no_accountant_is_attached_to_the_optimizer() -> None:
    """ε comes from the manifest through the node; what runs here cannot say what it spent."""
    optimizer = Steps(FULL).private.optimizer
    assert optimizer.step_hook is None
    assert optimizer.generator is None


def test_steps_without_a_stream_are_refused() -> None:
    steps = Steps(FULL)
    data = patients()
    logits = steps.private._sampled(torch.from_numpy(data.features))
    steps.plan.loss_sum(logits, torch.from_numpy(data.labels), PLAIN_STEP).backward()
    with pytest.raises(PrivacyRefused, match="without a noise stream"):
        steps.private.optimizer.step()


def test_a_public_denominator_below_one_is_refused() -> None:
    chosen = manifest(TERMS, privacy=PRIVATE)
    with pytest.raises(PrivacyRefused, match="expected ≥ 1"):
        Trainer(chosen, patients(), denominator=0, random_bytes=bytes)


def test_privacy_is_not_left_out_for_the_mlp() -> None:
    chosen = manifest(TERMS, plan="tabular-mlp", arguments=MLP, privacy=PRIVATE)
    local = Trainer(chosen, patients(), denominator=25, random_bytes=lambda n: bytes(n))
    base = np.zeros(local.schema.parameters, dtype=np.float32)
    moved = local.train(base, 0, {}).vector
    assert moved.std() == pytest.approx(0.1 * 9.1 * 2.0 / 25, rel=0.1)


def test_the_parts_of_opacus_are_opacus_own_and_load_without_the_slow_rest() -> None:
    program = (
        "import sys, torch\n"
        "from p2pfl.learning.opacus_parts import DPOptimizer, GradSampleModule\n"
        "slow = [name for name in ('sympy', 'scipy', 'torch._dynamo') if name in sys.modules]\n"
        "assert not slow, slow\n"
        "assert 'torch.distributed.tensor' not in sys.modules\n"
        "import opacus, opacus.optimizers\n"
        "assert opacus.optimizers.DPOptimizer is DPOptimizer\n"
        "assert opacus.GradSampleModule is GradSampleModule\n"
        "from torch.distributed.tensor import DTensor\n"
        "assert DTensor is not torch.Tensor\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)


def test_plain_training_loads_no_opacus() -> None:
    program = (
        "import sys\n"
        "import p2pfl.learning.training\n"
        "slow = [n for n in ('opacus', 'monai', 'pandas', 'scipy', 'sympy') if n in sys.modules]\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)


def test_a_study_without_privacy_draws_no_keys() -> None:
    def no_bytes(count: int) -> bytes:
        raise AssertionError(f"{count} random bytes were asked for")

    assert trainer(LOGISTIC).schema.parameters == 4
    local = Trainer(manifest(TERMS), patients(), denominator=1, random_bytes=no_bytes)
    assert local.train(np.zeros(4, dtype=np.float32), 0, {}).steps == 10


def test_where_whole_updates_are_protected_training_is_plain_and_counts_one_release() -> None:
    """The node clips and noises what comes out; see the tests of the training jobs."""
    start = np.zeros(trainer(LOGISTIC).schema.parameters, dtype=np.float32)
    plain = trainer(LOGISTIC).train(start, 0, {})
    by_update = trainer(LOGISTIC, privacy={**PRIVATE, "unit": "site"}).train(start, 0, {})
    assert np.array_equal(plain.vector, by_update.vector)
    assert (plain.steps, by_update.steps) == (LOGISTIC["local_steps"], 1)
