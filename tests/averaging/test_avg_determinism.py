"""The same inputs give the same bits: in another process, with other threads or hash seed."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from p2pfl.averaging import RULES, average

_PROGRAM = """
import hashlib, numpy as np
from p2pfl.averaging import RULES, average
from p2pfl.averaging.topology import neighbours
models = np.random.default_rng(11).standard_normal((12, 300_001)).astype(np.float32)
weights = np.linspace(0.03, 0.1, 11).astype(np.float32)
for rule in sorted(RULES):
    averaged = average(rule, models[0], models[1:], weights)
    bits = averaged.value.tobytes() + repr(averaged.evidence).encode()
    print(rule, hashlib.sha256(bits).hexdigest())
print(neighbours("random-regular", [bytes([i]) * 32 for i in range(20)], degree=6, seed=3, epoch=1))
"""


def _output(threads: str, hash_seed: str) -> str:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_threads_and_hash_seed_change_no_bit():
    one = _output("1", "0")
    assert len(one.splitlines()) == len(RULES) + 1
    assert _output("2", "1") == one


def test_zero_signs_do_not_depend_on_the_order_of_neighbours():
    models = np.array([[-0.0], [0.0], [-0.0]], dtype=np.float32)
    weights = np.full(2, 1 / 3, dtype=np.float32)
    for order in ([0, 1], [1, 0]):
        value = average("median", models[0], models[1:][order], weights).value
        assert not np.signbit(value[0])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_extra_memory_stays_below_two_vectors(rule):
    d = 1_000_000
    models = np.random.default_rng(2).standard_normal((9, d)).astype(np.float32)
    weights = np.full(8, 0.1, dtype=np.float32)
    average(rule, models[0, :100], models[1:, :100], weights)
    tracemalloc.start()
    try:
        average(rule, models[0], models[1:], weights)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 2 * d * 4
