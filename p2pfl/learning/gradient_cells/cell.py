"""A cell: a forked process that runs a researcher's text for one patient, and ends.

`become` gives up everything, in the forked process, before the text is run; `run` is what happens
then. Nothing that follows can be told to anybody but through the answer's pipe.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
from typing import BinaryIO, Final, NoReturn

import numpy as np
import torch

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.errors import LearningError
from p2pfl.learning.flat_model import FlatModel, trained_schema
from p2pfl.learning.frames import write_frame
from p2pfl.learning.gradient_cells import wire
from p2pfl.learning.gradient_cells.given import GivenPatients, patient_of_zeros
from p2pfl.learning.plans.arguments import Arguments, steered
from p2pfl.learning.plans.code import CodePlan, code_plan
from p2pfl.learning.plans.code_declared import refused_at
from p2pfl.learning.vector import Vector
from p2pfl.runtime.confinement import capabilities, landlock, seccomp

_PR_SET_PDEATHSIG: Final = 1
_READ: Final = 3
_WRITE: Final = 4
_DESCRIPTORS_MAX: Final = 4096


class _Nowhere(io.TextIOBase):
    """Where a text's prints go: a cell has no standard streams."""

    def write(self, text: str) -> int:
        return len(text)


def become(task: int, answer: int, cell_filter: bytes, keeper: int, limit_s: float) -> None:
    """Keep two pipes and nothing else. Ends the process where that fails."""
    try:
        # Cleared by nothing a text may do: it can neither catch nor block a signal any more.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)
        _keep_only(task, answer)
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), _Nowhere(), _Nowhere()
        capabilities.keep_none()
        landlock.restrict((), ())
        seccomp.load(cell_filter)
    except BaseException:
        os._exit(1)


def _keep_only(task: int, answer: int) -> None:
    """Both pipes at known numbers, every other descriptor closed, also the keeper's socket."""
    high = (os.dup(task), os.dup(answer))
    while min(high) <= _WRITE:  # below, the next lines would overwrite them
        high = (os.dup(high[0]), os.dup(high[1]))
    os.dup2(high[0], _READ, inheritable=False)
    os.dup2(high[1], _WRITE, inheritable=False)
    os.closerange(0, _READ)
    os.closerange(_WRITE + 1, _DESCRIPTORS_MAX)


def run(manifest: Manifest, model: bytes) -> NoReturn:
    """Do what the task says, answer, end. model: float32[d] as bytes, may be empty."""
    try:
        with os.fdopen(_READ, "rb") as stream:
            task, batch = wire.read_task(stream)
        answers = os.fdopen(_WRITE, "wb")
        _answer(manifest, model, task, batch, answers)
        answers.flush()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _answer(
    manifest: Manifest, model: bytes, task: wire.Task, batch: Batch | None, answers: BinaryIO
) -> None:
    """Write what was asked for. About a patient a cell says nothing but its answer."""
    if task.kind == "schema":
        write_frame(answers, _described(manifest))
        return
    assert batch is not None, "the worker sends patients with everything else"
    plan, arguments = _plan(manifest, task)
    values = np.frombuffer(model, dtype="<f4").astype(np.float32)
    flat = _flat(manifest, plan, arguments, values)
    torch.manual_seed(task.seed)
    if task.kind == "gradient":
        answers.write(_gradient(plan, arguments, flat, batch))
    else:
        write_frame(answers, _scored(plan, arguments, flat, batch))


def _plan(manifest: Manifest, task: wire.Task) -> tuple[CodePlan, Arguments]:
    assert manifest.code is not None, "the keeper was given a study with a text"
    plan = code_plan(manifest.code.text, has_images=manifest.data.images is not None)
    arguments = plan.arguments(manifest.plan.arguments)
    return plan, steered(arguments, task.steered, manifest.plan.ranges)


def _flat(manifest: Manifest, plan: CodePlan, arguments: Arguments, values: Vector) -> FlatModel:
    flat = _untrained(manifest, plan, arguments)
    flat.load(values)
    return flat


def _untrained(manifest: Manifest, plan: CodePlan, arguments: Arguments) -> FlatModel:
    torch.manual_seed(manifest.study.seed)  # what is not trained is alike in every cell
    module = plan.module(manifest.data, arguments)
    return FlatModel(module, trained_schema(module))


def _described(manifest: Manifest) -> dict[str, object]:
    """Names and shapes of the model's tensors, or why there are none. No patient is here."""
    try:
        plan, arguments = _plan(manifest, wire.Task("schema", {}, 0))
        plan.check_ranges(manifest.plan.ranges)
        plan.check(manifest.data, arguments, manifest.privacy)
        flat = _untrained(manifest, plan, arguments)
        schema = trained_schema(flat.module)
        # What would fail for everybody fails before the study.
        _gradient(plan, arguments, flat, patient_of_zeros(manifest.data))
    except LearningError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"refused": str(refused_at(error, "failed on one patient of zeros, in a cell"))}
    return {"tensors": [[one.name, list(one.shape)] for one in schema.tensors]}


def _gradient(plan: CodePlan, arguments: Arguments, flat: FlatModel, batch: Batch) -> bytes:
    inputs = [torch.from_numpy(part) for part in batch.inputs]
    loss = plan.loss_sum(flat.module(*inputs), torch.from_numpy(batch.target), arguments)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return wire.gradient_answer(float(loss.detach()), flat.gradient.numpy())


@torch.no_grad()
def _scored(
    plan: CodePlan, arguments: Arguments, flat: FlatModel, batch: Batch
) -> dict[str, object]:
    flat.module.eval()
    found = plan.score(flat.module, GivenPatients(batch), arguments)
    return {
        "auc": found.auc,
        "accuracy": found.accuracy,
        "loss": found.loss,
        "measures": dict(found.measures),
    }
