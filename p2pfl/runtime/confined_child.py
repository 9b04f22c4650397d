"""A short-lived child that runs code which nobody of us wrote, confined, to its end.

Responsible for bounding what it says, how long it takes, and what it holds of memory and disk.
Everything it says is hearsay: whoever asks checks the answer's shape and re-reads every file.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from p2pfl.runtime.children import Finished, last_line
from p2pfl.runtime.confinement.starting import confined_command
from p2pfl.runtime.confinement.terms import Limits
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.plan_code import confinement_for_code
from p2pfl.runtime.training_usage import Allowance
from p2pfl.runtime.training_watch import LOOK_S, Look, bounds_here

SAID_BYTES_MAX: Final = 1 << 20
FILE_BYTES_MAX: Final = 2 << 30
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_CHUNK_BYTES: Final = 1 << 16


def run_confined(
    module: str,
    arguments: Sequence[str] = (),
    *,
    given: bytes = b"",
    read: Sequence[Path],
    work: Path,
    deadline_s: float,
    purpose: str,
    allowance: Allowance,
) -> Finished:
    """Run a module of ours that loads a researcher's text.

    read: existing files and folders it may read; work: the folder it may write in. given: fewer
    than 64 KiB. purpose: completes "… did not finish". allowance: of memory and disk.
    Raises OperatorError where this machine cannot confine it (nothing was run), when it says too
    much, misses its deadline or takes more than it is allowed.
    """
    bounds = bounds_here(allowance, work)
    limits = Limits(
        file_bytes=FILE_BYTES_MAX,
        private_bytes=bounds.private_bytes,
        # It is ended long before, unless whoever waits for it was stopped in the meantime.
        processor_s=math.ceil(deadline_s) * (os.cpu_count() or 1),
    )
    bare = confinement_for_code(limits)
    terms = bare.with_paths(tuple(read), (work,))
    environment = _environment(work)
    # Our own interpreter and module names; the text is in a file that the module reads.
    process = subprocess.Popen(  # noqa: S603
        confined_command(terms, ("-m", module, *arguments), environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=work,
        start_new_session=True,  # without a terminal, which it could write commands into
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said, complained = bytearray(), bytearray()
    listeners = [
        threading.Thread(target=_listen, args=(process.stdout, said), daemon=True),
        threading.Thread(target=_listen, args=(process.stderr, complained), daemon=True),
    ]
    for listener in listeners:
        listener.start()
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended without reading; the code says why
            process.stdin.write(given)
            process.stdin.close()
        code = _watched(
            process, Look([process.pid], work, bounds, time.monotonic, purpose), deadline_s
        )
    finally:
        _end(process, listeners)
    if len(said) > SAID_BYTES_MAX:
        raise OperatorError(
            f"{purpose} answered more than {SAID_BYTES_MAX} bytes.",
            fix="The plan writes where only an answer belongs: leave that out.",
            exit_code=EXIT_UNAVAILABLE,
        )
    return Finished(code, bytes(said), last_line(bytes(complained)))


def _watched(process: subprocess.Popen[bytes], look: Look, deadline_s: float) -> int:
    """Wait for its end. Returns the exit status. Raises OperatorError where it must be ended."""
    end_s = time.monotonic() + deadline_s
    while (left_s := end_s - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(LOOK_S, left_s))
        passed = look.again()
        if passed is not None:
            raise OperatorError(
                f"{passed.message}.",
                fix="Make the plan take less at a time, or let it have more.",
                exit_code=EXIT_UNAVAILABLE,
            )
    raise OperatorError(
        f"{look.who} did not finish within {deadline_s:g} s.",
        fix="Try again when the machine is less busy, or make the plan do less at a time.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _environment(work: Path) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), str(work))
    environment |= {"USER": "node", "OMP_NUM_THREADS": "1", "JOBLIB_MULTIPROCESSING": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return environment


def _listen(stream: IO[bytes], into: bytearray) -> None:
    """Keep the first part of what is said, and let the rest go by."""
    while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
        into += chunk[: max(0, SAID_BYTES_MAX + 1 - len(into))]


def _end(process: subprocess.Popen[bytes], listeners: Sequence[threading.Thread]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for listener in listeners:
        listener.join(1.0)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
