"""Short-lived child processes for work whose libraries are heavy (torch, accountants).

Each runs `python -m MODULE` with bytes on standard input, ends within a deadline, and answers on
standard output. What it says on standard error is for the log, its last line for the person.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pfl.runtime.errors import EXIT_DATA, EXIT_UNAVAILABLE, OperatorError

ANSWER_BYTES_MAX: Final = 4 << 20
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended. complaint: the last line it wrote to standard error."""

    code: int
    output: bytes
    complaint: str


def run_module(
    module: str, arguments: Sequence[str], *, given: bytes, deadline_s: float, purpose: str
) -> Finished:
    """Run a module of ours to its end.

    purpose: completes "… did not finish", like "The ε table". Raises OperatorError when the child
    answers too much or misses its deadline.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The same code that runs here, wherever it was started from.
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    try:
        # Our own interpreter and module names, nothing from a peer.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", module, *arguments],
            input=given,
            capture_output=True,
            timeout=deadline_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{purpose} did not finish within {deadline_s:g} s.",
            fix="Try again when the machine is less busy.",
            exit_code=EXIT_UNAVAILABLE,
        ) from None
    if len(done.stdout) > ANSWER_BYTES_MAX:
        raise OperatorError(
            f"{purpose} answered {len(done.stdout)} bytes.",
            fix="Run `p2pfl version` to see whether the installation is whole.",
            exit_code=EXIT_UNAVAILABLE,
        )
    return Finished(done.returncode, done.stdout, last_line(done.stderr))


def output_of(finished: Finished, purpose: str) -> bytes:
    """What a child printed if it succeeded. Raises OperatorError with its complaint."""
    if finished.code != 0:
        raise OperatorError(
            f"{purpose} failed: {finished.complaint}",
            fix="Correct what the sentence names and run the command again.",
            exit_code=EXIT_DATA,
        )
    return finished.output


def last_line(stderr: bytes) -> str:
    """The last line of what a process complained, for a terminal or a log."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1][:500]) if lines else "it said nothing about why."


def printable(said: str) -> str:
    """What a process said, which a researcher's code may have written: no sign that a terminal
    obeys."""
    return "".join(sign if sign.isprintable() else "?" for sign in said)
