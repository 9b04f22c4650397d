"""What passes between a worker, the keeper of its cells, and a cell. Loads no torch.

worker → keeper, one packet each, with descriptors that the kernel hands over:
  STUDY  the reading end of a pipe with the manifest's bytes
  MODEL  the reading end of a pipe with float32[d]: what the next cells compute with
  CELL   milliseconds (4 bytes, big-endian), and two pipes' ends: the task's, the answer's
worker → cell: a frame that says what to do, then arrays of float32, one after the other.
cell → worker: float64 loss and float32[d] of a gradient; a frame of anything else.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.frames import LENGTH_BYTES, Body, StreamEnded, read_frame, write_frame
from p2pfl.learning.plans.arguments import Scalar

STUDY: Final = b"s"
MODEL: Final = b"m"
CELL: Final = b"c"
LIMIT_BYTES: Final = 4
PACKET_BYTES_MAX: Final = len(CELL) + LIMIT_BYTES

LOSS_BYTES: Final = 8
VALUE_BYTES: Final = 4
FRAME_BYTES_MAX: Final = LENGTH_BYTES + (1 << 19)
"""Of an answer that is a frame: names and shapes of tensors, or a score."""

Kind = Literal["schema", "gradient", "score"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a cell is asked for."""

    kind: Kind
    steered: Mapping[str, Scalar]
    """The round's arguments that differ from the manifest's."""
    seed: int
    """Of dropout and the like: fresh for each cell, never of the privacy noise."""


def write_task(stream: BinaryIO, task: Task, batch: Batch | None) -> None:
    """Send a task, and the patients it is about. Raises OSError."""
    arrays = () if batch is None else (*batch.inputs, batch.target)
    shapes = [list(one.shape) for one in arrays]
    body = {"kind": task.kind, "steered": dict(task.steered), "seed": task.seed, "shapes": shapes}
    write_frame(stream, body)
    for one in arrays:
        stream.write(np.ascontiguousarray(one, dtype="<f4").tobytes())
    stream.flush()


def read_task(stream: BinaryIO) -> tuple[Task, Batch | None]:
    """What `write_task` sent. The sender is our own worker. Raises StreamEnded, RequestRefused."""
    body = read_frame(stream)
    steered = cast(Mapping[str, Scalar], body["steered"])
    task = Task(cast(Kind, body["kind"]), steered, cast(int, body["seed"]))
    arrays = [_read_array(stream, shape) for shape in cast(list[list[int]], body["shapes"])]
    if not arrays:
        return task, None
    return task, Batch(tuple(arrays[:-1]), arrays[-1])


def _read_array(stream: BinaryIO, shape: list[int]) -> NDArray[np.float32]:
    count = math.prod(shape)
    raw = stream.read(VALUE_BYTES * count)
    if len(raw) != VALUE_BYTES * count:
        raise RequestRefused("a patient's record ends early")
    return np.frombuffer(raw, dtype="<f4").reshape(shape).copy()


def gradient_bytes(parameters: int) -> int:
    """How long the answer to "gradient" is, exactly."""
    return LOSS_BYTES + VALUE_BYTES * parameters


def gradient_answer(loss: float, gradient: NDArray[np.float32]) -> bytes:
    """A loss and float32[d] as they are sent."""
    return np.array(loss, dtype="<f8").tobytes() + gradient.astype("<f4").tobytes()


def gradient_in(raw: bytes | None, parameters: int) -> tuple[NDArray[np.float32], float] | None:
    """Gradient and loss, or None for an answer that is not exactly that, or not finite.

    >>> gradient_in(gradient_answer(0.5, np.ones(2, dtype=np.float32)), 2)
    (array([1., 1.], dtype=float32), 0.5)
    >>> gradient_in(bytes(3), 2) is None
    True
    """
    if raw is None or len(raw) != gradient_bytes(parameters):
        return None
    gradient = np.frombuffer(raw, dtype="<f4", offset=LOSS_BYTES).astype(np.float32)
    loss = float(np.frombuffer(raw, dtype="<f8", count=1)[0])
    if not (np.isfinite(gradient).all() and math.isfinite(loss)):
        return None
    return gradient, loss


def frame_in(raw: bytes | None) -> Body:
    """An answer that is a frame. Raises RequestRefused for none, or for anything else."""
    if raw is None:
        raise RequestRefused("the plan gave no answer in time")
    try:
        return read_frame(io.BytesIO(raw))
    except StreamEnded:
        raise RequestRefused("the plan ended without an answer") from None
