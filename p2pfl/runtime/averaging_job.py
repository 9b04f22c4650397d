"""Robust averaging over stored models: the same function for a running round and for a replay.

Weights are millionths in the ledger; the float32 that is used is made from them here, so that an
auditor who has the entries and the blobs computes the very same bits."""

import hashlib
import mmap
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ledger.provenance.records_round import STALENESS
from p2pfl.averaging import Spread, Verdict, average, layout, spread_of
from p2pfl.core.drafts import GUARD_STEP
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import NotFinite, WrongLength

WEIGHT_UNIT = 1_000_000
MAPPED_FROM_BYTES = 1 << 22
ON_DISK_FROM_BYTES = 1 << 26
"""Smaller models are read: a map of a few pages costs more than it saves."""


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
    own_vector = verified_vector(blobs, own, parameters)
    vectors = [verified_vector(blobs, digest, parameters) for digest, _ in inputs]
    weights = np.array([weight / WEIGHT_UNIT for _, weight in inputs], dtype=np.float32)
    numbers = {name: _number(text) for name, text in rule_parameters.items()}
    step = numbers.pop(GUARD_STEP, 1)
    numbers.pop(STALENESS, 0)  # the weights of older inputs are smaller already
    averaged = average(rule, own_vector, vectors, weights, **numbers)
    for vector, evidence in zip(vectors, averaged.evidence, strict=True):
        if evidence.verdict is Verdict.REFUSED:
            raise NotFinite(count=int(vector.size - np.count_nonzero(np.isfinite(vector))))
    verdicts = tuple(str(evidence.verdict) for evidence in averaged.evidence)
    value = shortened(own_vector, averaged.value, step)
    return Mixed(value, verdicts, averaged.spread or spread_of(own_vector, vectors))


def shortened(
    own: NDArray[np.float32], mixed: NDArray[np.float32], step: float
) -> NDArray[np.float32]:
    """own + step · (mixed − own): what the hold-out guard left of a step. step: 0…1.

    Works in `mixed`, and gives both ends to the bit."""
    if step == 1:
        return mixed
    if step == 0:
        mixed[:] = own
        return mixed
    mixed -= own
    mixed *= np.float32(step)
    mixed += own
    return mixed


def verified_vector(blobs: BlobStore, digest: bytes, parameters: int) -> NDArray[np.float32]:
    """A stored model, float32[parameters], its bytes verified; a large one as a memory map.

    Averaging ten models of 500 MB then needs no 5 GB. Blobs are never changed in place, and one
    that is pruned stays readable for whoever has mapped it. Only what is decoded here is checked
    for NaN; averaging notices it in the others.
    Raises BlobMissing, BlobDamaged, NotAVector, WrongLength or NotFinite."""
    size = blobs.size_bytes(digest)
    if size < MAPPED_FROM_BYTES or size > blob_size_bytes(parameters):
        return blobs.read_vector(digest, parameters)
    layout = blobs.check(digest)
    if layout.parameters != parameters:
        raise WrongLength(expected=parameters, actual=layout.parameters)
    if layout.encoding != "float32":
        vector = room_for(blobs.directory, parameters)
        blobs.read_into(vector, digest)
        return vector
    with blobs.path(digest).open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(data, dtype="<f4", offset=layout.offset)


def room_for(folder: Path, parameters: int) -> NDArray[np.float32]:
    """float32[parameters] to be written: memory, or for a large model a file without a name.

    folder: on the disk that models lie on. The kernel can put such a file's pages there when
    memory is short. Raises OSError."""
    if 4 * parameters < ON_DISK_FROM_BYTES:
        return np.empty(parameters, dtype=np.float32)
    with tempfile.TemporaryFile(dir=folder, prefix=".part-") as file:
        # Having the disk's room now is better than a signal when a page finds none.
        os.posix_fallocate(file.fileno(), 0, 4 * parameters)
        data = mmap.mmap(file.fileno(), 4 * parameters)
    return np.frombuffer(data, dtype=np.float32)


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
