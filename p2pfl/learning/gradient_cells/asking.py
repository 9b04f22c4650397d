"""The worker's end of its cells: ask one, wait for exactly what was asked for, never for more.

Responsible for treating what a cell says as a stranger's word: bounded bytes, in bounded time.
"""

from __future__ import annotations

import io
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.errors import LearningError, PlanRefused, RequestRefused
from p2pfl.learning.frames import Body
from p2pfl.learning.gradient_cells import wire
from p2pfl.learning.vector import NamedShape, Schema, Vector

PIPE_BYTES: Final = 1 << 16
TENSORS_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 200
DIMENSIONS_MAX: Final = 8
FIRST_S: Final = 120.0
"""For the first answer: the keeper may still be loading torch."""
GRACE_S: Final = 0.25
"""After the kernel has ended a late cell, its pipe is empty this much later."""


_GONE: Final = "the process that keeps this study's gradient cells is gone"


class CellsGone(LearningError):
    """The keeper of the cells has ended."""

    code: ClassVar[str] = "cells"


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as an argument."""

    now_s: Callable[[], float] = time.monotonic
    sleep_s: Callable[[float], None] = time.sleep


class Cells:
    """Asks the keeper for one cell after the other. Not for several threads."""

    def __init__(self, control: socket.socket, manifest: bytes, clock: Clock | None = None) -> None:
        """control: SOCK_SEQPACKET, its other end is the keeper's. manifest: the study's bytes."""
        self._control = control
        self._manifest = manifest
        self.clock = clock or Clock()

    def open(self, parameters: int) -> Schema:
        """Hand the study over; ask a cell for the model's tensors, and whether it works at all.

        parameters: d as the manifest has it. Raises PlanRefused, CellsGone."""
        self._send_stream(wire.STUDY, self._manifest)
        task = wire.Task("schema", {}, 0)
        body = _framed(self.ask(task, None, wire.FRAME_BYTES_MAX, FIRST_S))
        refused = body.get("refused")
        if isinstance(refused, str):
            raise PlanRefused(refused[:1000])
        schema = _schema(body.get("tensors"))
        if schema.parameters != parameters:
            raise PlanRefused(
                f"the plan's model has {schema.parameters} parameters, the manifest says "
                f"{parameters}"
            )
        return schema

    def load(self, model: Vector) -> None:
        """The model that the next cells compute with. model: float32[d]. Raises CellsGone."""
        self._send_stream(wire.MODEL, model.astype("<f4").tobytes())

    def gradient(
        self, task: wire.Task, patient: Batch, parameters: int, limit_s: float
    ) -> tuple[Vector, float] | None:
        """One patient's gradient, float32[d], and loss; None where the text gave none in time.

        Raises CellsGone."""
        raw = self.ask(task, patient, wire.gradient_bytes(parameters), limit_s)
        return wire.gradient_in(raw, parameters)

    def ask(
        self, task: wire.Task, batch: Batch | None, answer_bytes_max: int, limit_s: float
    ) -> bytes | None:
        """What one cell answers, up to its end; None: too late, or too much. Raises CellsGone."""
        packed = io.BytesIO()
        wire.write_task(packed, task, batch)
        limit_ms = max(1, int(limit_s * 1000))
        head = wire.CELL + limit_ms.to_bytes(wire.LIMIT_BYTES, "big")
        with _pipe() as (given, giving), _pipe() as (taking, taken):
            self._send(head, [given.fileno(), taken.fileno()])
            given.close()
            taken.close()
            end_s = self.clock.now_s() + limit_s + GRACE_S
            said = self._exchanged(giving, packed.getvalue(), taking, answer_bytes_max, end_s)
        if not said:
            self._require_keeper()
        return said

    def _exchanged(
        self, giving: _End, task: bytes, taking: _End, answer_bytes_max: int, end_s: float
    ) -> bytes | None:
        """Write the task while reading the answer: neither side can make this one wait for ever."""
        answer, left = bytearray(), memoryview(task)
        os.set_blocking(giving.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(taking, selectors.EVENT_READ)
            ready.register(giving, selectors.EVENT_WRITE)
            while (wait_s := end_s - self.clock.now_s()) > 0:
                for key, _ in ready.select(wait_s):
                    if key.fileobj is giving:
                        left = _written(giving, left)
                        if not left:
                            ready.unregister(giving)
                            giving.close()
                        continue
                    said = os.read(taking.fileno(), PIPE_BYTES)
                    answer += said
                    if not said:
                        return bytes(answer)
                    if len(answer) > answer_bytes_max:
                        return None
        return None

    def _send_stream(self, kind: bytes, content: bytes) -> None:
        with _pipe() as (given, giving):
            self._send(kind, [given.fileno()])
            given.close()
            left = memoryview(content)
            while left:
                left = _written(giving, left)

    def _require_keeper(self) -> None:
        """Raises CellsGone where silence is the keeper's, and not a cell's."""
        try:
            ended = not self._control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            raise CellsGone(_GONE)

    def _send(self, packet: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [packet], descriptors)
        except OSError as error:
            raise CellsGone(_GONE) from error


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def _pipe() -> Iterator[tuple[_End, _End]]:
    """A reading end that the other side may take, and a writing end."""
    reading, writing = (_End(one) for one in os.pipe())
    try:
        yield reading, writing
    finally:
        reading.close()
        writing.close()


def _written(end: _End, left: memoryview) -> memoryview:
    """What is left to write; nothing, too, where nobody reads any more."""
    try:
        return left[os.write(end.fileno(), left[:PIPE_BYTES]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


def _framed(raw: bytes | None) -> Body:
    try:
        return wire.frame_in(raw)
    except RequestRefused as error:
        raise PlanRefused(f"plan.py: {error}") from None


def _schema(found: object) -> Schema:
    """Names and shapes as a cell told them. Raises PlanRefused."""
    if not isinstance(found, list) or not 0 < len(found) <= TENSORS_MAX:
        raise PlanRefused("plan.py: its model's tensors are not told")
    return Schema(tuple(_tensor(one) for one in found))


def _tensor(found: object) -> NamedShape:
    match found:
        case [str() as name, list() as shape] if (
            len(name) <= NAME_CHARACTERS_MAX
            and name.isascii()
            and name.isprintable()
            and len(shape) <= DIMENSIONS_MAX
            and all(type(size) is int and 0 < size < 1 << 32 for size in shape)
        ):
            return NamedShape(name, tuple(shape))
        case _:
            raise PlanRefused("plan.py: a tensor of its model has no plain name and shape")
