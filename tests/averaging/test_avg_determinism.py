"""The same inputs give the same bits: in another process, with other threads or hash seed."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from p2pfl.averaging import RULES, average, passes, prepare

_PROGRAM = """
import hashlib, sys, numpy as np
from p2pfl.averaging import RULES, average, prepare
from p2pfl.averaging.topology import neighbours
if sys.argv[1] == "compiled":
    assert prepare()
models = np.random.default_rng(11).standard_normal((12, 5_001)).astype(np.float32)
weights = np.linspace(0.03, 0.1, 11).astype(np.float32)
for rule in sorted(RULES):
    averaged = average(rule, models[0], models[1:], weights)
    bits = averaged.value.tobytes() + repr(averaged.evidence).encode()
    print(rule, hashlib.sha256(bits).hexdigest())
assert ("numba" in sys.modules) is (sys.argv[1] == "compiled")
print(neighbours("random-regular", [bytes([i]) * 32 for i in range(20)], degree=6, seed=3, epoch=1))
"""


def _output(how: str, threads: str, hash_seed: str) -> str:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, how],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_threads_hash_seed_and_compiled_code_change_no_bit():
    one = _output("plain", "1", "0")
    assert len(one.splitlines()) == len(RULES) + 1
    assert _output("compiled", "2", "1") == one


@pytest.mark.parametrize("rule", sorted(RULES))
def test_segments_on_several_threads_change_no_bit(rule, monkeypatch):
    prepare()
    models = np.random.default_rng(7).standard_normal((6, 150_001)).astype(np.float32)
    weights = np.linspace(0.05, 0.2, 5).astype(np.float32)
    monkeypatch.setattr(passes, "_THREADS_FROM", 0)
    found = set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        averaged = average(rule, models[0], models[1:], weights)
        found.add((averaged.value.tobytes(), averaged.evidence))
    assert len(found) == 1


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
    prepare()
    tracemalloc.start()
    try:
        average(rule, models[0], models[1:], weights)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 2 * d * 4
