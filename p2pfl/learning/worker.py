"""The training process of one study: `python -m p2pfl.learning.worker`.

Responsible for being a well-behaved child: it dies with its node, answers every request with one
frame, and lets no library's print reach the frames. What requests mean is `open_study`'s.

Requests come on stdin, answers go to what was stdout; both are frames (see `frames`). A request
has `op` and `id`; the answer has the same `id` and its own `op`:

  open    {manifest, dataset, patient_column, denominator, threads}
       →  opened   {parameters, code_hash, env_hash, patients_train, patients_holdout, notes,
                    torch_s}
  train   {round, base, out, arguments}
       →  trained  {mech, sigma, q, steps, planned, clip, loss, seconds}
  score   {model}                              →  scored   {auc (nil: one label only), accuracy,
                                                            loss, n}
  compare {base, mixed}                        →  compared {change, band}
  release {model, model_out, holdout_out}      →  released {model_path, holdout_path}
  close   {}                                   →  closed   {}
  anything that fails                          →  failed   {code, message}

End of stdin ends the process. Run with `--parent PID` it also checks that this parent still lives
once it has asked the kernel to be killed with it. Linux only in this respect: elsewhere a process
whose node was killed ends when it next reads.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

from p2pfl.core.errors import ManifestError
from p2pfl.learning.code_lines import line_in_text
from p2pfl.learning.errors import LearningError, RequestRefused
from p2pfl.learning.frames import Body, FrameTooLarge, StreamEnded, read_frame, write_frame
from p2pfl.learning.memory import is_kept, keep_memory
from p2pfl.runtime.confinement.standing import keep_text_out

if TYPE_CHECKING:
    from p2pfl.learning.open_study import OpenStudy

_PR_SET_PDEATHSIG: Final = 1


class Worker:
    """Answers requests one after the other."""

    def __init__(self, *, torch_s: float, cells: int | None = None) -> None:
        """torch_s: how long loading torch took, reported once to the node.

        cells: descriptor of the socket to the keeper of gradient cells, where there is one."""
        self._cells = cells
        self._study: OpenStudy | None = None
        self._torch_s = torch_s

    @property
    def is_open(self) -> bool:
        """Whether a study is open."""
        return self._study is not None

    def answer(self, request: Body) -> Body:
        """Do what a request asks; failures become an answer, too."""
        echoed = request.get("id", 0)
        try:
            return {"id": echoed, **self._perform(request)}
        except LearningError as error:
            return _failed(echoed, error.code, str(error))
        except ManifestError as error:
            return _failed(echoed, "manifest", str(error))
        except OSError as error:
            return _failed(echoed, "file", f"{error.strerror}")
        except Exception as error:
            # The node must learn of our bug, but not its traceback: that may quote data. What the
            # bug left behind in model and optimizer is not trained on.
            self._study = None
            line = line_in_text(error)
            if line:  # a researcher's code failed; what it says of it may be about patients
                kind = type(error).__name__
                return _failed(echoed, "code", f"plan.py line {line} failed with {kind[:40]}")
            traceback.print_exc(file=sys.stderr)
            return _failed(echoed, "internal", f"unexpected {type(error).__name__}, see the log")

    def _perform(self, request: Body) -> Body:
        match request.get("op"):
            case "open":
                return self._open(request)
            case "train":
                started_s = time.perf_counter()
                done = self._opened().train(request)
                return {"op": "trained", **done, "seconds": time.perf_counter() - started_s}
            case "score":
                return {"op": "scored", **self._opened().score(request)}
            case "compare":
                return {"op": "compared", **self._opened().compare(request)}
            case "release":
                return {"op": "released", **self._opened().release(request)}
            case "close":
                self._study = None
                return {"op": "closed"}
            case other:
                raise RequestRefused(f"no request {str(other)[:40]!r}")

    def _open(self, request: Body) -> Body:
        from p2pfl.learning.open_study import OpenStudy  # loads torch

        if self._study is not None:
            raise RequestRefused("a study is already open in this process")
        self._study = OpenStudy.open(request, random_bytes=os.urandom, cells=self._cells)
        if is_kept(self._study.manifest):
            keep_memory()
        return {"op": "opened", **self._study.opened(), "torch_s": self._torch_s}

    def _opened(self) -> OpenStudy:
        if self._study is None:
            raise RequestRefused("no study is open in this process")
        return self._study


def serve(worker: Worker, requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer until the study is closed or the requests end. Returns the exit status."""
    while True:
        try:
            request = read_frame(requests)
        except StreamEnded:
            return 0
        except FrameTooLarge as error:
            write_frame(answers, _failed(0, error.code, str(error)))
            return 2
        except RequestRefused as error:
            write_frame(answers, _failed(0, error.code, str(error)))
            continue
        answer = worker.answer(request)
        write_frame(answers, answer)
        if answer["op"] == "closed":
            return 0


def main(arguments: Sequence[str]) -> int:
    """Become a child that cannot outlive its node, load torch, and serve."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.worker")
    parser.add_argument("--parent", type=int, default=0, help="pid of the node")
    parser.add_argument("--cells", type=int, help="descriptor of the socket to gradient cells")
    given = parser.parse_args(arguments)
    parent = given.parent
    die_with_parent()
    if parent and os.getppid() != parent:
        return 3  # the node died before the kernel knew that we go with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the node to handle
    requests, answers = _private_streams()
    started_s = time.perf_counter()
    import p2pfl.learning.training  # noqa: F401 - the time is measured here, for the node to show

    if given.cells is not None:
        keep_text_out()
    worker = Worker(torch_s=time.perf_counter() - started_s, cells=given.cells)
    try:
        return serve(worker, requests, answers)
    except BrokenPipeError:
        return 0  # the node is gone


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for frames; whoever prints or reads afterwards gets stderr, nothing."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _failed(echoed: object, code: str, message: str) -> Body:
    return {"id": echoed, "op": "failed", "code": code, "message": message}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
