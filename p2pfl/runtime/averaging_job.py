"""Robust averaging over stored models: the same function for a running round and for a replay.

Weights are millionths in the ledger; the float32 that is used is made from them here, so that an
auditor who has the entries and the blobs computes the very same bits."""

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfl.averaging import average
from p2pfl.runtime.blobs import BlobStore

WEIGHT_UNIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Mixed:
    """value: float32[d]. verdicts: kept, clipped or dropped, per input. distance: largest
    distance of an input from the own model, relative to the own norm."""

    value: NDArray[np.float32]
    verdicts: tuple[str, ...]
    distance: float


def mix(
    blobs: BlobStore,
    rule: str,
    rule_parameters: Mapping[str, str],
    own: bytes,
    inputs: Sequence[tuple[bytes, int]],
    parameters: int,
) -> Mixed:
    """Average stored models. inputs: (model digest, weight in millionths).

    Raises BlobError for a missing or damaged model and AveragingError for a bad parameter."""
    own_vector = blobs.read_vector(own, parameters)
    vectors = [blobs.read_vector(digest, parameters) for digest, _ in inputs]
    weights = np.array([weight / WEIGHT_UNIT for _, weight in inputs], dtype=np.float32)
    numbers = {name: _number(text) for name, text in rule_parameters.items()}
    averaged = average(rule, own_vector, vectors, weights, **numbers)
    verdicts = tuple(str(evidence.verdict) for evidence in averaged.evidence)
    return Mixed(averaged.value, verdicts, _distance(own_vector, vectors))


def averaging_environment() -> bytes:
    """SHA-256 over what the bits of an average may depend on: two sites with the same value get
    the same model from the same inputs, bit for bit."""
    parts = (np.__version__, platform.machine(), sys.implementation.cache_tag, sys.byteorder)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _distance(own: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> float:
    norm = float(np.linalg.norm(own.astype(np.float64)))
    gaps = [float(np.linalg.norm((v - own).astype(np.float64))) for v in others]
    return max(gaps, default=0.0) / norm if norm else max(gaps, default=0.0)
