"""Robust averaging over stored models: the same function for a running round and for a replay.

Weights are millionths in the ledger; the float32 that is used is made from them here, so that an
auditor who has the entries and the blobs computes the very same bits."""

import hashlib
import mmap
import os
import platform
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ledger.provenance.records_round import STALENESS
from p2pfl.averaging import (
    Halves,
    Model,
    Scaled,
    Spread,
    Verdict,
    average,
    layout,
    spread_of,
    values_of,
)
from p2pfl.core.drafts import GUARD_STEP
from p2pfl.core.encoding import SCALED_TOGETHER, blob_size_bytes, scales_of
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.encoding import require_scales, require_whole
from p2pfl.runtime.errors import NotFinite, WrongLength
from p2pfl.runtime.vector_files import Layout

WEIGHT_UNIT = 1_000_000
MAPPED_FROM_BYTES = 1 << 22
"""Smaller models are read: a map of a few pages costs more than it saves."""
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Mixed:
    """value: float32[d]. verdicts: kept, clipped or dropped, per input. spread: how far the inputs
    lie from the own model."""

    value: NDArray[np.float32]
    verdicts: tuple[str, ...]
    spread: Spread


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
    own_model = verified_model(blobs, own, parameters)
    models = [verified_model(blobs, digest, parameters) for digest, _ in inputs]
    weights = np.array([weight / WEIGHT_UNIT for _, weight in inputs], dtype=np.float32)
    numbers = {name: _number(text) for name, text in rule_parameters.items()}
    step = numbers.pop(GUARD_STEP, 1)
    numbers.pop(STALENESS, 0)  # the weights of older inputs are smaller already
    averaged = average(rule, own_model, models, weights, **numbers)
    for model, evidence in zip(models, averaged.evidence, strict=True):
        if evidence.verdict is Verdict.REFUSED:
            raise NotFinite(count=int(np.count_nonzero(~np.isfinite(values_of(model)))))
    verdicts = tuple(str(evidence.verdict) for evidence in averaged.evidence)
    value = shortened(own_model, averaged.value, step)
    return Mixed(value, verdicts, averaged.spread or spread_of(own_model, models))


def shortened(own: Model, mixed: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """own + step · (mixed − own): what the hold-out guard left of a step. step: 0…1.

    Works in `mixed`, and gives both ends to the bit."""
    if step == 1:
        return mixed
    for first in range(0, mixed.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        block, values = mixed[part], own[part]
        if step == 0:
            block[:] = values
            continue
        block -= values
        block *= np.float32(step)
        block += values
    return mixed


def verified_model(blobs: BlobStore, digest: bytes, parameters: int) -> Model:
    """A stored model, float32[parameters], its bytes verified; a large one as a memory map.

    Averaging ten models of 500 MB then needs no 5 GB, and what is in bf16 or int8 is decoded where
    it is averaged. Blobs are never changed in place, and one that is pruned stays readable for
    whoever has mapped it. Averaging notices values of a map that are not finite.
    Raises BlobMissing, BlobDamaged, NotAVector, WrongLength or NotFinite."""
    size = blobs.size_bytes(digest)
    if size < MAPPED_FROM_BYTES or size > blob_size_bytes(parameters):
        return blobs.read_vector(digest, parameters)
    layout = blobs.check(digest)
    if layout.parameters != parameters:
        raise WrongLength(expected=parameters, actual=layout.parameters)
    with blobs.path(digest).open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _mapped(data, layout)


def _mapped(data: mmap.mmap, layout: Layout) -> Model:
    """The values in a file. Raises NotFinite, NotAVector."""
    offset, d = layout.offset, layout.parameters
    match layout.encoding:
        case "float32":
            return np.frombuffer(data, dtype="<f4", offset=offset)
        case "bf16":
            return Halves(np.frombuffer(data, dtype="<u2", offset=offset))
        case "int8":
            scales = np.frombuffer(data, dtype="<f4", count=scales_of(d), offset=offset)
            whole = np.frombuffer(data, dtype=np.int8, offset=offset + scales.nbytes)
            require_scales(scales)
            require_whole(whole)
            return Scaled(whole, scales, SCALED_TOGETHER)


def keep_compiled_code(home: Path, environment: MutableMapping[str, str]) -> None:
    """Where the installation cannot be written, keep the rules' machine code in the home.

    numba keeps it beside its source otherwise, and without either every start would compile for
    some ten seconds. environment: os.environ; what a person set there stays."""
    source = Path(layout.__file__).parent
    if not os.access(source, os.W_OK):
        environment.setdefault("NUMBA_CACHE_DIR", str(home / "cache" / "compiled"))


def averaging_environment() -> bytes:
    """SHA-256 over what the bits of an average may depend on: two sites with the same value get
    the same model from the same inputs, bit for bit."""
    numpy, machine = np.__version__, platform.machine()
    parts = (layout.REVISION, numpy, machine, sys.implementation.cache_tag, sys.byteorder)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)
